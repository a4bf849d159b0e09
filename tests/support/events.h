/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Making events and buses for tests, and looking at what became of them. */
#ifndef EVENTS_H
#define EVENTS_H

#include "threads.h"

#include <exitbus/exitbus.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

/* glibc's own; musl has none of them. */
#ifndef W_EXITCODE
#define W_EXITCODE(code, signal) ((code) << 8 | (signal))
#define W_STOPCODE(signal) ((signal) << 8 | 0x7f)
#define WCOREFLAG 0x80
#endif

static inline struct exitbus *bus_new(void)
{
    struct exitbus *bus;
    must_equal(exitbus_create(&bus, NULL), 0);
    return bus;
}

static inline struct exitbus_subscription *
subscribe_flags(struct exitbus *bus, struct exitbus_topic topic, uint32_t flags)
{
    struct exitbus_subscription *subscription;
    must_equal(exitbus_subscribe(bus, topic, flags, &subscription), 0);
    return subscription;
}

static inline struct exitbus_subscription *subscribe(struct exitbus *bus,
                                                     struct exitbus_topic topic)
{
    return subscribe_flags(bus, topic, 0);
}

static inline struct exitbus_stats stats_of(struct exitbus *bus)
{
    struct exitbus_stats stats;
    must_equal(exitbus_stats(bus, &stats), 0);
    return stats;
}

/* An id of `size` bytes; different sizes and fillings give different ids. */
static inline void id_fill(char *id, size_t size, char filling)
{
    for (size_t i = 0; i < size; i++)
        id[i] = (char)(filling + (char)(i % 16));
    id[size] = '\0';
}

static inline struct exitbus_event pid_event(pid_t pid)
{
    return (struct exitbus_event){.kind = EXITBUS_EVENT_PID, .pid = pid};
}

static inline struct exitbus_event exec_event(const char *container_id, const char *exec_id)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EXEC};
    must(strlen(container_id) <= EXITBUS_ID_MAX && strlen(exec_id) <= EXITBUS_ID_MAX);
    memcpy(event.container_id, container_id, strlen(container_id) + 1);
    memcpy(event.exec_id, exec_id, strlen(exec_id) + 1);
    return event;
}

/* Every field given a value of its own, none of them 0. */
static inline struct exitbus_event full_event(uint8_t kind)
{
    struct exitbus_event event = {.seq = 0x1112131415161718,
                                  .pid = 0x21222324,
                                  .kind = kind,
                                  .flags = EXITBUS_EVENT_CORE_DUMPED | EXITBUS_EVENT_STATUS_LOST,
                                  .container_id_size = 0x31,
                                  .exec_id_size = 0x32,
                                  .status = 0x41424344,
                                  .exit_code = -0x51525354,
                                  .monotonic_ns = 0x6162636465666768,
                                  .realtime_ns = 0x7172737475767778,
                                  .user_us = 0x8182838485868788,
                                  .system_us = 0x9192939495969798,
                                  .max_rss_kib = 0xa1a2a3a4a5a6a7a8};
    if (kind == EXITBUS_EVENT_EXEC) {
        memcpy(event.container_id, "container", sizeof "container");
        memcpy(event.exec_id, "exec", sizeof "exec");
    }
    return event;
}

/* All that a publisher gives is in what was received; seq and the sizes are publish's to set. */
static inline bool event_carries(const struct exitbus_event *received,
                                 const struct exitbus_event *given)
{
    return received->pid == given->pid && received->kind == given->kind &&
           received->flags == given->flags && received->status == given->status &&
           received->exit_code == given->exit_code &&
           received->monotonic_ns == given->monotonic_ns &&
           received->realtime_ns == given->realtime_ns && received->user_us == given->user_us &&
           received->system_us == given->system_us && received->max_rss_kib == given->max_rss_kib &&
           strcmp(received->container_id, given->container_id) == 0 &&
           strcmp(received->exec_id, given->exec_id) == 0 &&
           received->container_id_size == strlen(given->container_id) &&
           received->exec_id_size == strlen(given->exec_id);
}

#endif
