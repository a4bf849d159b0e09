/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Waking receivers: see wakeup.h.
 *
 * The event count. `epoch` is the futex word. A sleeper announces the epoch that it is about to
 * sleep in (slept_epoch, a maximum), passes the heavy barrier, looks at its queue again, and sleeps
 * while epoch is unchanged. A publisher appends, passes the light barrier, and compares slept_epoch
 * with woken_epoch. One of the two sees the other, so either the sleeper finds the event or the
 * publisher finds the announcement. Who closes the queue does the same.
 * To wake, a publisher
 *     1. moves epoch on to e   2. wakes all sleepers of the futex   3. sets woken_epoch to e.
 * After 2 nobody sleeps in an epoch below e: who was asleep was woken, who was about to can't fall
 * asleep on the old value; and who has read e, which was written behind a light barrier, finds what
 * the wake was for when it looks behind its heavy one. So slept_epoch < woken_epoch means that no
 * one is to be woken, and a burst costs one system call, not one for each event until the sleeper
 * gets to run. A publisher stopped before 3 leaves the others to do it all once more. All sleepers
 * are woken, not one: the chosen one might be stopped for ever before it takes the event.
 *
 * The eventfd (a semaphore: a read takes one token) is readable while it holds a token. fd_state:
 *     ARMED      no token: a publisher must add one
 *     SIGNALLED  at least one token: a publisher has nothing to do
 *     CLEARING   as SIGNALLED, but a receiver is looking whether the queue is empty
 * with the number of the episode above, so that no CAS can mistake one episode for another.
 *     publisher: ARMED     add a token, CAS to SIGNALLED; if that fails take one token back, again
 *                CLEARING  CAS to SIGNALLED (of the next episode); if that fails, again
 *     receiver:  SIGNALLED CAS to CLEARING (of the next episode), fence, look:
 *                          something there: CAS to SIGNALLED; nothing: CAS to ARMED, take one token
 * Only the CAS from CLEARING to ARMED entitles to take a token that is not one's own, and it takes
 * place only if no publisher has intervened since CLEARING. So in SIGNALLED and CLEARING there is a
 * token at every moment, and a receiver stopped anywhere leaves either a token in place or a state
 * that the next publisher acts upon. The worst that a stopped thread leaves behind is one token too
 * many: a descriptor that polls readable with nothing to receive.
 *
 * A receiver clears after each burst, so here a heavy barrier would cost more than all the rest.
 * Instead a publisher who sees that there is a descriptor passes a full fence before it reads the
 * state, and so does the receiver. It takes one heavy barrier, when the descriptor is made, to know
 * that from then on every publisher sees it; only after that (WAKEUP_FD_KNOWN) is the state
 * cleared.
 */
#include "wakeup.h"
#include "sys.h"

#include <errno.h>

/* The descriptor in wakeup->fd. */
static inline int fd_number(int32_t fd)
{
    return fd & ~WAKEUP_FD_KNOWN;
}

enum { FD_NONE = WAKEUP_FD_NONE, FD_ARMED, FD_SIGNALLED, FD_CLEARING };
#define FD_STATE_MASK ((uint64_t)3)
#define FD_EPISODE ((uint64_t)4)

static inline uint64_t fd_state_with(uint64_t word, uint64_t state)
{
    return (word & ~FD_STATE_MASK) | state;
}

/*
 * Every change of fd_state. Release: who reads a state beyond NONE with acquire (fd_signal), or
 * before a fence (wakeup_fd_clear), knows of the descriptor and of the token that the state says
 * is there. No acquire: what was read before is known already, and nothing is read after a change
 * but behind the fence.
 */
static inline bool fd_change(struct wakeup_watch *watch, uint64_t *word, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(&watch->fd_state, word, to, memory_order_release,
                                                   memory_order_relaxed);
}

void wakeup_init(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    atomic_init(&watch->fd_state, FD_NONE);
    atomic_init(&watch->slept_epoch, 0);
    atomic_init(&watch->woken_epoch, 1);
    atomic_init(&wakeup->epoch, 1);
    atomic_init(&wakeup->sleepers, 0);
    atomic_init(&wakeup->fd, -1);
}

void wakeup_finish(struct wakeup *wakeup)
{
    int fd = atomic_load_explicit(&wakeup->fd, memory_order_relaxed);
    if (fd >= 0)
        sys_close(fd_number(fd));
}

/* ---------------------------------------------------------------------------- event count */

static bool may_sleep(const struct wakeup_watch *watch)
{
    uint32_t slept = atomic_load_explicit(&watch->slept_epoch, memory_order_relaxed);
    uint32_t woken = atomic_load_explicit(&watch->woken_epoch, memory_order_relaxed);
    return (int32_t)(slept - woken) >= 0;
}

static void wake_sleepers(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    /* Relaxed: behind the caller's light barrier. */
    uint32_t epoch = atomic_fetch_add_explicit(&wakeup->epoch, 1, memory_order_relaxed) + 1;
    test_step(STEP_WAKE_EPOCH_MOVED);
    sys_futex_wake_all((uint32_t *)&wakeup->epoch);
    test_step(STEP_WAKE_DONE);
    /* Relaxed, and may overwrite a higher value: that costs a wake too many, never one too few. */
    atomic_store_explicit(&watch->woken_epoch, epoch, memory_order_relaxed);
}

uint32_t wakeup_announce(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    uint32_t epoch = atomic_load_explicit(&wakeup->epoch, memory_order_relaxed);
    uint32_t slept = atomic_load_explicit(&watch->slept_epoch, memory_order_relaxed);
    while ((int32_t)(epoch - slept) > 0 &&
           !atomic_compare_exchange_weak_explicit(&watch->slept_epoch, &slept, epoch,
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
    barrier_heavy(); /* the announcement before the look; pairs with each barrier_light here */
    return epoch;
}

int wakeup_sleep(struct wakeup *wakeup, uint32_t epoch, const struct timespec *deadline)
{
    test_step(STEP_RECEIVE_BEFORE_SLEEP);
    struct timespec slice;
    if (mutant(WAKE_ALWAYS)) {
        int64_t end_ns = sys_clock_ns(CLOCK_MONOTONIC) + 16000000;
        slice = (struct timespec){.tv_sec = end_ns / 1000000000, .tv_nsec = end_ns % 1000000000};
        int64_t due_ns = deadline ? deadline->tv_sec * 1000000000 + deadline->tv_nsec : INT64_MAX;
        if (end_ns < due_ns) {
            sys_futex_wait((uint32_t *)&wakeup->epoch, epoch, &slice);
            return 0;
        }
    }
    int result = sys_futex_wait((uint32_t *)&wakeup->epoch, epoch, deadline);
    test_step(STEP_RECEIVE_WOKEN);
    return result == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

/* -------------------------------------------------------------------------------- eventfd */

/* Take a token that is there. A failure can only be injected: try again, though not for ever. */
static void fd_take(int fd)
{
    for (int tries = 0; tries < 8; tries++)
        if (sys_eventfd_take(fd) == 0)
            return;
}

static void fd_signal(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    /* The append (or the close) before the look; pairs with the fence in wakeup_fd_clear. */
    if (!mutant(WAKE_FD_NO_FENCE))
        atomic_thread_fence(memory_order_seq_cst);
    uint64_t word = atomic_load_explicit(&watch->fd_state, memory_order_acquire);
    test_step(STEP_FD_STATE_READ);
    for (;;) {
        uint64_t state = word & FD_STATE_MASK;
        if (state == FD_NONE || state == FD_SIGNALLED)
            return;
        if (state == FD_CLEARING) {
            if (fd_change(watch, &word, fd_state_with(word + FD_EPISODE, FD_SIGNALLED)))
                return;
            continue;
        }
        /* Known by the first load of the state: one beyond NONE means that it is there. */
        int fd = fd_number(atomic_load_explicit(&wakeup->fd, memory_order_relaxed));
        int result = sys_eventfd_add(fd);
        if (result == -EBADF)
            return;       /* closed by somebody whose it is not: that must not hang a publisher */
        if (result < 0) { /* only by injection: the counter can't overflow */
            word = atomic_load_explicit(&watch->fd_state, memory_order_acquire);
            continue;
        }
        test_step(STEP_FD_WRITTEN);
        if (fd_change(watch, &word, fd_state_with(word, FD_SIGNALLED)))
            return;
        fd_take(fd); /* another was faster: back with the token */
    }
}

void wakeup_fd_clear(struct wakeup_watch *watch, struct wakeup *wakeup,
                     bool (*pending)(const void *context), const void *context)
{
    /* Relaxed: whatever is done about it comes behind the fence. */
    uint64_t word = atomic_load_explicit(&watch->fd_state, memory_order_relaxed);
    test_step(STEP_FD_BEFORE_CLEARING);
    uint64_t state = word & FD_STATE_MASK;
    if (state == FD_SIGNALLED) {
        uint64_t clearing = fd_state_with(word + FD_EPISODE, FD_CLEARING);
        if (!fd_change(watch, &word, clearing))
            return; /* another receiver is at it */
        word = clearing;
    } else if (state != FD_CLEARING) {
        return;
    }
    test_step(STEP_FD_CLEARING);
    /* CLEARING before the look; pairs with the fence in fd_signal. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!mutant(WAKE_FD_NO_LOOK) && pending(context)) {
        fd_change(watch, &word, fd_state_with(word, FD_SIGNALLED));
        return;
    }
    if (!fd_change(watch, &word, fd_state_with(word, FD_ARMED)))
        return; /* a publisher or another receiver has gone on from here */
    test_step(STEP_FD_ARMED);
    /* Acquire: pairs with the CAS in wakeup_fd. The fence does as much, but TSan ignores it. */
    fd_take(fd_number(atomic_load_explicit(&wakeup->fd, memory_order_acquire)));
}

int wakeup_fd(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    /* Acquire: pairs with the CAS below. */
    int32_t fd = atomic_load_explicit(&wakeup->fd, memory_order_acquire);
    if (fd < 0) {
        int fresh = sys_eventfd(true);
        if (fresh < 0)
            return fresh;
        int result = sys_eventfd_add(fresh);
        if (result < 0) {
            sys_close(fresh);
            return result;
        }
        /* Release, and acquire: whoever returns the descriptor knows that it was made. */
        if (atomic_compare_exchange_strong_explicit(&wakeup->fd, &fd, fresh, memory_order_release,
                                                    memory_order_acquire))
            fd = fresh;
        else
            sys_close(fresh);
    }
    /* By every caller, in case the one that made it was stopped before this. */
    uint64_t word = FD_NONE;
    fd_change(watch, &word, FD_SIGNALLED);
    if (!(fd & WAKEUP_FD_KNOWN)) {
        /* The state before who looks at it; pairs with barrier_light in notify. Who did not see it
         * has appended before, and that is known behind this. */
        if (!mutant(WAKE_FD_KNOWN_EARLY))
            barrier_heavy();
        /* Release: pairs with wakeup_fd_clearable, for what the barrier has made known. */
        atomic_store_explicit(&wakeup->fd, fd | WAKEUP_FD_KNOWN, memory_order_release);
    }
    return fd_number(fd);
}

/* ---------------------------------------------------------------------------------- notify */

void wakeup_notify_slow(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    if (may_sleep(watch) && !mutant(WAKE_NEVER))
        wake_sleepers(watch, wakeup);
    if (atomic_load_explicit(&watch->fd_state, memory_order_relaxed) != FD_NONE &&
        !mutant(WAKE_FD_NEVER))
        fd_signal(watch, wakeup);
}

void wakeup_closed(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    if (mutant(WAKE_CLOSE_SILENT))
        return;
    barrier_light(); /* the close before the look; pairs with each barrier_heavy */
    if (may_sleep(watch))
        wake_sleepers(watch, wakeup);
    /* Acquire: pairs with the CAS in wakeup_fd. A token that nobody is entitled to take. */
    int fd = atomic_load_explicit(&wakeup->fd, memory_order_acquire);
    if (fd >= 0)
        sys_eventfd_add_again(fd_number(fd));
}
