/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An event lacks memory for one subscription, and the other has had it. Both have a receiver that
 * waits. One of them finishes the event when there is memory; and then both get the next one.
 */
#include "model_test.h"
#include <stdatomic.h>
#include <stdlib.h>

static struct exitbus *bus;
static struct exitbus_subscription *lacks, *has;
static _Atomic int lacking;

static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    if (atomic_load_explicit(&lacking, memory_order_relaxed))
        return NULL;
    return aligned_alloc(alignment, size);
}

static void release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    assert(exitbus_receive(has, &event, -1) == 0 && event.seq == 3);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    const struct exitbus_allocator allocator = {allocate, release, NULL};
    const struct exitbus_options options = {.allocator = &allocator};
    assert(exitbus_create(&bus, &options) == 0);
    lacks = subscribe(bus, exitbus_topic_pid(1));
    assert(exitbus_publish_pid(bus, 1, 0) == 0);
    assert(exitbus_receive(lacks, &event, 0) == 0);
    has = subscribe(bus, exitbus_topic_pid(1));
    atomic_store_explicit(&lacking, 1, memory_order_relaxed);
    assert(exitbus_publish_pid(bus, 1, 1) == 0);
    assert(exitbus_receive(has, &event, 0) == 0 && event.seq == 2);
    pthread_create(&thread, NULL, receiver, NULL);
    assert(exitbus_receive(lacks, &event, 5) == -ETIMEDOUT);
    atomic_store_explicit(&lacking, 0, memory_order_relaxed);
    assert(exitbus_receive(lacks, &event, -1) == 0 && event.seq == 2);
    assert(exitbus_publish_pid(bus, 1, 2) == 0);
    pthread_join(thread, NULL);
    assert(exitbus_receive(lacks, &event, 0) == 0 && event.seq == 3);
    return 0;
}
