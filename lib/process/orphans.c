/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Orphans: see orphans.h. */
#include "process/orphans.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A path of a cgroup may be this long; a longer one is not known. */
#define CGROUP_TEXT 8192

/* Read where a process is in cgroup v2. Returns the path in `text`, or NULL with *error. */
static const char *read_cgroup(const char *path, char *text, int *error)
{
    int length = sys_read_file(path, text, CGROUP_TEXT);
    char *line = length > 0 ? strstr(text, "0::") : NULL;
    while (line && line != text && line[-1] != '\n')
        line = strstr(line + 1, "0::");
    char *end = line ? strchr(line, '\n') : NULL;
    *error = length < 0 ? length : -ENOTSUP;
    if (!end)
        return NULL;
    *end = '\0';
    return line + 3;
}

int orphans_check(void)
{
    char text[CGROUP_TEXT];
    int error;
    if (!sys_proc_is_ours())
        return -ENOTSUP;
    if (read_cgroup("/proc/self/cgroup", text, &error))
        return 0;
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM ? error : -ENOTSUP;
}

int orphans_is_one(pid_t pid)
{
    char own_text[CGROUP_TEXT], text[CGROUP_TEXT], path[32];
    int error;
    const char *own = read_cgroup("/proc/self/cgroup", own_text, &error);
    if (!own)
        return error;
    snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
    const char *its = read_cgroup(path, text, &error);
    if (!its) /* another waiter has reaped it, and then it was none */
        return error == -ENOENT || error == -ESRCH ? 0 : error;
    return strcmp(own, its) != 0;
}

int orphans_each(int (*look)(void *context, pid_t pid), void *context)
{
    int directory = sys_open_at(AT_FDCWD, "/proc", false);
    if (directory < 0)
        return directory;
    _Alignas(struct sys_dirent) char entries[4096];
    int size, result = 0;
    while (result >= 0 && (size = sys_list(directory, entries, sizeof entries)) > 0)
        for (int at = 0; at < size && result >= 0;) {
            const char *name = sys_next_directory(entries, &at);
            pid_t pid = name ? (pid_t)strtol(name, NULL, 10) : 0;
            if (pid > 0)
                result = look(context, pid);
        }
    sys_close(directory);
    return result < 0 ? result : size < 0 ? size : 0;
}
