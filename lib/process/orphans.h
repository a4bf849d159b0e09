/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Orphans: children that this process has adopted, and has not made. The kernel does not tell the
 * two apart. So an orphan is known by its cgroup: what lives in another one than this process is
 * left from a job that was put there. Children in this process's own are those that system(),
 * popen() and other libraries wait for.
 */
#ifndef EXITBUS_ORPHANS_H
#define EXITBUS_ORPHANS_H

#include <stdbool.h>
#include <sys/types.h>

/* Returns 0 if orphans can be known here; -ENOTSUP: no cgroup v2, or /proc is not ours. */
int orphans_check(void);

/* Returns 1 if this child, which may be a zombie, is an orphan; 0 if not; or -errno. */
int orphans_is_one(pid_t pid);

/*
 * Call `look` for each process that may be a child: one in /proc. Returns 0, or the first negative
 * result of `look`, or -errno. Context: a directory is read, as long as there are processes.
 */
int orphans_each(int (*look)(void *context, pid_t pid), void *context);

#endif
