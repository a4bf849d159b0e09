/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The fewest calls that are still wrong, and lanes of them: see shrink.h. */
#include "shrink.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------------- shrink */

/* Does this one go, when the unit that `chosen` stands for goes? */
static bool goes(const struct linear_operation *chosen, const struct linear_operation *one)
{
    bool same_subscription =
        one->kind != LINEAR_PUBLISH && one->subscription == chosen->subscription;
    switch (chosen->kind) {
    case LINEAR_SUBSCRIBE:
        return same_subscription;
    case LINEAR_UNSUBSCRIBE:
        return same_subscription && (one->kind == LINEAR_UNSUBSCRIBE ||
                                     (one->kind == LINEAR_RECEIVE && one->result == LINEAR_CLOSED));
    case LINEAR_PUBLISH:
        return (one->kind == LINEAR_PUBLISH ||
                (one->kind == LINEAR_RECEIVE && one->result == LINEAR_VALUE)) &&
               one->value == chosen->value;
    default:
        return one == chosen && one->result != LINEAR_VALUE;
    }
}

/* The history without a unit. Returns how many are left. */
static size_t without(const struct linear_operation *operations, size_t count, size_t chosen,
                      struct linear_operation *rest)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        if (!goes(&operations[chosen], &operations[i]))
            rest[left++] = operations[i];
    return left;
}

/* Leave out one unit of that kind, if what is left is still wrong. */
static bool shrink_once(struct linear_operation *operations, size_t *count, uint64_t budget,
                        enum linear_kind kind)
{
    struct linear_operation rest[LINEAR_OPERATIONS_MAX];
    for (size_t i = 0; i < *count; i++) {
        if (operations[i].kind != kind)
            continue;
        size_t left = without(operations, *count, i, rest);
        if (left == *count || linear_check(rest, left, budget, NULL) != LINEAR_NO)
            continue;
        memcpy(operations, rest, left * sizeof *rest);
        *count = left;
        return true;
    }
    return false;
}

size_t shrink(struct linear_operation *operations, size_t count, uint64_t budget)
{
    /* The largest units first. */
    static const enum linear_kind kinds[] = {LINEAR_SUBSCRIBE, LINEAR_PUBLISH, LINEAR_UNSUBSCRIBE,
                                             LINEAR_RECEIVE};
    bool again = true;
    while (again) {
        again = false;
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            while (shrink_once(operations, &count, budget, kinds[k]))
                again = true;
    }
    return count;
}

/* ---------------------------------------------------------------------------------------- lanes */

#define COLUMN 3 /* characters: a bar, and a number of two digits */

static int by_time(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return (one > other) - (one < other);
}

/* The times of all begins and ends, each once, in order. Returns how many. */
static size_t moments(const struct linear_operation *operations, size_t count, uint64_t *times)
{
    size_t all = 0, different = 0;
    for (size_t i = 0; i < count; i++) {
        times[all++] = operations[i].begin_ns;
        times[all++] = operations[i].end_ns;
    }
    qsort(times, all, sizeof *times, by_time);
    for (size_t i = 0; i < all; i++)
        if (i == 0 || times[i] != times[different - 1])
            times[different++] = times[i];
    return different;
}

static size_t place_of(uint64_t time, const uint64_t *times)
{
    size_t place = 0;
    while (times[place] < time)
        place++;
    return place * COLUMN;
}

static void draw_lane(FILE *file, const struct linear_operation *operations, size_t count,
                      uint32_t thread, const uint64_t *times)
{
    char lane[2 * LINEAR_OPERATIONS_MAX * COLUMN + 2 * COLUMN];
    memset(lane, ' ', sizeof lane);
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        if (operations[i].thread != thread)
            continue;
        char number[24];
        size_t from = place_of(operations[i].begin_ns, times);
        size_t to = place_of(operations[i].end_ns, times);
        if (to == from) /* by a clock that had not moved */
            to = from + COLUMN;
        memset(lane + from, '=', to - from);
        lane[from] = lane[to] = '|';
        snprintf(number, sizeof number, "%zu", i + 1);
        memcpy(lane + from + 1, number, strlen(number));
        end = to + 1;
    }
    fprintf(file, "  thread %" PRIu32 "  %.*s\n", thread, (int)end, lane);
}

static bool is_named(const struct linear_explanation *why, size_t index)
{
    for (size_t i = 0; why && i < why->stuck_count; i++)
        if (why->stuck[i] == index)
            return true;
    return false;
}

static void name_call(FILE *file, const struct linear_operation *o)
{
    static const char *const results[] = {"ok", "", "nothing", "closed"};
    if (o->kind == LINEAR_PUBLISH)
        fprintf(file, "publish event %" PRIu32 ", topic %u", o->value, o->topic);
    else if (o->kind == LINEAR_SUBSCRIBE)
        fprintf(file, "subscribe %u to topics 0x%02" PRIx32, o->subscription, o->topics);
    else if (o->kind == LINEAR_UNSUBSCRIBE)
        fprintf(file, "unsubscribe %u", o->subscription);
    else if (o->result == LINEAR_VALUE)
        fprintf(file, "receive %u: event %" PRIu32, o->subscription, o->value);
    else
        fprintf(file, "receive %u: %s", o->subscription, results[o->result]);
}

void shrink_print(FILE *file, const struct linear_operation *operations, size_t count,
                  const struct linear_explanation *why)
{
    uint64_t times[2 * LINEAR_OPERATIONS_MAX];
    uint32_t last_thread = 0;
    moments(operations, count, times);
    for (size_t i = 0; i < count; i++)
        if (operations[i].thread > last_thread)
            last_thread = operations[i].thread;
    for (uint32_t thread = 0; thread <= last_thread; thread++)
        for (size_t i = 0; i < count; i++)
            if (operations[i].thread == thread) {
                draw_lane(file, operations, count, thread, times);
                break;
            }
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "  %2zu  ", i + 1);
        name_call(file, &operations[i]);
        fprintf(file, "%s\n", is_named(why, i) ? "   <- has no place" : "");
    }
}
