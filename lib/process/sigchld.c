/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * SIGCHLD: see sigchld.h.
 *
 * The chain. Our handler notes the signal and calls the handler that it found when it was
 * installed. A host's handler may be put over ours and call ours in turn. Ours is then installed
 * over that one again with the next reaper, so it may be in the chain several times: `found[i]` is
 * what the i-th installation has found. The outermost call serves found[depth - 1], and a call that
 * comes from the handler so called serves the one below. A call is such an inner one if it is about
 * the same siginfo, further down the same stack. (A handler may leave by siglongjmp, or let the
 * next SIGCHLD in while it runs, so a flag would not do.)
 *
 * The reaper's thread has SIGCHLD blocked like any signal, so no handler ever runs there, the
 * host's later ones included. What is pending because the host blocks it, too, it sees by a
 * signalfd: see take_pending() in reaper_loop.c.
 */
#include "process/sigchld.h"
#include "base/atomic.h"
#include "base/fork_guard.h"
#include "base/sys.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#define REMOVE_LOOKS 10000

static _Atomic int notify_fd = -1;
static _Atomic unsigned handlers_inside; /* between reading notify_fd and having used it */
/*
 * An action that was there before ours, and that ours calls. Entries are not changed while a
 * handler that is late may still read them: most processes need one for all their life, and it is
 * the oldest that is used again.
 */
struct before {
    struct sigaction action;
    _Atomic uint32_t spent; /* it had SA_RESETHAND and has run */
};
#define BEFORE_MAX 16
#define REMEMBERED_MAX (2 * BEFORE_MAX) /* so one is always free */
static struct before remembered[REMEMBERED_MAX];
static unsigned remembered_count;
static _Atomic(struct before *) found[BEFORE_MAX];
static _Atomic unsigned depth; /* installations of ours that are in the chain */

/* The innermost call of ours on this thread that is in progress. */
struct call {
    const siginfo_t *info;
    uintptr_t frame;
    unsigned level;
};
static _Thread_local volatile struct call latest __attribute__((tls_model("initial-exec")));

static bool is_ignore(const struct sigaction *action)
{
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_IGN;
}

static bool discards_status(const struct sigaction *action)
{
    return is_ignore(action) || (action->sa_flags & SA_NOCLDWAIT);
}

int sigchld_check(void)
{
    struct sigaction now;
    if (sigaction(SIGCHLD, NULL, &now) != 0)
        return -errno;
    return discards_status(&now) ? -ENOTSUP : 0;
}

static struct before *remember(const struct sigaction *action)
{
    struct before *entry = NULL;
    for (unsigned i = 0; !entry && i < REMEMBERED_MAX && i < remembered_count; i++) {
        const struct sigaction *known = &remembered[i].action;
        if (known->sa_flags == action->sa_flags && known->sa_sigaction == action->sa_sigaction &&
            memcmp(&known->sa_mask, &action->sa_mask, sizeof action->sa_mask) == 0)
            entry = &remembered[i];
    }
    for (unsigned tries = 0; !entry && tries < REMEMBERED_MAX; tries++) {
        entry = &remembered[remembered_count++ % REMEMBERED_MAX];
        for (unsigned level = 0; entry && level < load_seq_cst(&depth); level++)
            if (load_seq_cst(&found[level]) == entry)
                entry = NULL; /* still in the chain */
        if (entry)
            entry->action = *action;
    }
    store_seq_cst(&entry->spent, 0);
    return entry;
}

static void call_before(struct before *before, int signal, siginfo_t *info, void *context)
{
    const struct sigaction *action = &before->action;
    if (!(action->sa_flags & SA_SIGINFO) &&
        (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN))
        return;
    if ((action->sa_flags & (int)SA_RESETHAND) && exchange_seq_cst(&before->spent, 1))
        return;
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(signal, info, context);
    else
        action->sa_handler(signal);
}

static void note(void)
{
    /* Sequentially consistent, as in sigchld_remove: it sees us, or we see -1. */
    fetch_add_seq_cst(&handlers_inside, 1);
    int fd = load_seq_cst(&notify_fd);
    if (fd >= 0)
        sys_eventfd_add_again(fd);
    fetch_sub_seq_cst(&handlers_inside, 1);
}

static void on_sigchld(int signal, siginfo_t *info, void *context)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    struct call outer = {latest.info, latest.frame, latest.level};
    bool inner = info && outer.info == info && here < outer.frame;
    int saved = errno;
    if (!fork_guard_in_child())
        note();
    errno = saved;
    unsigned level = inner ? outer.level : load_seq_cst(&depth);
    if (level == 0)
        return;
    level--;
    latest.info = info;
    latest.frame = here;
    latest.level = level;
    call_before(load_seq_cst(&found[level]), signal, info, context);
    latest.info = outer.info;
    latest.frame = outer.frame;
    latest.level = outer.level;
}

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_sigchld;
}

int sigchld_install(int eventfd)
{
    struct sigaction before;
    if (sigaction(SIGCHLD, NULL, &before) != 0)
        return -errno;
    if (!is_ours(&before)) {
        bool quiet = !(before.sa_flags & SA_SIGINFO) &&
                     (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN);
        struct sigaction ours = {.sa_sigaction = on_sigchld, .sa_mask = before.sa_mask};
        /* As the found handler has it: its owner notices nothing. Quiet if there was none. */
        ours.sa_flags =
            SA_SIGINFO | (quiet ? SA_RESTART | SA_NOCLDSTOP | SA_ONSTACK
                                : before.sa_flags & (SA_RESTART | SA_NOCLDSTOP | SA_ONSTACK));
        unsigned level = load_seq_cst(&depth);
        if (level == BEFORE_MAX) /* the host never takes its handlers out: the outermost counts */
            level--;
        store_seq_cst(&found[level], remember(&before));
        store_seq_cst(&depth, level + 1);
        if (sigaction(SIGCHLD, &ours, NULL) != 0) {
            store_seq_cst(&depth, level);
            return -errno;
        }
    }
    store_seq_cst(&notify_fd, eventfd);
    return 0;
}

bool sigchld_remove(void)
{
    struct sigaction now;
    unsigned level = load_seq_cst(&depth);
    if (level > 0 && sigaction(SIGCHLD, NULL, &now) == 0 && is_ours(&now) &&
        sigaction(SIGCHLD, &load_seq_cst(&found[level - 1])->action, NULL) == 0)
        store_seq_cst(&depth, level - 1);
    store_seq_cst(&notify_fd, -1);
    for (int look = 0; look < REMOVE_LOOKS; look++) {
        if (load_seq_cst(&handlers_inside) == 0)
            return true;
        sched_yield();
    }
    return false;
}

void sigchld_forget_parent(void)
{
    store_seq_cst(&notify_fd, -1);
    store_seq_cst(&handlers_inside, 0);
}
