/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The worker: see reclaim.h.
 *
 *   - reclaim_later() pushes onto a stack; the worker takes all of it with one exchange, waits for
 *     a grace period, and calls the callbacks, the oldest first. Then it naps for some 10 ms, so
 * that many share a grace period. If there is nothing it sleeps, and at rest nothing runs.
 *   - The worker says that it sleeps or naps before it looks at the stack for the last time; a
 *     pusher looks at that after its push. Both are sequentially consistent, so one of the two sees
 * the other. Only the worker takes back what it has said: a pusher that was stopped before its
 *     system call leaves the next one to make it, and no wake-up is lost for good.
 *   - Nothing waits for the worker but destroy. The process may end at any time: it is a detached
 *     thread that is stopped by exit like any other.
 *   - A forked child has no worker. Its first bus starts one, which begins with an empty stack.
 *
 * Memory is handed on by the stack: reclaim_later() releases, the worker acquires.
 */
#define _LGPL_SOURCE
#include "reclaim.h"
#include "fork_guard.h"
#include "sys.h"
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <urcu/static/urcu-bp.h>

#ifdef RECLAIM_TSAN
char reclaim_tsan_domain;
#endif

#define NAP_NS 10000000

enum { AWAKE, NAPPING, SLEEPING };

static _Atomic(struct rcu_head *) pushed; /* the newest first, linked by next.next */
static _Atomic uint32_t state;            /* the worker's, written by it alone */
static _Atomic uint32_t wakes;            /* what it sleeps on: a count */
static _Atomic bool hurry;                /* the nap is over */
static bool has_worker;                   /* guarded by fork_guard_lock() */
static bool in_forked_child;              /* written under it before there is a worker */

static struct rcu_head *next_of(const struct rcu_head *rcu)
{
    return (struct rcu_head *)(void *)rcu->next.next;
}

static void link_to(struct rcu_head *rcu, struct rcu_head *next)
{
    rcu->next.next = (struct cds_wfcq_node *)(void *)next;
}

/* ---------------------------------------------------------------------------------- the worker */

/* Is there what the worker waits for? */
static bool called(uint32_t sleeper)
{
    return sleeper == NAPPING ? atomic_load_explicit(&hurry, memory_order_seq_cst)
                              : atomic_load_explicit(&pushed, memory_order_seq_cst) != NULL;
}

static void sleep_as(uint32_t sleeper, int64_t ns)
{
    atomic_store_explicit(&state, sleeper, memory_order_seq_cst);
    uint32_t count = atomic_load_explicit(&wakes, memory_order_seq_cst);
    if (!called(sleeper))
        sys_sleep_on((uint32_t *)&wakes, count, ns);
    atomic_store_explicit(&state, AWAKE, memory_order_seq_cst);
}

/* All that was pushed, the oldest first. */
static struct rcu_head *take_batch(void)
{
    struct rcu_head *oldest = NULL, *next;
    /* First: a thread that was in a hurry before has pushed before. */
    atomic_store_explicit(&hurry, false, memory_order_seq_cst);
    /* Acquire; pairs with push(). */
    struct rcu_head *head = atomic_exchange_explicit(&pushed, NULL, memory_order_seq_cst);
    for (; head; head = next) {
        next = next_of(head);
        link_to(head, oldest);
        oldest = head;
    }
    return oldest;
}

/*
 * liburcu ends the process where a filter refuses it membarrier or rt_sigprocmask. It makes use of
 * membarrier if it has found that when it was loaded, and if a thread is registered.
 */
static bool liburcu_works(void)
{
    sigset_t blocked;
    sigfillset(&blocked); /* as all are here */
    if (pthread_sigmask(SIG_BLOCK, &blocked, NULL) != 0)
        return false;
#ifndef CONFIG_RCU_FORCE_SYS_MEMBARRIER
    if (!urcu_bp_has_sys_membarrier)
        return true;
#endif
    return sys_membarrier() >= 0;
}

static void grace_period(void)
{
    if (mutant(RECLAIM_NO_GRACE))
        return;
    epoch_wait();
    /* In a forked child liburcu's locks may be held by threads that are not there. */
    if (!in_forked_child && liburcu_works())
        synchronize_rcu();
}

static void *work(void *unused)
{
    thread_begin("exitbus-reclaim");
    for (;;) {
        while (!called(SLEEPING))
            sleep_as(SLEEPING, -1);
        sleep_as(NAPPING, NAP_NS); /* let others come, unless one of them is in a hurry */
        struct rcu_head *next, *head = take_batch();
        grace_period();
        for (; head; head = next) {
            next = next_of(head); /* the callback may free it */
            head->func(head);
        }
    }
    return unused;
}

/* ------------------------------------------------------------------------------- begin, start */

/*
 * A child may have been forked off before the library was used, by a host that uses liburcu itself:
 * there, too, its locks and its registry may be those of threads that are not there.
 */
static _Atomic bool forked_since_load;

static void note_fork(void)
{
    atomic_store_explicit(&forked_since_load, true, memory_order_relaxed);
}

__attribute__((constructor)) static void await_forks(void)
{
    pthread_atfork(NULL, NULL, note_fork); /* without memory for it: as if nobody had forked */
}

int reclaim_begin(bool forked)
{
    in_forked_child = forked || atomic_load_explicit(&forked_since_load, memory_order_relaxed);
    barrier_init();
    if (forked) { /* all of that was the parent's */
        has_worker = false;
        atomic_store_explicit(&pushed, NULL, memory_order_relaxed);
        atomic_store_explicit(&state, AWAKE, memory_order_relaxed);
    }
    return epoch_begin(forked);
}

int reclaim_init(void)
{
    int result = fork_guard_begin(reclaim_begin);
    if (result < 0)
        return result;
    fork_guard_lock();
    if (!has_worker) {
        result = thread_start(NULL, work, NULL);
        has_worker = result == 0;
    }
    fork_guard_unlock();
    return result;
}

/* ------------------------------------------------------------------------------- later, wait */

bool reclaim_inside(void)
{
    if (epoch_inside())
        return true;
    /* Not rcu_read_ongoing(), which would register this thread. */
    struct urcu_bp_reader *reader = URCU_TLS(urcu_bp_reader);
    unsigned long count;
    if (!reader)
        return false;
    /* Its type claims an alignment that liburcu does not keep to. */
    memcpy(&count, (const char *)reader + offsetof(struct urcu_bp_reader, ctr), sizeof count);
    return (count & URCU_BP_GP_CTR_NEST_MASK) != 0;
}

static void wake_worker(bool at_once)
{
    if (at_once)
        atomic_store_explicit(&hurry, true, memory_order_seq_cst);
    uint32_t sleeper = atomic_load_explicit(&state, memory_order_seq_cst);
    if (sleeper == SLEEPING || (at_once && sleeper == NAPPING)) {
        atomic_fetch_add_explicit(&wakes, 1, memory_order_seq_cst);
        sys_futex_wake_all((uint32_t *)&wakes);
    }
}

void reclaim_hurry(void)
{
    wake_worker(true);
}

static void push(struct reclaim_head *head, void (*callback)(struct rcu_head *), bool at_once)
{
    struct rcu_head *top = atomic_load_explicit(&pushed, memory_order_relaxed);
    head->rcu.func = callback;
    do
        link_to(&head->rcu, top);
    /* Release; pairs with take_batch(). And sequentially consistent, for the look below. */
    while (!atomic_compare_exchange_weak_explicit(&pushed, &top, &head->rcu, memory_order_seq_cst,
                                                  memory_order_relaxed));
    wake_worker(at_once);
}

void reclaim_later(struct reclaim_head *head, void (*callback)(struct rcu_head *))
{
    reclaim_annotate_release();
    push(head, callback, false);
}

struct waiter {
    struct reclaim_head head;
    _Atomic uint32_t over;
};

static void wait_over(struct rcu_head *rcu)
{
    struct waiter *waiter = container_of(reclaim_callback_begin(rcu), struct waiter, head);
    uint32_t *over = (uint32_t *)&waiter->over;
    /* Release; pairs with reclaim_wait(). The waiter may be gone from here on. */
    atomic_store_explicit(&waiter->over, 1, memory_order_release);
    sys_futex_wake_all(over);
}

void reclaim_wait(void)
{
    struct waiter waiter = {.over = 0};
    push(&waiter.head, wait_over, true);
    while (!atomic_load_explicit(&waiter.over, memory_order_acquire))
        sys_sleep_on((uint32_t *)&waiter.over, 0, -1);
    reclaim_annotate_acquire();
}
