/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * RC11's axiom of sequential consistency (Lahav, Vafeiadis, Kang, Hur, Dreyer: Repairing Sequential
 * Consistency in C/C++11, PLDI 2017), on the graph of an execution:
 *
 *   scb      = sb ∪ sb≠loc; hb; sb≠loc ∪ hb|loc ∪ mo ∪ rb
 *   psc_base = ([Esc] ∪ [Fsc]; hb?); scb; ([Esc] ∪ hb?; [Fsc])
 *   psc_F    = [Fsc]; (hb ∪ hb; eco; hb); [Fsc]
 *   psc      = psc_base ∪ psc_F is acyclic
 *
 * Esc are the seq_cst accesses and fences, Fsc the fences; they are the nodes here.
 *
 *  1. At one location, positions in mo decide mo, rb and eco: an access stands where the store is
 *     that it writes, or else the one that it reads.
 *  2. So of the accesses that a fence happens before, the earliest in mo counts, and of those that
 *     happen before the fence, the latest.
 *  3. Clocks decide sb and hb, because each event has a number of its own in its thread.
 */
#include "graph.h"

#include "model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EVENTS_MAX 131072
#define GRAPH_LOCATIONS_MAX 16384
#define NODES_MAX 1024
#define WORDS (NODES_MAX / 64)

struct node {
    bool fence, loose; /* loose: so was the graph before this node */
    uint8_t thread;
    uint16_t location;
    uint16_t times[CLOCK_SIZE]; /* in each thread that it is an event of; else 0 */
    int event;                  /* -1: a barrier of all threads */
    struct clock here;
    struct clocks clocks;
};

/* At one location, the positions of what a node is before, and of what is before it. */
struct reach {
    int first, first_write, last, last_write, last_read;
};

typedef uint64_t edges[NODES_MAX][WORDS];

static struct graph {
    struct graph_event events[EVENTS_MAX];
    int event_count;
    int newest[GRAPH_LOCATIONS_MAX]; /* event at each location, or -1 */
    int location_count;
    struct node nodes[NODES_MAX];
    int node_count;
    bool loose;
    struct reach reaches[NODES_MAX];
    edges psc, causal;
} * graph;

void graph_begin(void)
{
    graph = mmap(NULL, sizeof *graph, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (graph == MAP_FAILED)
        exit(3);
}

void graph_clear(void)
{
    graph->event_count = graph->location_count = graph->node_count = 0;
    graph->loose = false;
}

/* ---------------------------------------------------------------------------------- building */

uint16_t graph_location(void)
{
    if (graph->location_count == GRAPH_LOCATIONS_MAX)
        model_violation("too many locations for the explorer", __FILE__, __LINE__);
    graph->newest[graph->location_count] = -1;
    return (uint16_t)graph->location_count++;
}

/* Does it happen before (or precede otherwise) what has this clock? */
static bool is_in(const struct node *node, const struct clock *clock)
{
    for (int i = 0; i < CLOCK_SIZE; i++)
        if (node->times[i] && clock->at[i] >= node->times[i])
            return true;
    return false;
}

bool graph_is_loose(unsigned thread, const struct clocks *clocks, bool total)
{
    if (graph->loose || !total)
        return graph->loose;
    for (int i = 0; i < graph->node_count; i++) {
        const struct node *node = &graph->nodes[i];
        if (!node->times[thread] && is_in(node, &clocks->causal) &&
            !(node->fence && is_in(node, &clocks->ordered)))
            return true;
    }
    return false;
}

static struct node *add_node(void)
{
    if (graph->node_count == NODES_MAX)
        model_violation("too many seq_cst operations for the explorer", __FILE__, __LINE__);
    struct node *node = &graph->nodes[graph->node_count++];
    *node = (struct node){.event = -1, .fence = true, .loose = graph->loose};
    return node;
}

int graph_add(const struct graph_event *event)
{
    int number = graph->event_count;
    if (number == EVENTS_MAX)
        model_violation("too many events for the explorer", __FILE__, __LINE__);
    struct graph_event *added = &graph->events[graph->event_count++];
    *added = *event;
    if (added->access) {
        added->at_location = graph->newest[event->location];
        graph->newest[event->location] = number;
    }
    if (event->total) {
        bool loose = graph_is_loose(event->thread, &event->clocks, true);
        struct node *node = add_node();
        node->event = number;
        node->fence = !event->access;
        node->thread = event->thread;
        node->location = event->location;
        node->times[event->thread] = event->time;
        node->here = event->here;
        node->clocks = event->clocks;
        graph->loose = loose;
    }
    return number;
}

void graph_drop(void)
{
    const struct graph_event *event = &graph->events[--graph->event_count];
    if (event->access)
        graph->newest[event->location] = event->at_location;
    if (event->total)
        graph->loose = graph->nodes[--graph->node_count].loose;
}

const struct graph_event *graph_event(int number)
{
    return &graph->events[number];
}

void graph_add_barrier(const uint16_t *times, const struct clocks *clocks)
{
    struct node *node = add_node();
    memcpy(node->times, times, sizeof node->times);
    node->clocks = *clocks;
}

void graph_move(uint16_t location, unsigned position, int by)
{
    for (int i = graph->newest[location]; i >= 0; i = graph->events[i].at_location)
        if (graph->events[i].position >= position)
            graph->events[i].position = (uint16_t)(graph->events[i].position + by);
}

static bool happens_before(const struct graph_event *event, const struct clock *clock)
{
    return clock->at[event->thread] >= event->time;
}

unsigned graph_known(uint16_t location, const struct clock *before)
{
    unsigned known = 0;
    for (int i = graph->newest[location]; i >= 0; i = graph->events[i].at_location) {
        const struct graph_event *event = &graph->events[i];
        if (event->position > known && happens_before(event, before))
            known = event->position;
    }
    return known;
}

/* -------------------------------------------------------------------------------- edges by hb */

static void add_edge(edges matrix, int from, int to)
{
    matrix[from][to / 64] |= (uint64_t)1 << to % 64;
}

static bool has_edge(edges matrix, int from, int to)
{
    return matrix[from][to / 64] >> to % 64 & 1;
}

static bool leads_away(const struct graph_event *event, const struct node *node)
{
    return event->thread == node->thread && (!event->access || event->location != node->location);
}

/* [from]; sb≠loc; hb; sb≠loc; [to], of two accesses */
static bool is_before_by_others(const struct node *from, const struct node *to)
{
    int first = from->event + 1, last = to->event - 1;
    while (first < graph->event_count && !leads_away(&graph->events[first], from))
        first++;
    while (last >= 0 && !leads_away(&graph->events[last], to))
        last--;
    if (first >= graph->event_count || last < 0)
        return false;
    return happens_before(&graph->events[first], &graph->events[last].clocks.before);
}

/* An access at the location of `at`, behind `from` and before `to` (or the same as either). */
static bool is_before_at(const struct node *from, const struct node *to, const struct node *at)
{
    for (int i = graph->newest[at->location]; i >= 0; i = graph->events[i].at_location) {
        const struct graph_event *event = &graph->events[i];
        if (i != at->event && is_in(from, &event->clocks.before) &&
            happens_before(event, &to->clocks.before))
            return true;
    }
    return false;
}

static bool is_before(const struct node *from, const struct node *to)
{
    if (!is_in(from, &to->clocks.before))
        return false;
    if (from->fence && to->fence)
        return true;
    if (from->fence)
        return is_in(from, &to->here) || is_before_at(from, to, to);
    if (to->fence) {
        const struct graph_event *access = &graph->events[from->event];
        return to->clocks.before.at[access->thread] > access->time || is_before_at(from, to, from);
    }
    return from->thread == to->thread || from->location == to->location ||
           is_before_by_others(from, to);
}

/* -------------------------------------------------------------------- edges by mo, rb and eco */

static bool is_behind(const struct graph_event *event, int number, const struct node *node)
{
    return node->fence ? is_in(node, &event->clocks.before) : number == node->event;
}

static bool is_ahead(const struct graph_event *event, int number, const struct node *node)
{
    return node->fence ? happens_before(event, &node->clocks.before) : number == node->event;
}

static void raise(int *position, int to)
{
    if (*position < to)
        *position = to;
}

static void lower(int *position, int to)
{
    if (*position > to)
        *position = to;
}

static struct reach reach_of(const struct node *node, int location)
{
    struct reach reach = {INT32_MAX, INT32_MAX, -1, -1, -1};
    for (int i = graph->newest[location]; i >= 0; i = graph->events[i].at_location) {
        const struct graph_event *event = &graph->events[i];
        if (is_behind(event, i, node)) {
            lower(&reach.first, event->position);
            if (event->write)
                lower(&reach.first_write, event->position);
        }
        if (is_ahead(event, i, node)) {
            raise(&reach.last, event->position);
            raise(event->write ? &reach.last_write : &reach.last_read, event->position);
        }
    }
    return reach;
}

static bool goes_to(const struct reach *from, const struct reach *to, bool fences)
{
    if (from->first < to->last_write)
        return true;
    return fences && (from->first < to->last || from->first_write <= to->last_read);
}

static bool is_shared(int location)
{
    int newest = graph->newest[location];
    for (int i = newest; i >= 0; i = graph->events[i].at_location)
        if (graph->events[i].thread != graph->events[newest].thread)
            return true;
    return false;
}

static void add_edges_at(int location)
{
    for (int i = 0; i < graph->node_count; i++)
        graph->reaches[i] = reach_of(&graph->nodes[i], location);
    /* From a node to itself, too: a barrier is a fence of several threads. A thread that reads
     * behind it misses nothing that another thread has read or written ahead of it. */
    for (int from = 0; from < graph->node_count; from++)
        for (int to = 0; to < graph->node_count; to++)
            if (goes_to(&graph->reaches[from], &graph->reaches[to],
                        graph->nodes[from].fence && graph->nodes[to].fence))
                add_edge(graph->psc, from, to);
}

/* ------------------------------------------------------------------------------------ the axiom */

static void find_edges(void)
{
    memset(graph->psc, 0, sizeof graph->psc[0] * (size_t)graph->node_count);
    memset(graph->causal, 0, sizeof graph->causal[0] * (size_t)graph->node_count);
    for (int from = 0; from < graph->node_count; from++)
        for (int to = from + 1; to < graph->node_count; to++) {
            const struct node *node = &graph->nodes[from], *other = &graph->nodes[to];
            if (is_before(node, other))
                add_edge(graph->psc, from, to);
            if (is_in(node, &other->clocks.causal))
                add_edge(graph->causal, from, to);
        }
    for (int location = 0; location < graph->location_count; location++)
        if (is_shared(location))
            add_edges_at(location);
}

static void close_transitively(edges matrix)
{
    int words = (graph->node_count + 63) / 64;
    for (int by = 0; by < graph->node_count; by++)
        for (int from = 0; from < graph->node_count; from++)
            if (has_edge(matrix, from, by))
                for (int w = 0; w < words; w++)
                    matrix[from][w] |= matrix[by][w];
}

/* Is each edge of psc that goes back in the order of execution part of a cycle? */
static bool going_back_is_needed(void)
{
    for (int i = 0; i < graph->node_count; i++)
        for (int w = 0; w < WORDS; w++)
            graph->causal[i][w] |= graph->psc[i][w];
    close_transitively(graph->causal);
    for (int from = 0; from < graph->node_count; from++)
        for (int to = 0; to < from; to++)
            if (has_edge(graph->psc, from, to) && !has_edge(graph->causal, to, from))
                return false;
    return true;
}

bool graph_is_consistent(bool needed)
{
    find_edges();
    if (needed && !going_back_is_needed())
        return false;
    close_transitively(graph->psc);
    for (int i = 0; i < graph->node_count; i++)
        if (has_edge(graph->psc, i, i))
            return false;
    return true;
}
