/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Groups: several processes that end together. A set of handles, a process group, or a cgroup.
 *
 * How it works
 *   - The reaper of the bus's children has each group from its creation on.
 *   - exitbus_group_end() sends the first signal from the calling thread, notes the time at which
 *     SIGKILL follows, and wakes the reaper.
 *   - The reaper looks at the groups that are ending behind each pass, and by its timer. It kills
 *     when the time has come, and publishes an EXITBUS_EVENT_EMPTY when no process is left.
 *   - Of a cgroup, the kernel tells by the file cgroup.events when it is empty. Of a process group
 *     nothing tells, so it is asked for at growing intervals. A set is empty when the exits of its
 *     members are told.
 *
 * Why it is right: see group.c.
 */
#ifndef EXITBUS_GROUP_H
#define EXITBUS_GROUP_H

#include "process/process.h"

/* A member of a set. */
struct group_member {
    struct block block;
    struct group_member *next; /* constant, once it is in the list */
    struct exitbus_process *process;
};

struct exitbus_group {
    struct block block;
    struct exitbus *bus;            /* constant, like the next four; NULL in a forked child */
    struct watch_set *set;          /* held, and needed */
    struct exitbus_process *leader; /* of a process group; a handle of its own */
    int32_t members_fd;             /* a cgroup's directory, or the leader's pidfd; -1: a set */
    int32_t events_fd;              /* a cgroup's file cgroup.events; -1: no cgroup */
    struct exitbus_group *next;     /* in `incoming_groups`, later in `groups` */
    _Atomic uintptr_t members;      /* of a set: a list, by any thread; with MEMBERS_CLOSED */
    _Atomic int64_t kill_ns;        /* when SIGKILL follows; INT64_MAX: never */
    int64_t interval_ns;            /* between the reaper's looks; the reaper's */
    _Atomic int32_t signal;         /* the first signal; before `ending` */
    _Atomic uint32_t ending;        /* 1: it was ended */
    _Atomic uint32_t references;    /* one of all handles, one of the reaper */
    _Atomic uint32_t handles;       /* the user's references */
    uint8_t kind;                   /* enum exitbus_group_kind; constant */
    bool polled;                    /* events_fd lies in the epoll set; the reaper's */
    struct outcome outcome;         /* that it is empty */
    char name[EXITBUS_ID_MAX + 1];  /* constant */
};

_Static_assert(sizeof(struct exitbus_group) <= GROUP_BYTES, "a group fits its memory class");
_Static_assert(sizeof(struct group_member) <= SMALL_BYTES, "a member fits its memory class");

/* In `members`: it was found empty, and takes no more. */
#define MEMBERS_CLOSED ((uintptr_t)1)

/* The public calls of these names, with checked arguments. */
int group_create(struct exitbus *bus, const struct exitbus_group_options *options,
                 struct exitbus_group **group);
int group_add(struct exitbus_group *group, struct exitbus_process *process);
int group_end(struct exitbus_group *group, int signal, int64_t grace_ns);
int group_wait(struct exitbus_group *group, struct exitbus_event *event, int64_t timeout_ns);
void group_unref(struct exitbus_group *group);

/*
 * Make a descriptor of our own for a cgroup's directory. Returns one of its file cgroup.events; or
 * -errno, with no copy: -EINVAL it is the directory of no cgroup.
 */
int group_copy_cgroup(int cgroup_fd, int *copy);

/* Kill all processes of a cgroup, and of those below it. Returns 0, or the first error. */
int group_kill_cgroup(int cgroup_fd);

/* ----------------------------------------------------------------------------- for the reaper */

/* Let the reaper look at the groups of a set. Context: any thread; the set is needed. */
void groups_tell(struct watch_set *set);

/* Returns whether there is something to look at. */
static inline bool groups_need_a_look(struct watch_set *set)
{
    /* Sequentially consistent; pairs with groups_tell(). */
    return set->groups_ending > 0 || load_seq_cst(&set->group_news);
}

/*
 * Look at the groups that are ending. Returns the time of the next look; INT64_MAX: none is needed.
 * Context: in a pass.
 */
int64_t groups_step(struct watch_set *set);

/* Settle all groups: the bus was closed. Context: no pass can be made. */
void groups_drop(struct watch_set *set);

/* The epoll descriptor is new: no group lies in it yet. */
void groups_repoll(struct watch_set *set);

#endif
