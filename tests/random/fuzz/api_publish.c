/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Fuzzing the API: publish. See fuzz_api.c. */
#include "scene.h"

/* The bus has returned `result`; the specification has its word. */
static void published(const struct exitbus_event *events, size_t count, uint64_t began_ns,
                      int result, const uint64_t *seq)
{
    trace("    = %d", result);
    if (result == -ENOMEM && refusing()) {
        if (seq)
            must_be_untouched(*seq);
        return;
    }
    uint64_t first;
    int expected = reference_publish(&scene.model, events, count, began_ns, &first);
    must(reference_error_same(&scene.model, expected, result));
    if (result == 0 && seq)
        must_equal(*seq, first);
    if (result != 0 && seq)
        must_be_untouched(*seq);
    if (result == 0) /* and so whatever came before is complete */
        scene.stalled = refusing();
    scene.was_stalled |= scene.stalled;
}

void do_publish(void)
{
    struct exitbus_event event;
    input_event(&scene.input, &event);
    uint64_t seq, began_ns = reference_now();
    memset(&seq, UNTOUCHED, sizeof seq);
    bool want_seq = event.exit_code & 1;
    trace("publish(kind %u, flags %#x, pid %d, \"%.128s\", \"%.128s\")", event.kind, event.flags,
          event.pid, event.container_id, event.exec_id);
    int result = exitbus_publish(scene.bus, &event, want_seq ? &seq : NULL);
    published(&event, 1, began_ns, result, want_seq ? &seq : NULL);
}

void do_publish_pid(void)
{
    pid_t pid = input_pid(&scene.input);
    int exit_code = (int)input_number(&scene.input, 2) - 256;
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID,
                                  .pid = pid,
                                  .exit_code = exit_code,
                                  .status = (int)((unsigned)exit_code << 8 & 0xff00)};
    uint64_t began_ns = reference_now();
    trace("publish_pid(%d, %d)", pid, exit_code);
    published(&event, 1, began_ns, exitbus_publish_pid(scene.bus, pid, exit_code), NULL);
}

void do_publish_exec(void)
{
    char container_id[EXITBUS_ID_MAX + 2], exec_id[EXITBUS_ID_MAX + 2];
    input_id(&scene.input, container_id);
    input_id(&scene.input, exec_id);
    int exit_code = byte();
    struct exitbus_event event = {
        .kind = EXITBUS_EVENT_EXEC, .exit_code = exit_code, .status = exit_code << 8};
    memcpy(event.container_id, container_id, sizeof event.container_id);
    memcpy(event.exec_id, exec_id, sizeof event.exec_id);
    uint64_t began_ns = reference_now();
    trace("publish_exec(\"%s\", \"%s\", %d)", container_id, exec_id, exit_code);
    int result = exitbus_publish_exec(scene.bus, container_id, exec_id, exit_code);
    published(&event, 1, began_ns, result, NULL);
}

void do_publish_wait(void)
{
    pid_t pid = input_pid(&scene.input);
    uint8_t shape = byte();
    int status =
        shape & 1 ? (int)input_number(&scene.input, 4) : (int)input_number(&scene.input, 2);
    struct rusage usage = {.ru_utime = {.tv_sec = byte(), .tv_usec = byte()},
                           .ru_stime = {.tv_sec = 0, .tv_usec = 999999},
                           .ru_maxrss = shape};
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = pid};
    if (!reference_status(status, &event))
        event.kind = 0; /* which is refused, too */
    if (shape & 2) {
        event.user_us =
            (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec;
        event.system_us = 999999;
        event.max_rss_kib = shape;
    }
    uint64_t began_ns = reference_now();
    trace("publish_wait(%d, %#x)", pid, (unsigned)status);
    int result = exitbus_publish_wait(scene.bus, pid, status, shape & 2 ? &usage : NULL);
    published(&event, 1, began_ns, result, NULL);
}

void do_publish_batch(void)
{
    static struct exitbus_event events[EXITBUS_BATCH_MAX + 1];
    uint8_t shape = byte();
    size_t count = shape < 250 ? shape % 8u : EXITBUS_BATCH_MAX - 4 + shape % 6u; /* 60 to 65 */
    for (size_t i = 0; i < count; i++) {
        if (i < 8)
            input_event(&scene.input, &events[i]);
        else
            events[i] = events[i % 8];
    }
    uint64_t seq, began_ns = reference_now();
    memset(&seq, UNTOUCHED, sizeof seq);
    trace("publish_batch(%zu)", count);
    int result = exitbus_publish_batch(scene.bus, events, count, &seq);
    published(events, count, began_ns, result, &seq);
}
