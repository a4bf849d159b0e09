/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * wake, in an event loop: level-triggered, all that is there for each wake-up. How many wake-ups
 * for nothing, and how much processor time, does an event cost? With the two threads on cores of
 * their own, and on one, where the publisher is stopped by the loop that it has just woken. The
 * publisher sleeps between two events, so the loop does, too.
 */
#include "workloads.h"

#include "wake.h"

#include <sys/resource.h>
#include <time.h>

#define SLICE_MS 400
#define GAP_NS 200000

struct loop {
    const struct waker *waker;
    void *state;
    unsigned core;
    uint64_t passes, empty;
    _Alignas(2 * CACHE_LINE) _Atomic bool over;
};

static void *run_loop(void *argument)
{
    struct loop *loop = argument;
    machine_pin(loop->core);
    while (!atomic_load_explicit(&loop->over, memory_order_acquire)) {
        loop->passes++;
        loop->empty += loop->waker->pass(loop->state) == 0;
    }
    return NULL;
}

static double processor_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void wake_loop(const struct waker *waker, bool one_core)
{
    struct loop loop = {.waker = waker, .state = waker->open(waker->peer), .core = !one_core};
    const char *parameter = one_core ? "loop, 1 core" : "loop, 2 cores";
    pthread_t thread;
    uint64_t events = 0;
    machine_pin(0);
    start_thread(&thread, run_loop, &loop);
    double before = processor_us();
    for (uint64_t until = now_ns() + bench_slice(SLICE_MS); events == 0 || now_ns() < until;) {
        nanosleep(&(struct timespec){.tv_nsec = GAP_NS}, NULL);
        waker->wake(loop.state);
        events++;
    }
    double cost = processor_us() - before;
    atomic_store_explicit(&loop.over, true, memory_order_release);
    waker->wake(loop.state);
    pthread_join(thread, NULL);
    machine_unpin();
    waker->close(loop.state);
    result_add("wake", parameter, waker->name, "empty", "/event",
               (double)loop.empty / (double)events);
    result_add("wake", parameter, waker->name, "CPU", "µs", cost / (double)events);
}
