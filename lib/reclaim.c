/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Grace periods: see reclaim.h. */
#include "reclaim.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#ifdef RECLAIM_TSAN
char reclaim_tsan_domain;
#endif

int reclaim_init(void)
{
    /*
     * call_rcu would start its thread at first use, under a lock, from whatever thread comes by:
     * start it now, so that unsubscribe stays non-blocking. It inherits this thread's signal mask.
     */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct call_rcu_data *data = get_default_call_rcu_data();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return data ? 0 : -EAGAIN;
}

void reclaim_later(struct reclaim_head *head, void (*callback)(struct rcu_head *))
{
    reclaim_annotate_release();
    call_rcu(&head->rcu, callback);
}

void reclaim_wait(void)
{
    synchronize_rcu();
    reclaim_annotate_acquire();
}
