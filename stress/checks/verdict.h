/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What was checked, by guarantee, and what was found. Violations of what the subject claims are
 * printed and make the run fail; the others are counted.
 */
#ifndef STRESS_VERDICT_H
#define STRESS_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of the SUBJECT_… bits. */
enum guarantee {
    NO_LOSS,
    STRICT_FIFO,
    NONE_AFTER_UNSUBSCRIBE,
    NEVER_BLOCKS,
    ANY_CONTEXT,
    DEFERRED_FREEING,
    BOUNDED_MEMORY,
    CLEAN_FAILURE,
    FORK_SAFE,
    PRODUCER_FIFO,
    REST,
    LOOPS_TOLD_ONCE,
    START_FIRST,
    LEADER_LAST,
    WAITS_END,
    SIGNALS_HIT,
    GUARANTEES
};

extern const char *const guarantee_ids[GUARANTEES];
extern const char *const guarantee_names[GUARANTEES];

/* What a run has come to, all told. */
enum verdict {
    VERDICT_PASS,         /* each guarantee that is claimed was checked often enough, and held */
    VERDICT_FAIL,         /* one was violated */
    VERDICT_INCONCLUSIVE, /* none was violated; one was checked too rarely, or a scenario lacks */
    VERDICT_CRASH,        /* the process of the run has ended before its time */
    VERDICT_HANG,         /* a call has not returned */
    VERDICTS
};

extern const char *const verdict_names[VERDICTS];

/* So many violations of each guarantee are kept in full. */
#define VIOLATIONS_KEPT_EACH 5
#define VIOLATIONS_KEPT (GUARANTEES * VIOLATIONS_KEPT_EACH)

struct violation {
    enum guarantee guarantee;
    double time_s;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    char thread[24];
    char text[256];
};

/* Make room for all of it. Context: before the run. */
void verdict_init(void);

/* Count checks that were made, whatever they have found. */
void verdict_checked(enum guarantee guarantee, uint64_t checks);

/* Report a violation: the first few of each guarantee in full, all of them counted. */
void verdict_violated(enum guarantee guarantee, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

bool verdict_claimed(enum guarantee guarantee);
/* Checks without which it does not count as held. */
uint64_t verdict_wanted(enum guarantee guarantee);
/* It is claimed, and was checked too rarely. */
bool verdict_too_few(enum guarantee guarantee);
uint64_t verdict_checks(enum guarantee guarantee);
uint64_t verdict_violations(enum guarantee guarantee);
/* The first of a guarantee, or NULL. */
const struct violation *verdict_first(enum guarantee guarantee);
/* Those kept, in no special order. */
size_t verdict_kept(const struct violation *violations[VIOLATIONS_KEPT]);
/* Nothing that is claimed was violated. */
bool verdict_good(void);

#endif
