/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Is a short concurrent history of a bus one that its sequential specification allows?
 *
 * The specification: publish gives its event the next place in one total order; every subscription
 * that is there at that moment and matches gets the event, in that order; receive takes the oldest
 * event that a subscription has got, or says that there is none, or that unsubscribe has been.
 * Each call takes effect at one point between its invocation and its response, with one relaxation:
 * between the point at which a publish orders its event, and its response, the event reaches the
 * queues one by one. So one subscription may have it while another is still empty.
 *
 * Calls are ordered in time if one's end is before the other's begin. Equal times are concurrent,
 * in one thread, too.
 */
#ifndef STRESS_LINEAR_H
#define STRESS_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#define LINEAR_OPERATIONS_MAX 64
#define LINEAR_SUBSCRIPTIONS_MAX 8

enum linear_kind { LINEAR_PUBLISH, LINEAR_SUBSCRIBE, LINEAR_UNSUBSCRIBE, LINEAR_RECEIVE };

/* OK: of all kinds but receive. Calls that failed, and so did nothing, do not belong here. */
enum linear_result { LINEAR_OK, LINEAR_VALUE, LINEAR_EMPTY, LINEAR_CLOSED };

struct linear_operation {
    uint64_t begin_ns, end_ns; /* invocation and response, by one clock */
    uint32_t thread;           /* for the reader; the check does not look at it */
    uint8_t kind, result;      /* enum linear_kind, enum linear_result */
    uint8_t subscription;      /* below LINEAR_SUBSCRIPTIONS_MAX; of each, one subscribe at most */
    uint8_t topic;             /* PUBLISH: the bit number of the event's topic */
    uint32_t topics;           /* SUBSCRIBE: mask of the topics that match */
    uint32_t value;            /* PUBLISH, RECEIVE with VALUE: the event's number, unique */
};

/* Where a history breaks: what could not be placed after the longest beginning that is allowed. */
struct linear_explanation {
    size_t longest; /* operations in that beginning */
    uint32_t stuck[LINEAR_OPERATIONS_MAX];
    size_t stuck_count;
};

enum linear_verdict {
    LINEAR_YES,
    LINEAR_NO,
    LINEAR_UNDECIDED, /* no verdict within the budget or the memory, or not a history */
};

/*
 * Searches at most `budget` states; if the verdict is NO and `why` is not NULL, as many again for
 * the explanation, which is then the best found.
 */
enum linear_verdict linear_check(const struct linear_operation *operations, size_t count,
                                 uint64_t budget, struct linear_explanation *why);

#endif
