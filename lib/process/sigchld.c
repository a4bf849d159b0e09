/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * SIGCHLD: see sigchld.h.
 *
 * How it works
 *   - Our handler adds a token to an eventfd, and calls the handler that it found at its
 *     installation.
 *   - A host may put a handler over ours that calls ours. The next reaper puts ours over that one
 *     again. So ours may be in the chain several times: found[i] is what installation i has found.
 *   - The outermost call of ours serves found[depth - 1]. A call that comes from the handler so
 *     called is an inner one, and serves the entry below.
 *
 * Why it is right
 *  1. A call is an inner one if it has the same siginfo as the latest call on this thread, and lies
 *     further down the same stack. A flag would not do: a handler may leave by siglongjmp(), or let
 *     the next SIGCHLD in while it runs.
 *  2. A handler that is late reads a valid entry, because an entry is not changed while it is in
 *     the chain, and the oldest entry is used again first.
 *  3. After sigchld_remove() has returned true no handler writes to the eventfd. A handler counts
 *     itself before it reads notify_fd; remove clears notify_fd before it reads the count.
 *
 * The reaper's thread has every signal blocked, so no handler ever runs there. A signal that stays
 * pending is seen by a signalfd: see take_pending() in reaper_loop.c.
 */
#include "process/sigchld.h"
#include "base/atomic.h"
#include "base/fork_guard.h"
#include "base/sys.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

/* How often remove looks whether a handler is still at the eventfd, with a yield in between. */
#define REMOVE_LOOKS 10000

static _Atomic int notify_fd = -1;       /* the eventfd; -1: none */
static _Atomic unsigned handlers_inside; /* calls that may have read notify_fd and still use it */

/* An action that was there before ours, and that ours calls. */
struct before {
    struct sigaction action; /* constant while it is in the chain */
    _Atomic uint32_t spent;  /* 1: it had SA_RESETHAND and has run */
};
#define BEFORE_MAX 16
#define REMEMBERED_MAX (2 * BEFORE_MAX) /* more than the chain holds, so one is always free */
static struct before remembered[REMEMBERED_MAX];
static unsigned remembered_count; /* written by installations, which are serial */
static _Atomic(struct before *) found[BEFORE_MAX];
static _Atomic unsigned depth; /* installations of ours that are in the chain */

/* The latest call of our handler that is in progress on this thread. */
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

/* Returns an entry for this action: the one it had before, or a free one. */
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

/* Call the handler that was there before, as the kernel would. */
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

/* Tell the reaper of the signal. */
static void note(void)
{
    /* Sequentially consistent; pairs with sigchld_remove(): that sees the count, or this reads -1. */
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
        /* The flags of the handler that was found, so that its owner sees no difference. */
        ours.sa_flags =
            SA_SIGINFO | (quiet ? SA_RESTART | SA_NOCLDSTOP | SA_ONSTACK
                                : before.sa_flags & (SA_RESTART | SA_NOCLDSTOP | SA_ONSTACK));
        unsigned level = load_seq_cst(&depth);
        if (level == BEFORE_MAX) /* a host that never removes its handlers: keep the outermost */
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
