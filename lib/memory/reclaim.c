/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The worker: see reclaim.h.
 *
 *   - reclaim_defer() pushes onto a stack; the worker takes all of it with one exchange, waits for
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
 * Memory is handed on by the stack: reclaim_defer() releases, the worker acquires.
 */
#include "memory/reclaim.h"
#include "base/fork_guard.h"
#include "base/sys.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef EXITBUS_INLINE_URCU
#define _LGPL_SOURCE /* its structs, and accessors of a line or two */
#include <urcu/static/urcu-bp.h>
#else
extern int urcu_bp_has_sys_membarrier; /* liburcu's, as its own headers declare it */
#endif

char reclaim_grace_periods;

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
    return sleeper == NAPPING ? load_seq_cst(&hurry) : load_seq_cst(&pushed) != NULL;
}

static void sleep_as(uint32_t sleeper, int64_t ns)
{
    store_seq_cst(&state, sleeper);
    uint32_t count = load_seq_cst(&wakes);
    if (!called(sleeper))
        sys_sleep_on((uint32_t *)&wakes, count, ns);
    store_seq_cst(&state, AWAKE);
}

/* All that was pushed, the oldest first. */
static struct rcu_head *take_batch(void)
{
    struct rcu_head *oldest = NULL, *next;
    /* First: a thread that was in a hurry before has pushed before. */
    store_seq_cst(&hurry, false);
    /* Acquire; pairs with push(). */
    struct rcu_head *head = exchange_seq_cst(&pushed, NULL);
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
    store_relaxed(&forked_since_load, true);
}

__attribute__((constructor)) static void await_forks(void)
{
    pthread_atfork(NULL, NULL, note_fork); /* without memory for it: as if nobody had forked */
}

int reclaim_begin(bool forked)
{
    in_forked_child = forked || load_relaxed(&forked_since_load);
    barrier_init();
    if (forked) { /* all of that was the parent's */
        has_worker = false;
        store_relaxed(&pushed, NULL);
        store_relaxed(&state, AWAKE);
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
#ifdef EXITBUS_INLINE_URCU
    /* Not rcu_read_ongoing(), which would register this thread. */
    struct urcu_bp_reader *reader = URCU_TLS(urcu_bp_reader);
    unsigned long count;
    if (!reader)
        return false;
    /* Its type claims an alignment that liburcu does not keep to. */
    memcpy(&count, (const char *)reader + offsetof(struct urcu_bp_reader, ctr), sizeof count);
    return (count & URCU_BP_GP_CTR_NEST_MASK) != 0;
#else
    return rcu_read_ongoing();
#endif
}

static void wake_worker(bool at_once)
{
    if (at_once)
        store_seq_cst(&hurry, true);
    uint32_t sleeper = load_seq_cst(&state);
    if (sleeper == SLEEPING || (at_once && sleeper == NAPPING)) {
        fetch_add_seq_cst(&wakes, 1);
        sys_futex_wake_all((uint32_t *)&wakes);
    }
}

void reclaim_hurry(void)
{
    wake_worker(true);
}

static void push(struct reclaim_head *head, void (*callback)(struct rcu_head *), bool at_once)
{
    struct rcu_head *top = load_relaxed(&pushed);
    head->rcu.func = callback;
    do
        link_to(&head->rcu, top);
    /* Release; pairs with take_batch(). And sequentially consistent, for the look below. */
    while (!cas_weak_seq_cst(&pushed, &top, &head->rcu));
    wake_worker(at_once);
}

void reclaim_defer(struct reclaim_head *head, void (*callback)(struct rcu_head *))
{
    tsan_released(&reclaim_grace_periods);
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
    store_release(&waiter->over, 1);
    sys_futex_wake_all(over);
}

void reclaim_wait(void)
{
    struct waiter waiter = {.over = 0};
    push(&waiter.head, wait_over, true);
    while (!load_acquire(&waiter.over))
        sys_sleep_on((uint32_t *)&waiter.over, 0, -1);
    tsan_acquired(&reclaim_grace_periods);
}
