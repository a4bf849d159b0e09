/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Calls as C, for whoever wants to repeat a difference: see calls.h. */
#include "calls.h"

static const char *const subscribe_flags[] = {"0", "EXITBUS_SUBSCRIBE_ONE_SHOT",
                                              "EXITBUS_SUBSCRIBE_STICKY"};

static void print_subscribe(FILE *stream, const struct call *call)
{
    char container_id[EXITBUS_ID_MAX + 1], exec_id[EXITBUS_ID_MAX + 1];
    struct exitbus_topic topic = topic_make(call, container_id, exec_id);
    fprintf(stream, "exitbus_subscribe(bus, ");
    switch (topic.kind) {
    case EXITBUS_TOPIC_ALL:
        fprintf(stream, "exitbus_topic_all()");
        break;
    case EXITBUS_TOPIC_ANY_PID:
        fprintf(stream, "exitbus_topic_any_pid()");
        break;
    case EXITBUS_TOPIC_PID:
        fprintf(stream, "exitbus_topic_pid(%d)", topic.pid);
        break;
    case EXITBUS_TOPIC_ANY_EXEC:
        fprintf(stream, "exitbus_topic_any_exec()");
        break;
    case EXITBUS_TOPIC_CONTAINER:
        fprintf(stream, "exitbus_topic_container(\"%s\")", container_id);
        break;
    case EXITBUS_TOPIC_EXEC:
        fprintf(stream, "exitbus_topic_exec(\"%s\", \"%s\")", container_id, exec_id);
        break;
    }
    fprintf(stream, ", %s, &s%u);", subscribe_flags[call->arguments[4]], call->arguments[0]);
}

static void print_event(FILE *stream, uint32_t number)
{
    struct exitbus_event event;
    event_make(&event, number);
    fprintf(stream, "{.kind = %u, .flags = %u, .pid = %d, .exit_code = %d", event.kind, event.flags,
            event.pid, event.exit_code);
    if (event.kind == EXITBUS_EVENT_EXEC)
        fprintf(stream, ", .container_id = \"%s\", .exec_id = \"%s\"", event.container_id,
                event.exec_id);
    fprintf(stream, "}");
}

static void print_publish(FILE *stream, const struct call *call)
{
    char container_id[EXITBUS_ID_MAX + 1], exec_id[EXITBUS_ID_MAX + 1];
    switch (call->kind) {
    case CALL_PUBLISH_PID:
        fprintf(stream, "exitbus_publish_pid(bus, %d, %u);", call_pids[call->arguments[0]],
                call->arguments[1]);
        return;
    case CALL_PUBLISH_EXEC:
        id_make(container_id, call->arguments[0]);
        id_make(exec_id, call->arguments[1]);
        fprintf(stream, "exitbus_publish_exec(bus, \"%s\", \"%s\", %u);", container_id, exec_id,
                call->arguments[2]);
        return;
    case CALL_PUBLISH:
        fprintf(stream, "exitbus_publish(bus, &(struct exitbus_event)");
        print_event(stream, call->arguments[0]);
        fprintf(stream, ", &seq);");
        return;
    default:
        fprintf(stream, "exitbus_publish_batch(bus, (struct exitbus_event[]){");
        for (uint32_t i = 0; i <= call->arguments[1]; i++) {
            fprintf(stream, i ? ", " : "");
            print_event(stream, call->arguments[0] + i);
        }
        fprintf(stream, "}, %u, &seq);", call->arguments[1] + 1);
    }
}

void call_print(FILE *stream, const struct call *call)
{
    static const char *const formats[CALL_KINDS] = {
        [CALL_RECEIVE] = "exitbus_receive(s%u, &event, 0);",
        [CALL_RECEIVE_ALL] = "while (exitbus_receive_batch(s%u, events, 128, 0) > 0);",
        [CALL_UNSUBSCRIBE] = "exitbus_unsubscribe(s%u);",
        [CALL_REF] = "exitbus_subscription_ref(s%u);",
        [CALL_UNREF] = "exitbus_subscription_unref(s%u);",
        [CALL_POLL] = "poll_once(exitbus_subscription_fd(s%u));",
        [CALL_PENDING] = "exitbus_subscription_pending(s%u);",
    };
    uint32_t first = call->arguments[0], second = call->arguments[1];
    if (call->kind == CALL_SUBSCRIBE)
        print_subscribe(stream, call);
    else if (call->kind <= CALL_PUBLISH_BATCH)
        print_publish(stream, call);
    else if (call->kind == CALL_RECEIVE_BATCH)
        fprintf(stream, "exitbus_receive_batch(s%u, events, %u, 0);", first, second + 1);
    else if (call->kind == CALL_WAIT_PID)
        fprintf(stream, "exitbus_receive_pid(s%u, %d, &event, &discarded, 0);", first,
                call_pids[second]);
    else if (call->kind == CALL_STATS)
        fprintf(stream, "exitbus_stats(bus, &stats);");
    else if (call->kind == CALL_DESTROY)
        fprintf(stream, "exitbus_destroy(bus);");
    else
        fprintf(stream, formats[call->kind], first);
}
