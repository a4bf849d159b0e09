/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Events that are told once, and stay: see outcome.h. */
#include "process/outcome.h"
#include "base/compiler.h"
#include "base/probe.h"
#include "base/sys.h"
#include "memory/reclaim.h"

#include <errno.h>
#include <string.h>

#define NS_PER_S 1000000000LL

void outcome_init(struct outcome *outcome)
{
    atomic_init(&outcome->state, OUTCOME_OPEN);
    atomic_init(&outcome->waiters, 0);
    atomic_init(&outcome->fd, -1);
    atomic_init(&outcome->owner, OWNER_REAPER);
    memset(outcome->event, 0, sizeof outcome->event);
}

void outcome_close(struct outcome *outcome)
{
    int fd = load_relaxed(&outcome->fd);
    if (fd >= 0)
        sys_close(fd);
}

void outcome_note(struct outcome *outcome, const struct exitbus_event *event)
{
    /* Word by word, so that the model checker sees it. */
    for (size_t w = 0; w < OUTCOME_WORDS; w++)
        memcpy(&outcome->event[w], (const char *)event + w * sizeof(uint64_t), sizeof(uint64_t));
}

void outcome_settle(struct outcome *outcome, enum outcome_state state)
{
    /* Release; pairs with outcome_look(), for the event. Sequentially consistent, as are the loads:
     * see outcome.h. */
    store_seq_cst(&outcome->state, state);
    probe(PROBE_OUTCOME_SETTLED);
    if (load_seq_cst(&outcome->waiters) > 0)
        sys_futex_wake_all((uint32_t *)&outcome->state);
    int fd = load_seq_cst(&outcome->fd);
    if (fd >= 0)
        sys_eventfd_add_again(fd);
}

int outcome_look(const struct outcome *outcome, struct exitbus_event *event)
{
    /* Acquire; pairs with outcome_settle(), for the event. Behind waiters' count the kernel looks
     * again. */
    switch (load_acquire(&outcome->state)) {
    case OUTCOME_OPEN:
        return -EAGAIN;
    case OUTCOME_TOLD:
        for (size_t w = 0; w < OUTCOME_WORDS; w++)
            memcpy((char *)event + w * sizeof(uint64_t), &outcome->event[w], sizeof(uint64_t));
        event->container_id[0] = event->exec_id[0] = '\0';
        event->flags &= (uint8_t)~EXITBUS_EVENT_DETAILS;
        return 0;
    default:
        return -ESHUTDOWN;
    }
}

int outcome_sleep(struct outcome *outcome, struct exitbus_event *event, int64_t until_ns)
{
    struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
    /* Sequentially consistent; pairs with outcome_settle(), and with give_up() in direct.c. */
    fetch_add_seq_cst(&outcome->waiters, 1);
    int result = -EAGAIN, slept = 0;
    while (result == -EAGAIN && slept != -ETIMEDOUT &&
           load_seq_cst(&outcome->owner) != OWNER_NOBODY) {
        result = outcome_look(outcome, event);
        if (result == -EAGAIN)
            slept = sys_futex_wait((uint32_t *)&outcome->state, OUTCOME_OPEN, SYS_FUTEX_ANY,
                                   until_ns == INT64_MAX ? NULL : &until);
    }
    if (result == -EAGAIN)
        result = outcome_look(outcome, event);
    fetch_sub_relaxed(&outcome->waiters, 1);
    return result == -EAGAIN && slept == -ETIMEDOUT ? -ETIMEDOUT : result;
}

int64_t outcome_deadline(int64_t timeout_ns)
{
    if (timeout_ns < 0)
        return INT64_MAX;
    int64_t now = sys_clock_ns(CLOCK_MONOTONIC);
    return timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

int outcome_wait(struct outcome *outcome, struct exitbus_event *event, int64_t timeout_ns)
{
    int result = outcome_look(outcome, event);
    if (result != -EAGAIN || timeout_ns == 0)
        return result;
    /* A sleep in a section would hold up the freeing of memory. */
    return reclaim_inside() ? -EDEADLK
                            : outcome_sleep(outcome, event, outcome_deadline(timeout_ns));
}

void outcome_bring_forward(_Atomic int64_t *time_ns, int64_t at_ns)
{
    int64_t now = load_relaxed(time_ns);
    while (at_ns < now && !cas_weak_relaxed(time_ns, &now, at_ns))
        continue;
}

int outcome_eventfd(_Atomic int *eventfd)
{
    /* Acquire; pairs with the CAS of the thread that has made it. */
    int fd = load_acquire(eventfd);
    if (fd >= 0)
        return fd;
    int made = sys_eventfd(false), none = -1;
    if (made < 0)
        return made;
    /* Sequentially consistent; pairs with outcome_settle(), and with direct_wake(). */
    if (cas_seq_cst_else_acquire(eventfd, &none, made))
        return made;
    sys_close(made);
    return none;
}

int outcome_fd(struct outcome *outcome)
{
    int fd = outcome_eventfd(&outcome->fd);
    /* Also if another thread has made it, which may be stopped before it gets here. */
    if (fd >= 0 && !outcome_is_open(outcome))
        sys_eventfd_add_again(fd);
    return fd;
}
