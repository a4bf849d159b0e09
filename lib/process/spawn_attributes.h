/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a child changes of itself before exec: terminal, cgroup, root, limits, priorities, ids. All
 * of it is in the order that the kernel wants: what takes privileges comes before they are given
 * up.
 */
#ifndef EXITBUS_SPAWN_ATTRIBUTES_H
#define EXITBUS_SPAWN_ATTRIBUTES_H

#include "process/spawn_child.h"

/* Returns the attributes that are set: EXITBUS_ATTRIBUTE_… */
static inline CHILD_CODE uint32_t attributes_set(const struct exitbus_spawn_options *options)
{
    return options->flags & EXITBUS_SPAWN_ATTRIBUTES ? options->attributes->set : 0;
}

/* The flags for the clone that put a child into namespaces of its own. */
static inline uint64_t attributes_clone_flags(const struct exitbus_spawn_options *options)
{
    return attributes_set(options) & EXITBUS_ATTRIBUTE_NAMESPACES ? options->attributes->namespaces
                                                                  : 0;
}

/*
 * Those that come before the change of directory, and those that come after the file actions.
 * Return 0 or an errno; the step is noted. Context: the child.
 */
int attributes_before_directory(struct child *child);
int attributes_after_actions(struct child *child);

/*
 * Close every descriptor from `first` on, but for those that the child needs until exec. Returns 0
 * or an errno. Context: the child; `buffer` has PATH_MAX bytes.
 */
int attributes_close_from(const struct child *child, int first);

#endif
