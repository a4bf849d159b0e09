/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The worker: see reclaim.h.
 *
 * How it works:
 * - reclaim_defer() pushes onto a stack. The worker takes all of it with one exchange, waits for a
 *   grace period, and calls the callbacks, the oldest first.
 * - Before the exchange it naps for some 10 ms, so that many callbacks share a grace period. With
 *   nothing pushed it sleeps: at rest nothing runs.
 * - Only destroy waits for the worker. The worker is a detached thread, so an exit of the process
 *   stops it like any other thread.
 * - A forked child has no worker. Its first bus starts one, with an empty stack.
 *
 * Why it is right:
 * 1. No wake-up is lost. The worker stores that it sleeps or naps, then loads the stack once more.
 *    A pusher pushes, then loads that state. All four are sequentially consistent, so one of the
 *    two sees the other.
 * 2. Only the worker sets the state back to awake. So if a pusher is stopped before its system
 *    call, the next pusher makes that call.
 * 3. What a thread wrote before reclaim_defer() is visible in the callback: the push releases, and
 *    the exchange acquires.
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

/* The newest first, linked by next.next; pushed by any thread. */
static _Atomic(struct rcu_head *) pushed;
static _Atomic uint32_t state; /* written by the worker only */
static _Atomic uint32_t wakes; /* the futex that the worker sleeps on: a count of wake-ups */
static _Atomic bool hurry;     /* set by a thread that needs the nap to end */
static bool has_worker;        /* guarded by fork_guard_lock() */
static bool in_forked_child;   /* written under the same lock, before there is a worker */

static struct rcu_head *next_of(const struct rcu_head *rcu)
{
    return (struct rcu_head *)(void *)rcu->next.next;
}

static void link_to(struct rcu_head *rcu, struct rcu_head *next)
{
    rcu->next.next = (struct cds_wfcq_node *)(void *)next;
}

/* ---------------------------------------------------------------------------------- the worker */

/* Returns whether the event that the worker waits for has come. */
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

/* Returns all that was pushed, the oldest first. */
static struct rcu_head *take_batch(void)
{
    struct rcu_head *oldest = NULL, *next;
    /* First: a thread that has set `hurry` has pushed before. */
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
 * Returns whether liburcu can wait for a grace period. liburcu ends the process where a filter
 * refuses membarrier or rt_sigprocmask. It uses membarrier if it has found that at load time, and
 * if a thread is registered.
 */
static bool liburcu_works(void)
{
    sigset_t blocked;
    sigfillset(&blocked); /* as all signals are blocked in the worker */
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
    /* In a forked child the holders of liburcu's locks may not exist. */
    if (!in_forked_child && liburcu_works())
        synchronize_rcu();
}

static void *work(void *unused)
{
    thread_begin("exitbus-reclaim");
    for (;;) {
        while (!called(SLEEPING))
            sleep_as(SLEEPING, -1);
        sleep_as(NAPPING, NAP_NS); /* let more callbacks gather, unless a thread is in a hurry */
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
 * A child may be forked before the library's first use, by a host that uses liburcu itself. There,
 * too, holders of liburcu's locks and registered threads may not exist.
 */
static _Atomic bool forked_since_load;

static void note_fork(void)
{
    store_relaxed(&forked_since_load, true);
}

__attribute__((constructor)) static void await_forks(void)
{
    pthread_atfork(NULL, NULL, note_fork); /* without memory for the handler, forks go unnoticed */
}

int reclaim_begin(bool forked)
{
    in_forked_child = forked || load_relaxed(&forked_since_load);
    barrier_init();
    if (forked) { /* all of these are the parent's */
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
    return false;
#endif
}

bool reclaim_inside_registering(void)
{
#ifdef EXITBUS_INLINE_URCU
    return reclaim_inside();
#else
    return epoch_inside() || rcu_read_ongoing();
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
    /* Release; pairs with take_batch(). Sequentially consistent, because wake_worker() loads
     * `state` after it: see 1. */
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
