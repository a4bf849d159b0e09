/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The dump of all rings: see dump.h. */
#include "dump.h"
#include "../checks/verdict.h"
#include "shared.h"
#include "worker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PRINTED_CALLS 6
/* Of each thread, in JSON; the trace has all that are not older than a second. */
#define LANE_CALLS 64
#define TRACE_NS 1000000000

struct call {
    uint64_t begin_ns, end_ns; /* end 0: it had not returned */
    int64_t result;
    uint64_t detail;
    uint32_t operation;
};

struct lane {
    char name[24];
    pid_t tid;
    void *object;
    size_t count;
    struct call calls[NOTES + 1];
};

static struct dump {
    struct lane lanes[WORKERS_MAX];
    size_t lane_count;
    uint64_t moment_ns;
    _Atomic int taken; /* 1: being taken, 2: there */
} * dump;              /* shared: see shared.h */

void dump_init(void)
{
    dump = shared_alloc(sizeof *dump);
}

static void take_lane(struct worker *worker, struct lane *lane)
{
    memcpy(lane->name, worker->name, sizeof lane->name);
    lane->tid = atomic_load(&worker->tid);
    lane->object = atomic_load(&worker->object);
    uint64_t noted = atomic_load_explicit(&worker->noted, memory_order_acquire);
    /* The oldest of a full ring is the one that is written next. */
    uint64_t first = noted >= NOTES ? noted - NOTES + 1 : 0;
    lane->count = 0;
    for (uint64_t i = first; i < noted; i++) {
        struct note *note = &worker->notes[i % NOTES];
        lane->calls[lane->count++] = (struct call){
            .begin_ns = atomic_load(&note->begin_ns),
            .end_ns = atomic_load(&note->end_ns),
            .result = atomic_load(&note->result),
            .detail = atomic_load(&note->detail),
            .operation = atomic_load(&note->operation),
        };
    }
    if (atomic_load(&worker->due_ns) != 0)
        lane->calls[lane->count++] = (struct call){.begin_ns = atomic_load(&worker->since_ns),
                                                   .operation = atomic_load(&worker->operation)};
}

void dump_take(void)
{
    int none = 0;
    if (!atomic_compare_exchange_strong(&dump->taken, &none, 1))
        return;
    dump->moment_ns = now_ns();
    for (size_t i = 0; i < WORKERS_MAX; i++)
        if (flag(&workers[i].used))
            take_lane(&workers[i], &dump->lanes[dump->lane_count++]);
    atomic_store(&dump->taken, 2);
}

static double relative_us(uint64_t ns)
{
    return (double)(int64_t)(ns - dump->moment_ns) / 1000;
}

static void describe(const struct call *call, char *text, size_t size)
{
    if (call->end_ns == 0)
        snprintf(text, size, "has not returned");
    else if (call->result < 0)
        snprintf(text, size, "%s", strerror((int)-call->result));
    else if (call->operation == OPERATION_PUBLISH)
        snprintf(text, size, "number %" PRIu64 ", seq %" PRId64, call->detail, call->result);
    else if (call->operation == OPERATION_RECEIVE || call->operation == OPERATION_WAIT)
        snprintf(text, size, "%" PRId64 " events, from number %" PRIu64, call->result,
                 call->detail);
    else
        snprintf(text, size, "%" PRId64 " (%" PRIu64 ")", call->result, call->detail);
}

void dump_print(FILE *file)
{
    if (atomic_load(&dump->taken) != 2)
        return;
    fprintf(file,
            "the last calls of every thread (microseconds from the violation; wait: a receive "
            "with a timeout; fd: a poll of it; else: what it said, and the kind of topic)\n");
    for (size_t i = 0; i < dump->lane_count; i++) {
        const struct lane *lane = &dump->lanes[i];
        fprintf(file, "  %s (tid %d)\n", lane->name, lane->tid);
        size_t first = lane->count > PRINTED_CALLS ? lane->count - PRINTED_CALLS : 0;
        for (size_t c = first; c < lane->count; c++) {
            const struct call *call = &lane->calls[c];
            char text[128];
            describe(call, text, sizeof text);
            fprintf(file, "    %12.1f %-11s %s\n", relative_us(call->begin_ns),
                    operation_names[call->operation % OPERATIONS], text);
        }
    }
}

json_t *dump_json(void)
{
    json_t *array = json_array();
    if (atomic_load(&dump->taken) != 2)
        return array;
    for (size_t i = 0; i < dump->lane_count; i++) {
        const struct lane *lane = &dump->lanes[i];
        json_t *operations = json_array();
        size_t first = lane->count > LANE_CALLS ? lane->count - LANE_CALLS : 0;
        for (size_t c = first; c < lane->count; c++) {
            const struct call *call = &lane->calls[c];
            char text[128];
            describe(call, text, sizeof text);
            json_array_append_new(operations,
                                  json_pack("{s:s, s:f, s:f, s:s}", "name",
                                            operation_names[call->operation % OPERATIONS],
                                            "begin_us", relative_us(call->begin_ns), "end_us",
                                            call->end_ns ? relative_us(call->end_ns) : 0.0,
                                            "detail", text));
        }
        json_array_append_new(
            array, json_pack("{s:s, s:o}", "thread", lane->name, "operations", operations));
    }
    return array;
}

/* ------------------------------------------------------------------------------------- a trace */

/* Microseconds of the run. */
static double run_us(uint64_t ns)
{
    return (double)(int64_t)(ns - world->begin_ns) / 1000;
}

static void name_lane(json_t *events, const char *what, int lane, const char *name)
{
    json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", what, "ph",
                                            "M", "pid", 1, "tid", lane, "args", "name", name));
}

static void trace_call(json_t *events, int lane, const struct call *call)
{
    char text[128];
    uint64_t end_ns = call->end_ns ? call->end_ns : dump->moment_ns;
    if (end_ns + TRACE_NS < dump->moment_ns)
        return;
    describe(call, text, sizeof text);
    json_array_append_new(events, json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:{s:s}}", "name",
                                            operation_names[call->operation % OPERATIONS], "cat",
                                            call->end_ns ? "call" : "unfinished", "ph", "X", "pid",
                                            1, "tid", lane, "ts", run_us(call->begin_ns), "dur",
                                            (double)(int64_t)(end_ns - call->begin_ns) / 1000,
                                            "args", "outcome", text));
}

static void trace_violations(json_t *events)
{
    const struct violation *kept[VIOLATIONS_KEPT];
    size_t count_ = verdict_kept(kept);
    for (size_t i = 0; i < count_; i++) {
        char name[64];
        snprintf(name, sizeof name, "violation of %s %s", guarantee_ids[kept[i]->guarantee],
                 guarantee_names[kept[i]->guarantee]);
        json_array_append_new(events, json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:{s:s, s:s}}",
                                                "name", name, "ph", "i", "s", "g", "pid", 1, "tid",
                                                0, "ts", run_us(kept[i]->time_ns), "args", "thread",
                                                kept[i]->thread, "text", kept[i]->text));
    }
}

int dump_trace(FILE *file)
{
    json_t *events = json_array();
    name_lane(events, "process_name", 0, world->subject_name);
    for (size_t i = 0; atomic_load(&dump->taken) == 2 && i < dump->lane_count; i++) {
        const struct lane *lane = &dump->lanes[i];
        name_lane(events, "thread_name", (int)i + 1, lane->name);
        for (size_t c = 0; c < lane->count; c++)
            trace_call(events, (int)i + 1, &lane->calls[c]);
    }
    trace_violations(events);
    json_t *root = json_pack("{s:s, s:o}", "displayTimeUnit", "ns", "traceEvents", events);
    int failed = json_dumpf(root, file, JSON_COMPACT);
    json_decref(root);
    return failed;
}
