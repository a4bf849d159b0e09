/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Random sequences of calls, made on a bus and on an independent reference (reference.h: one array
 * and a place in it for each subscription), on one thread: every result must be the same, event by
 * event and field by field. Where one differs the sequence is shrunk, by leaving out ever smaller
 * parts of it and then by making arguments simpler, and what is left is printed as C.
 *
 *   differential [--seed N] [--sequences N]
 *
 * Sequence k has the seed N + k: a failure names its own. Exit status: 0 no difference, 1 one.
 */
#include "calls.h"
#include "support/threads.h"

#include <getopt.h>
#include <string.h>

#define SEQUENCES_DEFAULT 8000 /* about 5 s */
#define CALLS_MAX 400
#define CALLS_MIN 20

struct sequence {
    struct call calls[CALLS_MAX + CALL_SLOTS];
    size_t count;
    bool own_allocator;
};

/* -------------------------------------------------------------------------------- generating */

/* A seed's neighbours must not resemble it (splitmix64); never 0. */
static uint64_t random_from(uint64_t seed)
{
    seed = (seed + 1) * 0x9e3779b97f4a7c15ULL;
    seed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9ULL;
    return (seed ^ seed >> 27) | 1;
}

static enum call_kind random_kind(uint64_t *random)
{
    uint32_t sum = 0;
    for (int kind = 0; kind < CALL_KINDS; kind++)
        sum += call_weights[kind];
    uint32_t number = random_below(random, sum);
    int kind = 0;
    while (number >= call_weights[kind])
        number -= call_weights[kind++];
    return (enum call_kind)kind;
}

/* Half of all sequences use few slots, pids and ids, so that one is used many times. */
static void sequence_generate(struct sequence *sequence, uint64_t seed)
{
    uint64_t random = random_from(seed);
    uint32_t narrow = random_below(&random, 2) ? 3 : UINT32_MAX;
    bool with_destroy = random_below(&random, 16) == 0; /* a tenth of a second for ten */
    sequence->own_allocator = random_below(&random, 4) == 0;
    sequence->count = CALLS_MIN + random_below(&random, CALLS_MAX - CALLS_MIN);
    for (size_t i = 0; i < sequence->count; i++) {
        struct call *call = &sequence->calls[i];
        *call = (struct call){.kind = random_kind(&random)};
        if (call->kind == CALL_DESTROY && !with_destroy)
            call->kind = CALL_STATS;
        for (unsigned a = 0; a < CALL_ARGUMENTS; a++) {
            uint32_t bound = call_bounds[call->kind][a];
            if (a < 4 && bound < 30 && bound > narrow)
                bound = a == 1 && call->kind == CALL_SUBSCRIBE ? bound : narrow;
            if (bound > 0)
                call->arguments[a] = random_below(&random, bound);
        }
    }
    for (uint32_t slot = 0; slot < CALL_SLOTS; slot++)
        sequence->calls[sequence->count++] =
            (struct call){.kind = CALL_RECEIVE_ALL, .arguments = {slot}};
}

/* --------------------------------------------------------------------------------- shrinking */

static bool still_differs(const struct sequence *sequence)
{
    return calls_run(sequence->calls, sequence->count, sequence->own_allocator) != NULL;
}

static bool keep_if_differs(struct sequence *sequence, const struct sequence *simpler)
{
    if (!still_differs(simpler))
        return false;
    *sequence = *simpler;
    return true;
}

/* So many calls are tried to be left out everywhere; more only at multiples of their number. */
#define EVERYWHERE_MAX 16

/* Leave out `size` calls wherever that is possible. */
static bool leave_out(struct sequence *sequence, size_t size)
{
    bool changed = false;
    size_t at = 0;
    while (at < sequence->count) {
        struct sequence simpler = *sequence;
        size_t gone = sequence->count - at < size ? sequence->count - at : size;
        memmove(simpler.calls + at, simpler.calls + at + gone,
                (simpler.count - at - gone) * sizeof simpler.calls[0]);
        simpler.count -= gone;
        if (keep_if_differs(sequence, &simpler))
            changed = true;
        else
            at += size > EVERYWHERE_MAX ? size : 1;
    }
    return changed;
}

/* The least value of an argument that will do, of 0, half, and one less. */
static bool simplify_argument(struct sequence *sequence, size_t at, unsigned argument)
{
    bool changed = false;
    for (;;) {
        uint32_t value = sequence->calls[at].arguments[argument];
        const uint32_t simpler_values[] = {0, value / 2, value - 1};
        bool simpler_will_do = false;
        for (unsigned i = 0; i < 3 && value > 0 && !simpler_will_do; i++) {
            struct sequence simpler = *sequence;
            simpler.calls[at].arguments[argument] = simpler_values[i];
            simpler_will_do = keep_if_differs(sequence, &simpler);
        }
        if (!simpler_will_do)
            return changed;
        changed = true;
    }
}

/* A call that does less in place of one that does more. */
static bool simplify_kind(struct sequence *sequence, size_t at)
{
    static const enum call_kind simpler_kinds[CALL_KINDS] = {
        [CALL_PUBLISH_EXEC] = CALL_PUBLISH_PID,
        [CALL_PUBLISH] = CALL_PUBLISH_PID,
        [CALL_PUBLISH_BATCH] = CALL_PUBLISH,
        [CALL_RECEIVE_BATCH] = CALL_RECEIVE,
        [CALL_RECEIVE_ALL] = CALL_RECEIVE,
        [CALL_WAIT_PID] = CALL_RECEIVE,
        [CALL_POLL] = CALL_RECEIVE,
        [CALL_PENDING] = CALL_RECEIVE,
    };
    struct sequence simpler = *sequence;
    struct call *call = &simpler.calls[at];
    if (simpler_kinds[call->kind] == 0)
        return false;
    call->kind = simpler_kinds[call->kind];
    for (unsigned a = 0; a < CALL_ARGUMENTS; a++)
        if (call->arguments[a] >= call_bounds[call->kind][a])
            call->arguments[a] = 0;
    return keep_if_differs(sequence, &simpler);
}

/* One slot's calls can only move together. */
static bool simplify_slot(struct sequence *sequence, uint32_t from, uint32_t to)
{
    struct sequence simpler = *sequence;
    bool used = false;
    for (size_t i = 0; i < simpler.count; i++) {
        struct call *call = &simpler.calls[i];
        if (call_bounds[call->kind][0] != CALL_SLOTS || call->arguments[0] != from)
            continue;
        call->arguments[0] = to;
        used = true;
    }
    return used && keep_if_differs(sequence, &simpler);
}

static bool simplify(struct sequence *sequence)
{
    bool changed = false;
    for (uint32_t from = 1; from < CALL_SLOTS; from++)
        for (uint32_t to = 0; to < from; to++)
            changed |= simplify_slot(sequence, from, to);
    for (size_t at = 0; at < sequence->count; at++) {
        while (simplify_kind(sequence, at))
            changed = true;
        for (unsigned a = 0; a < CALL_ARGUMENTS; a++)
            changed |= simplify_argument(sequence, at, a);
    }
    return changed;
}

static void sequence_shrink(struct sequence *sequence)
{
    bool changed;
    do {
        changed = false;
        for (size_t size = sequence->count; size > 0;
             size = size > EVERYWHERE_MAX ? size / 2 : size - 1)
            changed |= leave_out(sequence, size);
        changed |= simplify(sequence);
    } while (changed);
}

/* ------------------------------------------------------------------------------------ the end */

static void report(uint64_t seed, struct sequence *sequence)
{
    size_t before = sequence->count;
    sequence_shrink(sequence);
    const char *difference = calls_run(sequence->calls, sequence->count, sequence->own_allocator);
    printf("--seed %llu --sequences 1: a difference after %zu calls; %zu are enough:\n",
           (unsigned long long)seed, before, sequence->count);
    for (size_t i = 0; i < sequence->count; i++) {
        printf("    ");
        call_print(stdout, &sequence->calls[i]);
        printf("\n");
    }
    printf("the last of them: %s\n", difference ? difference : "not every time");
}

static bool parse(int argc, char **argv, uint64_t *seed, uint64_t *sequences)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"sequences", required_argument, NULL, 'n'}, {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 's' && option != 'n')
            return false;
        char *end;
        *(option == 's' ? seed : sequences) = strtoull(optarg, &end, 10);
        if (*end || !*optarg)
            return false;
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    static struct sequence sequence;
    uint64_t seed = 1, sequences = SEQUENCES_DEFAULT, calls = 0;
    if (!parse(argc, argv, &seed, &sequences)) {
        fprintf(stderr, "usage: differential [--seed N] [--sequences N]\n");
        return 2;
    }
    for (uint64_t i = 0; i < sequences; i++) {
        sequence_generate(&sequence, seed + i);
        calls += sequence.count;
        if (still_differs(&sequence)) {
            report(seed + i, &sequence);
            return 1;
        }
    }
    printf("%llu sequences, %llu calls, no difference\n", (unsigned long long)sequences,
           (unsigned long long)calls);
    return 0;
}
