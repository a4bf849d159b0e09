/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two subscribes to one container at once, one of which makes the channel. Both get what is
 * published after them, once; and so does one that comes while the last one leaves.
 */
#include "model_test.h"

static struct exitbus *bus;

static void publish_exec(void)
{
    struct exitbus_event event = {
        .kind = EXITBUS_EVENT_EXEC, .container_id = "c", .exec_id = "e"};
    assert(exitbus_publish(bus, &event, NULL) == 0);
}

static void *subscriber(void *subscription)
{
    *(struct exitbus_subscription **)subscription = subscribe(bus, exitbus_topic_container("c"));
    return subscription;
}

static void receive_one(struct exitbus_subscription *sub)
{
    struct exitbus_event event;
    assert(exitbus_receive(sub, &event, 0) == 0);
    assert(exitbus_receive(sub, &event, 0) == -EAGAIN);
}

static void *leaver(void *subscription)
{
    exitbus_unsubscribe(subscription);
    return NULL;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_subscription *first, *second;
    bus = bus_new();
    pthread_create(&thread, NULL, subscriber, &second);
    subscriber(&first);
    pthread_join(thread, NULL);
    publish_exec();
    receive_one(first);
    receive_one(second);
    exitbus_unsubscribe(first);
    pthread_create(&thread, NULL, leaver, second);
    subscriber(&first);
    publish_exec();
    receive_one(first);
    pthread_join(thread, NULL);
    return 0;
}
