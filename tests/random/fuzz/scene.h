/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the calls of fuzz_api.c share: the bus and the specification, side by side, the
 * subscriptions on them, and the rest of the input.
 */
#ifndef SCENE_H
#define SCENE_H

#include "random/differential/reference.h"
#include "random/differential/stage.h"
#include "input.h"

#define SUBSCRIPTIONS 12
#define DESCRIPTORS_MAX 8 /* per input: 32 buses at a time, 1024 descriptors */

/* A byte that no failed call may touch. */
#define UNTOUCHED 0x5c

struct subscriber {
    struct exitbus_subscription *handle; /* NULL: free */
    struct reference_subscription model;
    unsigned references; /* besides the handle's own */
    int fd;
};

struct scene {
    struct input input;
    struct exitbus *bus;
    struct stage *stage;
    struct reference model;
    struct subscriber subscribers[SUBSCRIPTIONS];
    unsigned descriptors, sections;
    bool over;    /* the bus's memory is gone */
    bool stalled; /* an ordered event may lack memory */
    bool was_stalled;
};

extern struct scene scene;

/* Print a call, if EXITBUS_FUZZ_TRACE is set. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define must_be_untouched(object)                                                                  \
    do {                                                                                           \
        for (size_t byte_ = 0; byte_ < sizeof(object); byte_++)                                    \
            must_equal(((const unsigned char *)&(object))[byte_], UNTOUCHED);                      \
    } while (0)

static inline uint8_t byte(void)
{
    return input_byte(&scene.input);
}

static inline bool refusing(void)
{
    return atomic_load(&scene.stage->account.refuse);
}

static inline struct subscriber *some_subscriber(void)
{
    return &scene.subscribers[byte() % SUBSCRIPTIONS];
}

/* One that may be received from: not unsubscribed, or held by a reference. */
static inline struct subscriber *held_subscriber(void)
{
    struct subscriber *subscriber = some_subscriber();
    return subscriber->handle ? subscriber : NULL;
}

/* By whichever calls: each reads its arguments from the input, and ends the program on a
 * difference. api_publish.c: */
void do_publish(void);
void do_publish_pid(void);
void do_publish_exec(void);
void do_publish_wait(void);
void do_publish_batch(void);
/* api_subscribe.c: */
void do_subscribe(void);
void do_unsubscribe(void);
void do_ref(void);
void do_unref(void);
void do_fd(void);
void do_destroy(void);
void unsubscribe(struct subscriber *subscriber);
void unref(struct subscriber *subscriber);
/* api_receive.c: */
void do_receive(void);
void do_receive_batch(void);
void do_wait_pid(void);
void receive(struct subscriber *subscriber, size_t capacity, int64_t timeout_ns);
/* api_misuse.c: calls that must fail. */
void do_bad_calls(void);
void do_bad_create(void);

#endif
