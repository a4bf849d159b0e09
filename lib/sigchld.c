/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SIGCHLD: see sigchld.h. */
#include "sigchld.h"
#include "fork_guard.h"
#include "sys.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic int notify_fd = -1;
static _Atomic unsigned handlers_inside; /* between reading notify_fd and having used it */
/*
 * A handler that was there before ours, and that ours calls. Entries are not changed while a
 * handler that is late may still read them: most processes need one for all their life, and it is
 * the oldest that is used again.
 */
struct before {
    struct sigaction action;
    _Atomic uint32_t spent; /* it had SA_RESETHAND and has run */
};
#define BEFORE_MAX 16
static struct before found_before[BEFORE_MAX];
static unsigned found_count;
/*
 * If somebody has put theirs over ours and then ours was removed, it stays in their chain, with
 * `previous` behind it; installed anew, it is there twice, and the outer one calls `outer`.
 */
static _Atomic(struct before *) previous, outer; /* outer: NULL if it is there once */
static bool left_in_chain;                       /* ours is still called by `over_us` */
static struct sigaction over_us;

static bool discards_status(const struct sigaction *action)
{
    return (!(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_IGN) ||
           (action->sa_flags & SA_NOCLDWAIT);
}

int sigchld_check(void)
{
    struct sigaction now;
    sigaction(SIGCHLD, NULL, &now);
    return discards_status(&now) ? -ENOTSUP : 0;
}

static struct before *remember(const struct sigaction *found)
{
    struct before *entry = NULL;
    for (unsigned i = 0; !entry && i < BEFORE_MAX && i < found_count; i++) {
        const struct sigaction *known = &found_before[i].action;
        if (known->sa_flags == found->sa_flags && known->sa_sigaction == found->sa_sigaction &&
            memcmp(&known->sa_mask, &found->sa_mask, sizeof found->sa_mask) == 0)
            entry = &found_before[i];
    }
    if (!entry) {
        entry = &found_before[found_count++ % BEFORE_MAX];
        entry->action = *found;
    }
    atomic_store(&entry->spent, 0);
    return entry;
}

static void call_before(struct before *before, int signal, siginfo_t *info, void *context)
{
    if (!before)
        return;
    const struct sigaction *action = &before->action;
    if (!(action->sa_flags & SA_SIGINFO) &&
        (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN))
        return;
    if ((action->sa_flags & (int)SA_RESETHAND) && atomic_exchange(&before->spent, 1))
        return;
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(signal, info, context);
    else
        action->sa_handler(signal);
}

static void on_sigchld(int signal, siginfo_t *info, void *context)
{
    /*
     * Are we called by the one that we have called ourselves? That is the same signal, further down
     * the stack. (A handler may leave by siglongjmp, or let the next SIGCHLD in while it runs, so a
     * flag would not do.)
     */
    static _Thread_local const siginfo_t *volatile latest
        __attribute__((tls_model("initial-exec")));
    static _Thread_local volatile uintptr_t frame __attribute__((tls_model("initial-exec")));
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    bool again = info && latest == info && here < frame;
    int saved = errno;
    if (!fork_guard_in_child()) {
        /* Sequentially consistent, as in sigchld_remove: it sees us, or we see -1. */
        atomic_fetch_add(&handlers_inside, 1);
        int fd = atomic_load(&notify_fd);
        if (fd >= 0)
            sys_eventfd_add_surely(fd);
        atomic_fetch_sub(&handlers_inside, 1);
    }
    errno = saved;
    struct before *inner = atomic_load(&previous), *over = atomic_load(&outer);
    if (again) {
        if (over)
            call_before(inner, signal, info, context);
        return;
    }
    const siginfo_t *latest_before = latest;
    uintptr_t frame_before = frame;
    latest = info;
    frame = here;
    call_before(over ? over : inner, signal, info, context);
    latest = latest_before;
    frame = frame_before;
}

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_sigchld;
}

int sigchld_install(int eventfd)
{
    struct sigaction found;
    sigaction(SIGCHLD, NULL, &found);
    if (discards_status(&found))
        return -ENOTSUP;
    bool there = is_ours(&found); /* put back by whoever had put theirs over it */
    if (there || (left_in_chain && found.sa_flags == over_us.sa_flags &&
                  found.sa_sigaction == over_us.sa_sigaction)) {
        left_in_chain = left_in_chain && !there;
        atomic_store(&notify_fd, eventfd); /* theirs still calls ours */
        return 0;
    }
    atomic_store(left_in_chain ? &outer : &previous, remember(&found));
    left_in_chain = false;
    atomic_store(&notify_fd, eventfd);
    struct sigaction ours = {.sa_sigaction = on_sigchld, .sa_mask = found.sa_mask};
    bool by_default = !(found.sa_flags & SA_SIGINFO) && found.sa_handler == SIG_DFL;
    /* As the found handler has it, so that its owner notices nothing; quiet if there was none. */
    ours.sa_flags =
        SA_SIGINFO | SA_ONSTACK |
        (by_default ? SA_RESTART | SA_NOCLDSTOP : found.sa_flags & (SA_RESTART | SA_NOCLDSTOP));
    sigaction(SIGCHLD, &ours, NULL);
    return 0;
}

void sigchld_remove(void)
{
    struct sigaction now;
    sigaction(SIGCHLD, NULL, &now);
    if (!is_ours(&now)) {
        left_in_chain = true;
        over_us = now;
    } else if (atomic_load(&outer)) { /* the inner one stays */
        over_us = atomic_load(&outer)->action;
        sigaction(SIGCHLD, &over_us, NULL);
        atomic_store(&outer, NULL);
        left_in_chain = true;
    } else {
        sigaction(SIGCHLD, &atomic_load(&previous)->action, NULL);
    }
    atomic_store(&notify_fd, -1);
    while (atomic_load(&handlers_inside) > 0)
        sched_yield();
}

void sigchld_forget_parent(void)
{
    atomic_store(&notify_fd, -1);
    atomic_store(&handlers_inside, 0);
}
