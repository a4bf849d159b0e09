/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What exitbus has to reach, as data. Times vary between machines; a target compares numbers of one
 * run: exitbus with peers, or with itself at another parameter, and only where a number of its own
 * says it all (bytes of an event) with a constant.
 */
#ifndef BENCH_TARGETS_H
#define BENCH_TARGETS_H

#include "bench.h"

enum relation {
    AT_MOST,  /* value / base <= limit; base 1 if compared with a constant */
    AT_LEAST, /* value / base >= limit */
    FASTER,   /* as good as the base times the limit: base / value for times, value / base for rates
               */
};

struct target {
    const char *workload, *parameter, *metric; /* of exitbus */
    /*
     * With whom: BEST_PEER, BEST_FIFO (the best that keeps strict FIFO), NAME,… (the best of
     * these), EXITBUS (its own, see base_parameter) or NULL (a constant).
     */
    const char *peers;
    const char *base_parameter; /* NULL: the same */
    enum relation relation;
    double limit;
    const char *variant; /* which exitbus: a peer's name; NULL: exitbus itself */
};

#define BEST_PEER "*"
#define BEST_FIFO "fifo"

extern const struct target targets[];
extern const size_t target_count;

/* One table of all targets that this run measured. Returns how many were missed. */
unsigned targets_print(void);

#endif
