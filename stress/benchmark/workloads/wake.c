/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * wake: a receiver sleeps; how long after the begin of a publish does its call return? The two are
 * on cores of their own. The publisher leaves the receiver time to fall asleep, spinning, so that
 * its own core does not slow down. Floors: a bare futex, and for epoll a bare eventfd.
 */
#include "workloads.h"

#include "wake.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_MS 500
#define SAMPLES_MAX 100000u
/* Also for a receiver that passes a barrier of all cores first: 50 µs where cores are virtual. */
#define ASLEEP_AFTER_NS 100000u

struct scene {
    const struct waker *waker;
    void *state;
    _Alignas(2 * CACHE_LINE) _Atomic uint64_t returned_ns; /* 0: not yet */
    _Alignas(2 * CACHE_LINE) _Atomic bool over;
};

/* ------------------------------------------------------------------------------------- floors */

static void *futex_open(const void *unused)
{
    (void)unused;
    return peer_memory(CACHE_LINE);
}

static void futex_wake(void *word)
{
    atomic_store((_Atomic uint32_t *)word, 1);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void futex_wait(void *word)
{
    while (atomic_exchange((_Atomic uint32_t *)word, 0) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

struct eventfd_state {
    int eventfd, epoll;
};

int wake_epoll(int fd)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        bench_die("cannot make an epoll");
    return epoll;
}

void wake_epoll_wait(int epoll)
{
    struct epoll_event event;
    while (epoll_wait(epoll, &event, 1, -1) < 0 && errno == EINTR)
        ;
}

static void *eventfd_open(const void *unused)
{
    (void)unused;
    struct eventfd_state *state = peer_memory(sizeof *state);
    state->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (state->eventfd < 0)
        bench_die("cannot make an eventfd");
    state->epoll = wake_epoll(state->eventfd);
    return state;
}

static void eventfd_wake(void *opaque)
{
    struct eventfd_state *state = opaque;
    eventfd_write(state->eventfd, 1);
}

static void eventfd_wait(void *opaque)
{
    struct eventfd_state *state = opaque;
    eventfd_t value;
    do
        wake_epoll_wait(state->epoll);
    while (eventfd_read(state->eventfd, &value) < 0);
}

/* All that was added to it: the count. */
static unsigned eventfd_pass(void *opaque)
{
    struct eventfd_state *state = opaque;
    eventfd_t value;
    wake_epoll_wait(state->epoll);
    return eventfd_read(state->eventfd, &value) < 0 ? 0 : (unsigned)value;
}

static void eventfd_close(void *opaque)
{
    struct eventfd_state *state = opaque;
    close(state->epoll);
    close(state->eventfd);
    free(state);
}

/* -------------------------------------------------------------------------------------- peers */

struct peer_state {
    const struct peer *peer;
    void *bus, *producer, *consumer;
};

static void *peer_open(const void *peer)
{
    const struct shape shape = {.subscriptions = 1, .producers = 1, .consumers = 1, .pending = 1};
    struct peer_state *state = peer_memory(sizeof *state);
    state->peer = peer;
    state->bus = state->peer->create(&shape);
    state->producer = state->peer->producer(state->bus);
    state->consumer = state->peer->consumer(state->bus);
    return state;
}

static void peer_wake(void *opaque)
{
    struct peer_state *state = opaque;
    state->peer->publish(state->producer, 1, 1);
}

static void peer_wait(void *opaque)
{
    struct peer_state *state = opaque;
    state->peer->wait(state->consumer, 0);
}

static void peer_close(void *opaque)
{
    struct peer_state *state = opaque;
    state->peer->consumer_end(state->consumer);
    state->peer->producer_end(state->producer);
    state->peer->destroy(state->bus);
    free(state);
}

/* ------------------------------------------------------------------------------------ measure */

static void *receive(void *argument)
{
    struct scene *scene = argument;
    machine_pin(1);
    for (;;) {
        scene->waker->wait(scene->state);
        uint64_t now = now_ns();
        if (atomic_load(&scene->over))
            return NULL;
        atomic_store_explicit(&scene->returned_ns, now, memory_order_release);
    }
}

static void spin_until(uint64_t time)
{
    while (now_ns() < time)
        ;
}

static double sample(struct scene *scene)
{
    uint64_t returned;
    atomic_store_explicit(&scene->returned_ns, 0, memory_order_relaxed);
    uint64_t begin = now_ns();
    scene->waker->wake(scene->state);
    while ((returned = atomic_load_explicit(&scene->returned_ns, memory_order_acquire)) == 0)
        ;
    spin_until(now_ns() + ASLEEP_AFTER_NS);
    return (double)(returned - begin);
}

static void measure(const struct waker *waker)
{
    struct scene scene = {.waker = waker, .state = waker->open(waker->peer)};
    double *samples = malloc(SAMPLES_MAX * sizeof *samples);
    if (!samples)
        bench_die("out of memory");
    pthread_t receiver;
    machine_pin(0);
    start_thread(&receiver, receive, &scene);
    size_t count = 0;
    for (unsigned i = 0; i < 10; i++) /* first uses of everything */
        sample(&scene);
    for (uint64_t until = now_ns() + bench_slice(SLICE_MS);
         now_ns() < until && count < SAMPLES_MAX;)
        samples[count++] = sample(&scene);
    atomic_store(&scene.over, true);
    waker->wake(scene.state);
    pthread_join(receiver, NULL);
    machine_unpin();
    waker->close(scene.state);
    result_add_latencies("wake", waker->parameter, waker->name, samples, count);
    free(samples);
}

static void run(void)
{
    static const struct waker futex = {"receive",  "futex",    NULL, futex_open,
                                       futex_wake, futex_wait, free, NULL};
    static const struct waker eventfd = {"epoll",      "eventfd",    NULL,          eventfd_open,
                                         eventfd_wake, eventfd_wait, eventfd_close, eventfd_pass};
    for (unsigned round = 0; round < bench.rounds; round++) {
        for (size_t i = 0; i < peer_count; i++) {
            const struct peer *peer = peer_in_round(round, i);
            const struct waker waker = {"receive", peer->name, peer,       peer_open,
                                        peer_wake, peer_wait,  peer_close, NULL};
            if (!bench_wants(peer->name))
                continue;
            if (peer->wait)
                measure(&waker);
            if (peer == peers[0] && bench_wants(futex.name)) /* right beside exitbus */
                measure(&futex);
        }
        measure(&exitbus_epoll_waker);
        if (bench_wants(eventfd.name))
            measure(&eventfd);
        for (int one_core = 0; one_core < 2; one_core++) {
            wake_loop(&exitbus_epoll_waker, one_core);
            if (bench_wants(eventfd.name))
                wake_loop(&eventfd, one_core);
        }
    }
    result_note("wake",
                "from the begin of the publish to the return of the receiver's call; the "
                "receiver had %u µs to fall asleep",
                ASLEEP_AFTER_NS / 1000);
    result_note("wake", "loop: an event every 200 µs; wake-ups for nothing, and processor time of "
                        "both threads, for each event");
    result_note("wake",
                "only what has a call that sleeps; epoll: woken by a descriptor, then receive");
}

extern const struct workload wake_workload;
const struct workload wake_workload = {
    "wake",
    "A receiver sleeps on another core: from publish to its return. An event loop: its empty "
    "wake-ups and its processor time.",
    run};
