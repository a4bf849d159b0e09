/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The graph of an execution: its atomic accesses and fences, in the order of execution, and RC11's
 * axiom of sequential consistency on it. graph.c has the axiom.
 */
#ifndef MODEL_GRAPH_H
#define MODEL_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#define THREADS_MAX 6
#define CALLBACKS THREADS_MAX /* the callbacks of grace periods are one thread more */
#define CLOCK_SIZE (THREADS_MAX + 2)

/* Of each thread, the number of its latest event that is included; 0: none. */
struct clock {
    uint16_t at[CLOCK_SIZE];
};

/*
 * What precedes a point of a thread. `strong` and `ordered` serve only to see cheaply that psc
 * orders two seq_cst fences anyway.
 */
struct clocks {
    struct clock before;  /* by happens-before */
    struct clock causal;  /* by sb ∪ rf */
    struct clock strong;  /* by happens-before, or by psc up to the latest fence */
    struct clock ordered; /* by psc, for a fence here */
};

struct graph_event {
    uint8_t thread;
    bool access, write, total; /* neither an access: a fence; total: seq_cst */
    uint16_t time;             /* in its thread */
    uint16_t location;
    uint16_t position;    /* in mo, of the store that it writes, or else of the one that it reads */
    int at_location;      /* the event before at this location, or -1 */
    struct clock here;    /* happens-before just before it */
    struct clocks clocks; /* it included */
};

/* Context: before the first execution. */
void graph_begin(void);
/* Forget all, at the beginning of an execution. */
void graph_clear(void);

/* Returns the number of a location without events. */
uint16_t graph_location(void);

/* Returns the event's number. */
int graph_add(const struct graph_event *event);
/* Take back the one that was added last. */
void graph_drop(void);
const struct graph_event *graph_event(int number);

/* A seq_cst fence of all threads at once, each at its time; 0: the thread does not take part. */
void graph_add_barrier(const uint16_t *times, const struct clocks *clocks);

/* A store comes into mo at `position` (by 1), or goes from there (by -1). */
void graph_move(uint16_t location, unsigned position, int by);

/* Returns the latest position at a location of what happens before. */
unsigned graph_known(uint16_t location, const struct clock *before);

/*
 * Whether a seq_cst operation of `thread` at this point, or one before, is behind another by
 * sb ∪ rf, but perhaps not by psc. If none is, all of psc may be taken to follow the order of
 * execution.
 */
bool graph_is_loose(unsigned thread, const struct clocks *clocks, bool total);

/*
 * Whether psc is acyclic. `needed`: and each edge of psc against the order of execution is part of
 * a cycle of sb ∪ rf ∪ psc, so that no order of execution is without such edges.
 */
bool graph_is_consistent(bool needed);

#endif
