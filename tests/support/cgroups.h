/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cgroups (v2) of a test's own. */
#ifndef CGROUPS_H
#define CGROUPS_H

#include "threads.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Make a cgroup, and mount the file system if need be. Sets its path. Returns a descriptor of its
 * directory; -1: none can be made here.
 */
static inline int cgroup_new(char *path, size_t size)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    static int count;
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, size, "%s/cgroup.procs", roots[i]);
        if (i == 1 && access(path, F_OK) != 0) {
            mkdir(roots[i], 0755);
            (void)!mount("none", roots[i], "cgroup2", 0, NULL);
        }
        if (access(path, F_OK) != 0)
            continue;
        snprintf(path, size, "%s/exitbus-test-%d-%d", roots[i], getpid(), count++);
        if (mkdir(path, 0755) == 0)
            return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    fprintf(stderr, "skipped: no cgroup v2 can be made here\n");
    return -1;
}

#endif
