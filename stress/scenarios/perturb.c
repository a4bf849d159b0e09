/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the scheduler is made to do: cores that change, or one core for all threads, the subject's
 * own included; and other priorities for those of the engine. What is only seen on one core, or
 * when a thread is not run for long, is seen here. SIGSTOP and SIGCONT, which stop all and let all
 * go, are `stall`.
 */
#include "../engine/worker.h"
#include "scenarios.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define THREADS_MAX 512
#define FREE_NS_MAX 200000000
#define BOUND_NS_MAX 100000000
/* A thread that may not run for longer than this, or runs before all others, would be a hang. */
#define FAVOUR_NS_MAX 5000000
#define IDLE_NS_MAX 30000000
#ifdef __SANITIZE_THREAD__
#define SPIN_LOCKS true
#else
#define SPIN_LOCKS false
#endif

/* Opened before the run, in which there may be no descriptor to be had. One for each thread here.
 */
static DIR *threads_to_bind, *threads_to_give_back;

static bool can_list_threads(DIR **threads)
{
    if (!*threads)
        *threads = opendir("/proc/self/task");
    return *threads;
}

/* The threads of this process. Returns how many. */
static unsigned list_threads(DIR *threads, pid_t tids[THREADS_MAX])
{
    unsigned count_ = 0;
    struct dirent *entry;
    rewinddir(threads);
    while (count_ < THREADS_MAX && (entry = readdir(threads)))
        if (entry->d_name[0] != '.')
            tids[count_++] = (pid_t)strtol(entry->d_name, NULL, 10);
    return count_;
}

static uint64_t some_ns(uint64_t most)
{
    return random_below(&self->random, (unsigned)most);
}

/* ------------------------------------------------------------------------------------ affinity */

static cpu_set_t allowed;

static size_t random_core(void)
{
    unsigned skip = random_below(&self->random, (unsigned)CPU_COUNT(&allowed));
    for (size_t core = 0;; core++)
        if (CPU_ISSET(core, &allowed) && skip-- == 0)
            return core;
}

/* Each thread on a core of its own choice, or all on one. */
static void bind_threads(bool all_on_one)
{
    pid_t tids[THREADS_MAX];
    unsigned count_ = list_threads(threads_to_bind, tids);
    size_t core = random_core();
    for (unsigned i = 0; i < count_; i++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(all_on_one ? core : random_core(), &one);
        sched_setaffinity(tids[i], sizeof one, &one);
    }
}

static void free_threads(void)
{
    pid_t tids[THREADS_MAX];
    unsigned count_ = list_threads(threads_to_bind, tids);
    for (unsigned i = 0; i < count_; i++)
        sched_setaffinity(tids[i], sizeof allowed, &allowed);
}

static void *affinity_body(void *number)
{
    while (!flag(&world->stop_churn)) {
        bind_threads(random_below(&self->random, 2));
        nap(some_ns(BOUND_NS_MAX), &world->stop_churn);
        free_threads();
        nap(some_ns(FREE_NS_MAX), &world->stop_churn);
    }
    free_threads();
    return number;
}

static const char *affinity_unfit(void)
{
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return "the kernel does not say which cores there are";
    if (!can_list_threads(&threads_to_bind))
        return "/proc is not there";
    return CPU_COUNT(&allowed) > 1 ? NULL : "there is only one core";
}

static void affinity_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "affinity", affinity_body, 1);
}

const struct scenario affinity_scenario = {
    "affinity", "all threads on one core, or each on another: order that only cores have kept",
    affinity_unfit, affinity_start, NULL};

/* ------------------------------------------------------------------------------------ priority */

static const struct sched_param none;

/* What this process had from the beginning. */
static int first_policy, first_nice;

static bool give_back(pid_t tid)
{
    struct sched_param same;
    if (sched_getscheduler(tid) != first_policy || sched_getparam(tid, &same) != 0 ||
        same.sched_priority != 0)
        sched_setscheduler(tid, first_policy, &none);
    if (getpriority(PRIO_PROCESS, (id_t)tid) != first_nice)
        setpriority(PRIO_PROCESS, (id_t)tid, first_nice);
    return sched_getscheduler(tid) == first_policy &&
           getpriority(PRIO_PROCESS, (id_t)tid) == first_nice;
}

/* What a thread that was changed has started has inherited it: so all of them, but for this one. */
static void give_all_back(void)
{
    pid_t tids[THREADS_MAX], own = gettid();
    unsigned count_ = list_threads(threads_to_give_back, tids);
    for (unsigned i = 0; i < count_; i++)
        if (tids[i] != own)
            give_back(tids[i]);
}

static void change(pid_t tid, unsigned how)
{
    /* What a favoured thread starts is not favoured. */
    if (how == 0)
        sched_setscheduler(tid, SCHED_FIFO | SCHED_RESET_ON_FORK,
                           &(struct sched_param){.sched_priority = 1});
    else if (how == 1)
        sched_setscheduler(tid, SCHED_IDLE, &none);
    else
        setpriority(PRIO_PROCESS, (id_t)tid, (int)random_below(&self->random, 39) - 20);
}

/* A thread of the engine's, or 0. */
static pid_t some_thread(void)
{
    unsigned first = random_below(&self->random, WORKERS_MAX);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        struct worker *worker = &workers[(first + i) % WORKERS_MAX];
        pid_t tid = atomic_load(&worker->tid);
        /* A child would keep for its life what it inherits. */
        if (flag(&worker->used) && !flag(&worker->has_children) && tid > 0 && worker != self)
            return tid;
    }
    return 0;
}

static void *priority_body(void *number)
{
    /* Above all others, or it could not take back what it has done. */
    sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK,
                       &(struct sched_param){.sched_priority = 2});
    while (!flag(&world->stop_churn)) {
        unsigned how = random_below(&self->random, 3);
        pid_t tid = some_thread();
        if (tid > 0)
            change(tid, how);
        nap(some_ns(how == 0 ? FAVOUR_NS_MAX : IDLE_NS_MAX), &world->stop_churn);
        give_all_back();
    }
    return number;
}

/* Can a thread of this process have each of them, and come back? */
static void *try_all(void *can)
{
    for (unsigned how = 0; how < 2; how++) {
        change(gettid(), how);
        *(bool *)can = *(bool *)can && sched_getscheduler(0) != first_policy && give_back(gettid());
    }
    setpriority(PRIO_PROCESS, 0, first_nice - 1);
    *(bool *)can = *(bool *)can && getpriority(PRIO_PROCESS, 0) == first_nice - 1;
    return NULL;
}

static const char *priority_unfit(void)
{
    bool can_all = true;
    pthread_t thread; /* which takes what it can't give back with it */
    if (SPIN_LOCKS)
        return "under ThreadSanitizer, which has spin locks, a favoured thread may wait for ever";
    first_policy = sched_getscheduler(0);
    first_nice = getpriority(PRIO_PROCESS, 0);
    if (first_policy != SCHED_OTHER && first_policy != SCHED_BATCH)
        return "it has a scheduling policy of its own already";
    if (!can_list_threads(&threads_to_give_back) ||
        pthread_create(&thread, NULL, try_all, &can_all) != 0)
        return "/proc is not there, or no thread to be had";
    pthread_join(thread, NULL);
    return can_all ? NULL : "it needs CAP_SYS_NICE";
}

static void priority_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "priority", priority_body, 1);
}

const struct scenario priority_scenario = {
    "priority", "threads that run before all others, and threads that hardly run at all",
    priority_unfit, priority_start, NULL};
