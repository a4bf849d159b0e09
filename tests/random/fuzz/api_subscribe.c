/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Fuzzing the API: subscriptions from subscribe to their end. See fuzz_api.c. */
#include "scene.h"

/* Fields that the kind does not name are ignored: they are no valid pointers here. */
static struct exitbus_topic input_topic(char *container_id, char *exec_id)
{
    const char *nothing = (const char *)(uintptr_t)1;
    uint8_t shape = byte();
    struct exitbus_topic topic = {.kind = (enum exitbus_topic_kind)(shape % 8),
                                  .pid = -7,
                                  .container_id = nothing,
                                  .exec_id = nothing};
    if (topic.kind == EXITBUS_TOPIC_PID)
        topic.pid = input_pid(&scene.input);
    if (topic.kind == EXITBUS_TOPIC_CONTAINER || topic.kind == EXITBUS_TOPIC_EXEC) {
        input_id(&scene.input, container_id);
        topic.container_id = (shape & 0xf0) == 0xf0 ? NULL : container_id;
    }
    if (topic.kind == EXITBUS_TOPIC_EXEC) {
        input_id(&scene.input, exec_id);
        topic.exec_id = (shape & 0xf0) == 0xe0 ? NULL : exec_id;
    }
    return topic;
}

void do_subscribe(void)
{
    struct subscriber *subscriber = some_subscriber();
    char container_id[EXITBUS_ID_MAX + 2] = "", exec_id[EXITBUS_ID_MAX + 2] = "";
    struct exitbus_topic topic = input_topic(container_id, exec_id);
    uint8_t shape = byte();
    uint32_t flags = shape < 160 ? shape & 1 : shape < 192 ? EXITBUS_SUBSCRIBE_STICKY : shape;
    if (subscriber->handle)
        return;
    struct exitbus_subscription *handle;
    memset(&handle, UNTOUCHED, sizeof handle);
    int result = exitbus_subscribe(scene.bus, topic, flags, &handle);
    trace("subscribe({%d, %d, \"%s\", \"%s\"}, %#x) = %d to s%td", topic.kind, topic.pid,
          container_id, exec_id, flags, result, subscriber - scene.subscribers);
    if (result != 0)
        must_be_untouched(handle);
    if (result == -ENOMEM && refusing())
        return;
    struct reference_subscription model;
    int expected = reference_subscribe(&scene.model, &topic, flags, &model);
    must(reference_error_same(&scene.model, expected, result));
    /* What was given belongs to the caller again. */
    memset(container_id, 'X', sizeof container_id);
    memset(exec_id, 'X', sizeof exec_id);
    if (result == 0)
        *subscriber = (struct subscriber){.handle = handle, .model = model, .fd = -1};
}

/* Once a destroyed bus has no handle left, its memory may be gone. */
static void forget_if_unheld(struct subscriber *subscriber)
{
    if (!subscriber->model.gone || subscriber->references > 0)
        return;
    subscriber->handle = NULL;
    if (!scene.model.closed)
        return;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        if (scene.subscribers[i].handle)
            return;
    scene.over = true;
}

void unsubscribe(struct subscriber *subscriber)
{
    trace("unsubscribe(s%td)", subscriber - scene.subscribers);
    must_equal(exitbus_unsubscribe(subscriber->handle), 0);
    reference_unsubscribe(&scene.model, &subscriber->model);
    forget_if_unheld(subscriber);
}

void unref(struct subscriber *subscriber)
{
    trace("unref(s%td)", subscriber - scene.subscribers);
    must_equal(exitbus_subscription_unref(subscriber->handle), 0);
    subscriber->references--;
    forget_if_unheld(subscriber);
}

void do_unsubscribe(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (subscriber && !subscriber->model.gone)
        unsubscribe(subscriber);
}

void do_ref(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (!subscriber)
        return;
    trace("ref(s%td)", subscriber - scene.subscribers);
    must_equal(exitbus_subscription_ref(subscriber->handle), 0);
    subscriber->references++;
}

void do_unref(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (subscriber && subscriber->references > 0)
        unref(subscriber);
}

void do_fd(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (!subscriber)
        return;
    if (subscriber->fd < 0) {
        if (scene.descriptors == DESCRIPTORS_MAX)
            return;
        scene.descriptors++;
        subscriber->fd = exitbus_subscription_fd(subscriber->handle);
    }
    trace("fd(s%td) = %d", subscriber - scene.subscribers, subscriber->fd);
    /* In a channel it takes memory for its place in the list of descriptors. */
    if (subscriber->fd == -ENOMEM && refusing())
        return;
    must(subscriber->fd >= 0);
    must_equal(exitbus_subscription_fd(subscriber->handle), subscriber->fd);
}

void do_destroy(void)
{
    if (byte() != 0xd5 || scene.model.closed) /* it takes 10 ms */
        return;
    trace("destroy()");
    int result = exitbus_destroy(scene.bus);
    if (scene.sections > 0) {
        must_equal(result, -EDEADLK);
        return;
    }
    must_equal(result, 0);
    scene.stage->bus = NULL;
    scene.model.closed = true;
    scene.over = true;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        if (scene.subscribers[i].handle)
            scene.over = false;
}
