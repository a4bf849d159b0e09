/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SIGCHLD: see sigchld.h. */
#include "sigchld.h"
#include "fork_guard.h"
#include "sys.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

static _Atomic int notify_fd = -1;
static _Atomic unsigned handlers_inside; /* between reading notify_fd and having used it */
static struct sigaction previous;        /* written while our handler is not installed */
static _Atomic bool previous_spent;      /* it had SA_RESETHAND and has run */
static bool left_in_chain;               /* ours is still called by `over_us` */
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

static void call_previous(int signal, siginfo_t *info, void *context)
{
    if (!(previous.sa_flags & SA_SIGINFO) &&
        (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN))
        return;
    if ((previous.sa_flags & (int)SA_RESETHAND) && atomic_exchange(&previous_spent, true))
        return;
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(signal, info, context);
    else
        previous.sa_handler(signal);
}

static void on_sigchld(int signal, siginfo_t *info, void *context)
{
    /* Ours can stand in a chain twice, if somebody has put theirs between: run once. */
    static _Thread_local volatile sig_atomic_t nested __attribute__((tls_model("initial-exec")));
    if (nested)
        return;
    nested = 1;
    int saved = errno;
    if (!fork_guard_in_child()) {
        /* Sequentially consistent, as in sigchld_remove: it sees us, or we see -1. */
        atomic_fetch_add(&handlers_inside, 1);
        int fd = atomic_load(&notify_fd);
        while (fd >= 0 && sys_eventfd_add(fd) < 0)
            ck_pr_stall(); /* only by injection */
        atomic_fetch_sub(&handlers_inside, 1);
    }
    errno = saved;
    call_previous(signal, info, context);
    nested = 0;
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
    if (left_in_chain && found.sa_flags == over_us.sa_flags &&
        found.sa_sigaction == over_us.sa_sigaction) {
        atomic_store(&notify_fd, eventfd); /* theirs still calls ours */
        return 0;
    }
    left_in_chain = false;
    previous = found;
    atomic_store(&previous_spent, false);
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
    if (is_ours(&now)) {
        sigaction(SIGCHLD, &previous, NULL);
    } else {
        left_in_chain = true;
        over_us = now;
    }
    atomic_store(&notify_fd, -1);
    while (atomic_load(&handlers_inside) > 0)
        sched_yield();
}
