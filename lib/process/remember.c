/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Exits that an exec may yet be bound to: see remember.h. */
#include "process/remember.h"
#include "process/details.h"
#include "process/process.h"
#include "process/reaper.h"
#include "process/task.h"

#include <errno.h>

/* Exits that are remembered before any is looked at for being too old. */
#define REMEMBERED_FEW 64

/* A process whose exit may be remembered. */
struct sought {
    struct watch_set *set;
    pid_t pid; /* 0: not known */
    int pidfd; /* < 0: none */
    struct exitbus_process *found;
};

/* Take it out. Context: no pass is made. */
static int take_remembered(void *argument)
{
    struct sought *sought = argument;
    uint64_t inode = sought->pidfd < 0 ? 0 : details_inode(sought->set, sought->pidfd);
    for (struct exitbus_process **link = &sought->set->remembered; *link;
         link = &(*link)->next_withdrawn) {
        struct exitbus_process *process = *link;
        bool both = inode != 0 && process->inode != 0;
        bool same_pid = process_pid(process) == sought->pid;
        if (both ? inode == process->inode && (same_pid || sought->pid == 0) : same_pid) {
            *link = process->next_withdrawn;
            sought->set->remembered_count--;
            sought->found = process;
            return 0;
        }
    }
    return -ECHILD;
}

static void put(struct watch_set *set, struct exitbus_process *process)
{
    process->next_withdrawn = set->remembered;
    set->remembered = process;
    set->remembered_count++;
}

/* Put it back. Context: no pass is made. */
static int put_back(void *argument)
{
    struct sought *sought = argument;
    put(sought->set, sought->found);
    return 0;
}

int remember_take(struct exitbus *bus, struct watch_set *set, pid_t pid, int pidfd,
                  struct exitbus_process **process)
{
    struct sought sought = {set, pid, pidfd, NULL};
    int result = reaper_between_passes(bus, take_remembered, &sought);
    *process = sought.found;
    return result;
}

void remember_again(struct exitbus *bus, struct watch_set *set, struct exitbus_process *process)
{
    struct sought sought = {.set = set, .found = process};
    reaper_between_passes(bus, put_back, &sought);
}

bool remember_prepare(struct watch_set *set, pid_t pid, int pidfd, struct exitbus_process **process)
{
    *process = NULL;
    /* Sequentially consistent; pairs with begin_reservation() in task.c. */
    if (likely(load_seq_cst(&set->reservations) == 0))
        return true;
    struct exitbus_process *made = process_create(set->bus, NULL);
    if (!made)
        return false;
    int own = pidfd < 0 ? sys_pidfd_open(pid) : pidfd;
    if (own >= 0)
        made->inode = details_inode(set, own);
    if (pidfd < 0 && own >= 0)
        sys_close(own);
    store_relaxed(&made->watch.pid, pid);
    *process = made;
    return true;
}

/* Forget exits before `seq`. */
static void forget_before(struct watch_set *set, uint64_t seq)
{
    for (struct exitbus_process **link = &set->remembered; *link;) {
        struct exitbus_process *process = *link;
        struct exitbus_event event;
        if (outcome_look(&process->outcome, &event) == 0 && event.seq >= seq) {
            link = &process->next_withdrawn;
            continue;
        }
        *link = process->next_withdrawn;
        set->remembered_count--;
        process_unref(process);
    }
}

/* Forget exits that were published before each exec that may still be bound was reserved. */
static void forget_old(struct watch_set *set)
{
    uint64_t oldest = UINT64_MAX;
    uint32_t open = load_seq_cst(&set->reservations), listed = 0;
    for (struct exitbus_exec *exec = set->execs; exec; exec = exec->next) {
        uint64_t since_seq = load_relaxed(&exec->since_seq);
        if (since_seq == UINT64_MAX || (load_seq_cst(&exec->state) & (EXEC_BOUND | EXEC_CANCELLED)))
            continue;
        oldest = since_seq < oldest ? since_seq : oldest;
        listed++;
    }
    if (listed < open) /* one is on its way here, and may be the oldest */
        return;
    forget_before(set, oldest);
    /* Half of a crowd that all are needed is looked at again when it has doubled. */
    set->remembered_most = 2 * set->remembered_count + REMEMBERED_FEW;
}

void remember_exit(struct watch_set *set, struct exitbus_process *process,
                   const struct exitbus_event *event)
{
    if (likely(!process))
        return;
    process_release(process); /* of a watch, which it has none of */
    if (!event) {
        process_unref(process);
        return;
    }
    outcome_note(&process->outcome, event);
    outcome_settle(&process->outcome, OUTCOME_TOLD);
    put(set, process);
}
void remember_forget(struct watch_set *set)
{
    if (load_seq_cst(&set->reservations) == 0)
        forget_before(set, UINT64_MAX);
    else if (set->remembered_count > set->remembered_most)
        forget_old(set);
}

void remember_drop(struct watch_set *set)
{
    forget_before(set, UINT64_MAX);
}
