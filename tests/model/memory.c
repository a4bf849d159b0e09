/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An event lacks memory. Its sleeping receiver is woken for that, tries again by itself, and gets
 * it once there is some again, though no thread publishes any more.
 */
#include "model_test.h"
#include <stdatomic.h>
#include <stdlib.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;
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
    assert(exitbus_receive(sub, &event, -1) == 0 && event.pid == 2);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    const struct exitbus_allocator allocator = {allocate, release, NULL};
    const struct exitbus_options options = {.allocator = &allocator};
    assert(exitbus_create(&bus, &options) == 0);
    sub = subscribe(bus, exitbus_topic_all());
    publish(bus, 1);
    assert(exitbus_receive(sub, &event, 0) == 0);
    atomic_store_explicit(&lacking, 1, memory_order_relaxed);
    pthread_create(&thread, NULL, receiver, NULL);
    publish(bus, 2); /* needs a second segment */
    atomic_store_explicit(&lacking, 0, memory_order_relaxed);
    pthread_join(thread, NULL);
    return 0;
}
