/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Groups: see group.h.
 *
 * Why it is right
 *  1. Empty means empty. Members of a set are known by handles, so none is taken for another
 *     process; and the list is closed by a CAS from what the reaper has looked at, so none comes
 *     later. The number of a process group is its own as long as it has members, and the kernel is
 *     asked by a pidfd of the leader. A process that forks away stays in its cgroup, and
 *     cgroup.kill kills all of that at once.
 *  2. No stranger is hit. Pids in cgroup.procs are made into pidfds, and the file is read again: a
 *     pid that is still there is that pidfd's, or its pidfd is of a process that is gone.
 *  3. A member that is added while the group is ended is signalled. It is pushed, and then `ending`
 *     is looked at; group_end() stores `ending`, and then walks the list. All are sequentially
 *     consistent, so one of the two threads signals it, or both.
 *  4. A group counts as a waiter of its members and its leader. So a direct one is left to the
 *     reaper, or the thread that collects it tells the reaper.
 *  5. Nothing here waits for another thread, so a program that ends groups in what it does for an
 *     exit can't be in its own way.
 */
#include "process/group.h"
#include "process/direct.h"
#include "process/reaper.h"

#include <errno.h>
#include <stdlib.h>

#define LOWEST_FD 3
/* Between looks at what does not tell: 1 ms, doubled up to 100 ms. */
#define INTERVAL_FIRST_NS 1000000LL
#define INTERVAL_LONGEST_NS 100000000LL
/* Processes of a cgroup that are signalled at a time. */
#define SIGNALLED_AT_ONCE 64
/* Bounds of one look at a cgroup that may fork faster than it is read. SIGKILL is repeated. */
#define BATCHES_MOST 4096
#define PIDS_MOST (SIGNALLED_AT_ONCE * BATCHES_MOST)
#define DEPTH_MOST 4
/* A cgroup that was removed may have told nobody that it was empty before. */
#define CGROUP_LOOK_NS 1000000000LL

/* ------------------------------------------------------------------------------- begin and end */

static void close_fds(struct exitbus_group *group)
{
    if (group->events_fd >= 0)
        sys_close(group->events_fd);
    if (group->members_fd >= 0)
        sys_close(group->members_fd);
}

/* Take a process in: point 4. The group has a handle of it. */
static void take(struct exitbus_process *process)
{
    fetch_add_relaxed(&process->handles, 1);
    /* Sequentially consistent; pairs with give_up() and collect() in direct.c. */
    fetch_add_seq_cst(&process->outcome.waiters, 1);
    if (process_is_direct(process))
        direct_hand_over(process);
}

static void give_back(struct exitbus_process *process)
{
    fetch_sub_relaxed(&process->outcome.waiters, 1);
    process_unref(process);
}

static struct group_member *first_member(struct exitbus_group *group)
{
    /* Acquire; pairs with group_add(). Sequentially consistent: point 3. */
    return (struct group_member *)(load_seq_cst(&group->members) & ~MEMBERS_CLOSED);
}

/* Give up a reference. Context: any thread; lock-free. */
static void release(struct exitbus_group *group)
{
    /* Acquire and release; pairs with itself: the last thread sees what the others did. */
    if (fetch_sub_acq_rel(&group->references, 1) != 1)
        return;
    struct exitbus *bus = group->bus;
    struct watch_set *set = group->set;
    struct group_member *next, *member = first_member(group);
    close_fds(group);
    outcome_close(&group->outcome);
    if (group->leader)
        give_back(group->leader);
    reclaim_enter();
    for (; member; member = next) {
        next = member->next;
        give_back(member->process);
        memory_retire(&bus->core.memory, SMALL_CLASS, member);
    }
    memory_retire(&bus->core.memory, GROUP_CLASS, group);
    reclaim_leave();
    /* Release; pairs with watch_set_needed(). */
    fetch_sub_release(&set->kept, 1);
    watch_set_release(set);
    core_release(&bus->core);
}

void groups_tell(struct watch_set *set)
{
    store_seq_cst(&set->group_news, 1);
    watch_set_wake(set);
}

/* Let the reaper have it, with a reference of its own. */
static void hand_over(struct exitbus_group *group)
{
    struct watch_set *set = group->set;
    fetch_add_relaxed(&group->references, 1);
    struct exitbus_group *top = load_relaxed(&set->incoming_groups);
    do
        group->next = top;
    /* Release; pairs with take_incoming(). */
    while (!cas_weak_seq_cst(&set->incoming_groups, &top, group));
}

void group_unref(struct exitbus_group *group)
{
    struct watch_set *set = group->set;
    /* Release; pairs with groups_step(). Acquire; pairs with itself. */
    if (fetch_sub_acq_rel(&group->handles, 1) != 1)
        return;
    if (!load_seq_cst(&group->ending)) /* the reaper need not have it any more */
        groups_tell(set);
    release(group);
}

int group_copy_cgroup(int cgroup_fd, int *copy)
{
    int own = sys_duplicate(cgroup_fd, LOWEST_FD);
    if (own < 0)
        return own;
    int events_fd = sys_open_at(own, "cgroup.events", false);
    if (events_fd >= 0) {
        *copy = own;
        return events_fd;
    }
    sys_close(own);
    return events_fd == -ENOENT || events_fd == -ENOTDIR ? -EINVAL : events_fd;
}

/* Take what a kind of group consists of. Returns 0 or -errno. */
static int take_parts(struct exitbus_group *group, const struct exitbus_group_options *options)
{
    if (group->kind == EXITBUS_GROUP_CGROUP) {
        group->events_fd = group_copy_cgroup(options->cgroup_fd, &group->members_fd);
        return group->events_fd < 0 ? group->events_fd : 0;
    }
    if (group->kind != EXITBUS_GROUP_PROCESSES)
        return 0;
    /* Before Linux 6.9 a pidfd does not name a process group, which may outlive its leader. */
    group->members_fd = process_pidfd(options->leader);
    if (group->members_fd < 0)
        return group->members_fd;
    int result = sys_pidfd_signal(group->members_fd, 0, true);
    if (result < 0 && result != -EPERM)
        return result == -EINVAL ? -ENOTSUP : result;
    group->leader = options->leader;
    take(group->leader);
    return 0;
}

static int create(struct exitbus *bus, struct watch_set *set,
                  const struct exitbus_group_options *options, struct exitbus_group **group)
{
    reclaim_enter();
    struct exitbus_group *made = memory_alloc(&bus->core.memory, GROUP_CLASS);
    reclaim_leave();
    if (!made)
        return -ENOMEM;
    made->bus = bus;
    made->set = set;
    made->leader = NULL;
    made->members_fd = made->events_fd = -1;
    atomic_init(&made->members, 0);
    atomic_init(&made->kill_ns, INT64_MAX);
    made->interval_ns = INTERVAL_FIRST_NS;
    atomic_init(&made->signal, 0);
    atomic_init(&made->ending, 0);
    atomic_init(&made->references, 1);
    atomic_init(&made->handles, 1);
    made->kind = (uint8_t)options->kind;
    made->polled = false;
    outcome_init(&made->outcome);
    memset(made->name, 0, sizeof made->name);
    memcpy(made->name, options->name, strlen(options->name));
    fetch_add_relaxed(&bus->core.references, 1);
    fetch_add_relaxed(&set->references, 1);
    fetch_add_relaxed(&set->kept, 1);
    int result = take_parts(made, options);
    if (result < 0) {
        release(made);
        return result;
    }
    hand_over(made);
    *group = made;
    return 0;
}

int group_create(struct exitbus *bus, const struct exitbus_group_options *options,
                 struct exitbus_group **group)
{
    struct watch_set *set;
    int result = reaper_set_acquire(bus, &set);
    if (result < 0)
        return result;
    result = create(bus, set, options, group);
    reaper_set_release(bus, set);
    return result;
}

/* ------------------------------------------------------------------------- signals to a cgroup */

/* The pids in cgroup.procs, which the kernel lists as it goes: those that leave are left out. */
struct pid_reader {
    int fd;
    int length; /* of what is in `text` */
    int at;
    char text[512];
};

/* Returns 0 or -errno. */
static int pids_open(struct pid_reader *reader, int cgroup_fd)
{
    reader->fd = sys_open_at(cgroup_fd, "cgroup.procs", false);
    reader->length = reader->at = 0;
    return reader->fd < 0 ? reader->fd : 0;
}

/* Returns the next pid; 0: there is none; or -errno. */
static pid_t pids_next(struct pid_reader *reader)
{
    for (;;) {
        char *line = reader->text + reader->at;
        char *end = memchr(line, '\n', (size_t)(reader->length - reader->at));
        if (end) {
            reader->at = (int)(end + 1 - reader->text);
            *end = '\0';
            pid_t pid = (pid_t)strtol(line, NULL, 10);
            if (pid > 0) /* 0: of a pid namespace that is not seen from here */
                return pid;
            continue;
        }
        int left = reader->length - reader->at; /* a number that was cut in two */
        memmove(reader->text, line, (size_t)left);
        int length = sys_read(reader->fd, reader->text + left, sizeof reader->text - (size_t)left);
        if (length <= 0)
            return length;
        reader->length = left + length;
        reader->at = 0;
    }
}

/* Processes that are signalled together. */
struct batch_of_pids {
    size_t count;
    struct {
        pid_t pid;
        int pidfd;
        bool still; /* its pid was there again */
    } listed[SIGNALLED_AT_ONCE];
};

/*
 * Take the next pids, as many as there are descriptors for. *carried is the pid that there was none
 * for; 0: none. Returns 0 or -errno.
 */
static int fill(struct batch_of_pids *batch, struct pid_reader *reader, pid_t *carried)
{
    batch->count = 0;
    while (batch->count < SIGNALLED_AT_ONCE) {
        pid_t pid = *carried > 0 ? *carried : pids_next(reader);
        *carried = 0;
        if (pid <= 0)
            return pid;
        int pidfd = sys_pidfd_open(pid);
        if (pidfd == -ESRCH)
            continue;
        if (pidfd < 0) {
            *carried = batch->count > 0 ? pid : 0;
            return batch->count > 0 ? 0 : pidfd;
        }
        batch->listed[batch->count].pid = pid;
        batch->listed[batch->count].pidfd = pidfd;
        batch->listed[batch->count++].still = false;
    }
    return 0;
}

/* Find those whose pids are there still. Returns 0 or -errno. */
static int find_again(struct batch_of_pids *batch, struct pid_reader *reader)
{
    pid_t pid = 0;
    for (int count = 0; count < PIDS_MOST && (pid = pids_next(reader)) > 0; count++)
        for (size_t i = 0; i < batch->count; i++)
            if (batch->listed[i].pid == pid)
                batch->listed[i].still = true;
    return pid < 0 ? pid : 0;
}

/* Signal those that were found again. Returns 0, or the first error. */
static int signal_batch(struct batch_of_pids *batch, int signal)
{
    int first = 0;
    for (size_t i = 0; i < batch->count; i++) {
        int pidfd = batch->listed[i].pidfd;
        int result = batch->listed[i].still ? sys_pidfd_signal(pidfd, signal, false) : 0;
        sys_close(pidfd);
        if (result < 0 && result != -ESRCH && first == 0)
            first = result;
    }
    return first;
}

/* Signal the next batch. *first becomes the first error. Returns whether there may be more. */
static bool signal_next(int cgroup_fd, int signal, struct pid_reader *reader, pid_t *carried,
                        int *first)
{
    struct pid_reader again;
    struct batch_of_pids batch = {.count = 0};
    int result = pids_open(&again, cgroup_fd); /* first, while there is a descriptor */
    if (result == 0) {
        result = fill(&batch, reader, carried);
        if (result == 0)
            result = find_again(&batch, &again);
        sys_close(again.fd);
    }
    int sent = signal_batch(&batch, signal);
    if (*first == 0)
        *first = result < 0 ? result : sent;
    return result == 0 && batch.count > 0;
}

/* Signal the processes of one cgroup: point 2. Returns 0, or the first error. */
static int signal_cgroup(int cgroup_fd, int signal)
{
    struct pid_reader reader;
    pid_t carried = 0;
    int first = pids_open(&reader, cgroup_fd);
    if (first < 0)
        return first;
    int batches = 0;
    while (signal_next(cgroup_fd, signal, &reader, &carried, &first) && batches < BATCHES_MOST)
        batches++;
    sys_close(reader.fd);
    return first;
}

/* Kill a cgroup and those below it, without cgroup.kill. Returns 0, or the first error. */
static int kill_each(int cgroup_fd, int depth)
{
    int first = signal_cgroup(cgroup_fd, SIGKILL);
    int directory = depth > 0 ? sys_open_at(cgroup_fd, ".", false) : -1;
    char entries[1024];
    int size;
    while (directory >= 0 && (size = sys_list(directory, entries, sizeof entries)) > 0)
        for (int at = 0; at < size;) {
            const char *name = sys_next_directory(entries, &at);
            int below = name ? sys_open_at(directory, name, false) : -1;
            if (below < 0)
                continue;
            int result = kill_each(below, depth - 1);
            first = first == 0 ? result : first;
            sys_close(below);
        }
    if (directory >= 0)
        sys_close(directory);
    return first;
}

int group_kill_cgroup(int cgroup_fd)
{
    int fd = sys_open_at(cgroup_fd, "cgroup.kill", true);
    if (fd < 0) /* before Linux 5.14, or where it is another one's to write */
        return kill_each(cgroup_fd, DEPTH_MOST);
    int result = sys_write(fd, "1", 1);
    sys_close(fd);
    return result < 0 ? result : 0;
}

/* --------------------------------------------------------------------------------- to end them */

/*
 * Signal all. Returns 0, or the first error; the others are signalled all the same. `send`:
 * process_signal(), or what is for a pass.
 */
static int signal_all(struct exitbus_group *group, int signal,
                      int (*send)(struct exitbus_process *process, int signal, bool group))
{
    int first = 0;
    switch (group->kind) {
    case EXITBUS_GROUP_CGROUP:
        first = signal == SIGKILL ? group_kill_cgroup(group->members_fd)
                                  : signal_cgroup(group->members_fd, signal);
        break;
    case EXITBUS_GROUP_PROCESSES:
        first = sys_pidfd_signal(group->members_fd, signal, true);
        break;
    default:
        for (struct group_member *member = first_member(group); member; member = member->next) {
            int result = send(member->process, signal, false);
            first = first == 0 && result != -ESRCH ? result : first;
        }
    }
    bool gone = first == -ESRCH || first == -ENODEV || first == -ENOENT;
    return gone ? 0 : first;
}

int group_add(struct exitbus_group *group, struct exitbus_process *process)
{
    if (group->kind != EXITBUS_GROUP_SET || process->bus != group->bus)
        return -EINVAL;
    if (load_seq_cst(&group->ending))
        return -ESHUTDOWN;
    reclaim_enter();
    struct group_member *member = memory_alloc(&group->bus->core.memory, SMALL_CLASS);
    reclaim_leave();
    if (!member)
        return -ENOMEM;
    member->process = process;
    take(process);
    uintptr_t top = load_relaxed(&group->members);
    do {
        if (top & MEMBERS_CLOSED) { /* it was ended, and is empty */
            give_back(process);
            reclaim_enter();
            memory_retire(&group->bus->core.memory, SMALL_CLASS, member);
            reclaim_leave();
            return -ESHUTDOWN;
        }
        member->next = (struct group_member *)top;
        /* Release; pairs with first_member(). Sequentially consistent: point 3. */
    } while (!cas_weak_seq_cst(&group->members, &top, (uintptr_t)member));
    if (load_seq_cst(&group->ending)) /* meanwhile: it is a member, and ends with the others */
        process_signal(process, load_relaxed(&group->signal), false);
    return 0;
}

int group_end(struct exitbus_group *group, int signal, int64_t grace_ns)
{
    if (grace_ns >= 0)
        outcome_bring_forward(&group->kill_ns, outcome_deadline(grace_ns));
    store_relaxed(&group->signal, signal);
    /* Sequentially consistent: point 3. Release; pairs with group_add(), for the signal. */
    store_seq_cst(&group->ending, 1);
    int result = 0;
    if (grace_ns == 0)
        result = signal_all(group, SIGKILL, process_signal);
    else if (signal != 0)
        result = signal_all(group, signal, process_signal);
    groups_tell(group->set);
    return result;
}

int group_wait(struct exitbus_group *group, struct exitbus_event *event, int64_t timeout_ns)
{
    int result = outcome_wait(&group->outcome, event, timeout_ns);
    if (result == 0)
        memcpy(event->container_id, group->name, sizeof group->name);
    return result;
}

/* ----------------------------------------------------------------------------- for the reaper */

/* Returns 1 if it is empty, 0 if not; or -errno. */
static int cgroup_is_empty(const struct exitbus_group *group)
{
    char text[256];
    int length = sys_read_at(group->events_fd, text, sizeof text - 1, 0);
    if (length < 0)
        return length == -ENODEV ? 1 : length; /* it was removed, which takes an empty one */
    text[length] = '\0';
    return strstr(text, "populated 0") != NULL;
}

/* Likewise. A set that is empty takes no more members. */
static int is_empty(struct exitbus_group *group)
{
    if (group->kind == EXITBUS_GROUP_CGROUP)
        return cgroup_is_empty(group);
    if (group->kind == EXITBUS_GROUP_PROCESSES)
        return sys_pidfd_signal(group->members_fd, 0, true) == -ESRCH;
    uintptr_t head = load_seq_cst(&group->members);
    for (struct group_member *member = (struct group_member *)(head & ~MEMBERS_CLOSED); member;
         member = member->next)
        if (process_is_running(member->process))
            return 0;
    return head & MEMBERS_CLOSED ||
           cas_seq_cst_else_seq_cst(&group->members, &head, head | MEMBERS_CLOSED);
}

/* Publish that it is empty, and settle it. Returns false if that can't be published now. */
static bool settle(struct exitbus_group *group)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EMPTY,
                                  .pid = group->leader ? process_pid(group->leader) : 0,
                                  .monotonic_ns = (uint64_t)sys_clock_ns(CLOCK_MONOTONIC),
                                  .realtime_ns = (uint64_t)sys_clock_ns(CLOCK_REALTIME)};
    memcpy(event.container_id, group->name, sizeof group->name);
    event.container_id_size = (uint8_t)strlen(group->name);
    if (bus_publish(group->bus, &event, 1, &event.seq) < 0)
        return false;
    outcome_note(&group->outcome, &event);
    outcome_settle(&group->outcome, OUTCOME_TOLD);
    return true;
}

static void unpoll(struct watch_set *set, struct exitbus_group *group)
{
    if (group->polled)
        sys_epoll_delete(set->epoll_fd, group->events_fd);
    group->polled = false;
}

/* Let epoll name a cgroup's changes. Returns whether it does. */
static bool poll_cgroup(struct watch_set *set, struct exitbus_group *group)
{
    if (group->polled)
        return true;
    int added = sys_epoll_add_changes(set->epoll_fd, group->events_fd, WATCH_KEY_GROUP);
    group->polled = added == 0 || added == -EEXIST;
    return group->polled;
}

/* Returns when to look at what does not tell: at growing intervals. */
static int64_t next_look(struct exitbus_group *group, int64_t now)
{
    int64_t next = now + group->interval_ns;
    group->interval_ns *= group->interval_ns < INTERVAL_LONGEST_NS ? 2 : 1;
    return next;
}

/* Kill it if it is time. Returns when to look again. */
static int64_t step(struct watch_set *set, struct exitbus_group *group, int64_t now)
{
    int64_t kill_ns = load_relaxed(&group->kill_ns);
    bool told = group->kind == EXITBUS_GROUP_CGROUP && poll_cgroup(set, group);
    if (now >= kill_ns) { /* and again: processes may have come meanwhile */
        signal_all(group, SIGKILL, process_signal_in_pass);
        return next_look(group, now);
    }
    int64_t next;
    if (group->kind == EXITBUS_GROUP_SET)
        next = INT64_MAX; /* an exit makes a pass */
    else
        next = told ? now + CGROUP_LOOK_NS : next_look(group, now);
    return next < kill_ns ? next : kill_ns;
}

static void take_incoming(struct watch_set *set)
{
    /* Acquire; pairs with hand_over(). */
    struct exitbus_group *next, *group = exchange_seq_cst(&set->incoming_groups, NULL);
    for (; group; group = next) {
        next = group->next;
        group->next = set->groups;
        set->groups = group;
    }
}

/* Look at one. Returns when to look again; 0: it is done. */
static int64_t look_at(struct watch_set *set, struct exitbus_group *group, int64_t now)
{
    /* Acquire; pairs with group_unref(): a group that was ended before is seen as that. */
    bool let_go = load_acquire(&group->handles) == 0;
    if (!load_seq_cst(&group->ending))
        return let_go ? 0 : INT64_MAX;
    int empty = is_empty(group);
    if (empty == 0)
        return step(set, group, now);
    if (empty > 0 && settle(group))
        return 0;
    unpoll(set, group); /* or epoll would go on naming it */
    return now + INTERVAL_LONGEST_NS;
}

int64_t groups_step(struct watch_set *set)
{
    int64_t next_ns = INT64_MAX, now = sys_clock_ns(CLOCK_MONOTONIC);
    store_seq_cst(&set->group_news, 0);
    set->groups_ending = 0;
    take_incoming(set);
    for (struct exitbus_group **link = &set->groups; *link;) {
        struct exitbus_group *group = *link;
        int64_t at_ns = look_at(set, group, now);
        if (at_ns == 0) {
            *link = group->next;
            unpoll(set, group);
            release(group);
            continue;
        }
        next_ns = at_ns < next_ns ? at_ns : next_ns;
        set->groups_ending += load_relaxed(&group->ending);
        link = &group->next;
    }
    return next_ns;
}

void groups_drop(struct watch_set *set)
{
    take_incoming(set);
    while (set->groups) {
        struct exitbus_group *group = set->groups;
        set->groups = group->next;
        unpoll(set, group);
        outcome_settle(&group->outcome, OUTCOME_LEFT);
        release(group);
    }
}

void groups_repoll(struct watch_set *set)
{
    for (struct exitbus_group *group = set->groups; group; group = group->next)
        group->polled = false;
}
