/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The explorer: see model.h.
 *
 * Memory is RC11's: C11 as repaired by Lahav et al. (see graph.c), with release sequences as in
 * C++20. It has no load buffering: no load reads a store that is executed after it.
 *   - A location has its stores in modification order. A view has, for each location, the position
 *     of the oldest store that may still be read. Each thread has one.
 *   - A store carries a message, which an acquiring load adds to its thread's view: the view of the
 *     storing thread, if it is a release; else that of its latest release fence; and the message of
 *     the store that it has read, too, if it is a read-modify-write (release sequences).
 *   - A load may read any store from its view on. A store may come behind any of these, but not
 *     between another one and the read-modify-write that has read that. A read-modify-write does
 *     both.
 *   - A seq_cst fence joins its view with one that all fences share, both ways. Seq_cst stores are
 *     in that one, too. A seq_cst access stays behind each seq_cst store, and each store that
 *     happens before a seq_cst fence.
 *   - membarrier is one seq_cst fence of all threads at once.
 *
 * Why that is RC11's psc
 *  1. Each edge of psc is decided when the later of its two ends is executed. So the rules above
 *     admit just the executions in which psc follows the order of execution.
 *  2. Where psc cannot, each of its edges that goes back is part of a cycle of sb ∪ rf ∪ psc. Then
 *     an access may go further back, as far as coherence allows, if the graph has such a cycle and
 *     psc none. Each operation is checked from then on: with a cycle of psc it is no execution.
 *  3. litmus/run compares outcomes with RC11's axioms, on named and on random programs.
 *
 * Exploration. A choice is which thread goes on, at each operation on a location that more than one
 * thread uses, or where an access takes place in modification order. All choices of an execution
 * are recorded; the next execution repeats all but the last that has an alternative left. Bounds:
 * at most PREEMPTIONS switches away from a thread that could go on, and at most STALE accesses that
 * are not at the latest store, of the latest 60. Within the bounds every execution is run. Which
 * locations are shared is found out as it goes; when one more is, exploration begins anew.
 *
 * Grace periods end as early as they can: as soon as the last section ends that was open when
 * call_rcu was called, the callback runs. So memory comes back at the worst of times.
 */
#define _GNU_SOURCE
#include "graph.h"
#include "model.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK_SIZE (256 << 10)
#define LOCATIONS_MAX 4096
#define STORES_MAX 65536
#define CHOICES_MAX 65536
#define TRACE_MAX 65536
#define CALLBACKS_MAX 256
#define STEPS_MAX 60000
#define SHARED_BITS 16
#define SITES_MAX 512
#define CHANNELS_MAX 16
#define OUTCOMES_MAX 4096
#define RECENT 60      /* of the stores of a location, so many may be chosen from */
#define CHANGES_MAX 16 /* of priority; so the largest depth is one more */
#define MEASURED 100   /* executions from which the number of steps is taken */

enum { MODE_EXHAUSTIVE, MODE_RANDOM };

/* --------------------------------------------------------------------------------- the state */

struct view {
    struct clocks clocks;
    uint16_t count;
    uint16_t at[LOCATIONS_MAX]; /* position of a store in its location's modification order */
};

struct message {
    struct clocks clocks;
    uint16_t count;
    uint16_t *at; /* NULL: empty */
};

struct store {
    uint64_t value;
    struct message message;
    int event;       /* in the graph; -1: none */
    bool rmw, total; /* total: seq_cst */
};

struct location {
    const void *address;
    uint32_t stores[64]; /* by position; the latest 64 are enough */
    uint32_t count;
    uint16_t oldest; /* those before belong to an object that is gone */
    uint16_t graph;  /* its number in the graph */
    uint8_t size;
    uint8_t users; /* threads, a bit each */
    bool plain;    /* not atomic: only its latest store is kept, as the two below */
    uint8_t writer;
    uint16_t time; /* in its thread; 0: every thread knows of it */
};

/* One atomic access, while it is executed. */
struct access {
    unsigned index; /* of its location */
    bool read, write;
    uint64_t wanted; /* by a CAS, which is a write if it reads that */
    bool conditional;
    int order, failure; /* failure: of a CAS that is not a write */
    struct clock here;  /* happens-before just before it */
};

enum status { UNUSED, RUNNABLE, PAUSED, ASLEEP, JOINING, GRACE, ENDED };

struct thread {
    enum status status;
    ucontext_t context;
    char *stack;
    void *(*body)(void *);
    void *argument;
    struct view view, acquired, released; /* acquired: by relaxed loads, for an acquire fence */
    const void *waits_for;
    unsigned joins;
    unsigned nesting;
    void *at_end;     /* what it has given to pthread_setspecific */
    uint64_t section; /* its number, if nesting > 0 */
    int priority;
};

struct callback {
    struct rcu_head *head;
    void (*function)(struct rcu_head *);
    uint64_t before; /* sections with a lower number must have ended */
    bool done;
};

struct event {
    uint8_t thread;
    const char *what;
    const struct model_site *site;
    const void *address;
    uint64_t value;
    int order;
    unsigned later; /* stores in modification order behind the one that it reads or writes */
};

struct choice {
    uint16_t taken, options;
};

static struct state {
    struct thread threads[THREADS_MAX];
    unsigned thread_count, current;
    bool in_callback;
    struct location locations[LOCATIONS_MAX];
    unsigned location_count;
    uint16_t table[1 << SHARED_BITS]; /* address -> location + 1 */
    struct store stores[STORES_MAX];
    unsigned store_count;
    uint16_t *views;
    size_t views_used;
    struct view sequential, ended_sections, grace, once, channels[CHANNELS_MAX];
    struct clock fenced; /* what happens before a seq_cst fence */
    uint16_t times[CLOCK_SIZE];
    bool checked; /* psc is no longer in the order of execution */
    uint64_t sections;
    struct callback callbacks[CALLBACKS_MAX];
    unsigned callback_count;
    unsigned preemptions, stale, depth, steps;
    int lowest; /* priority of who has paused */
    unsigned events;
    ucontext_t outside;
} * now;

static struct kept {
    struct choice choices[CHOICES_MAX];
    unsigned choice_count;
    struct event trace[TRACE_MAX];
    uint8_t shared[1 << SHARED_BITS];
    bool shared_grew;
    struct site {
        const struct model_site *site;
        const char *kind;
        int order, failure;
    } sites[SITES_MAX];
    unsigned site_count;
    uint8_t *dead; /* one for each cache line of the dead range */
    uint64_t random, seed;
    unsigned change_points[CHANGES_MAX];
    char violation[512];
    bool inconsistent; /* the execution is none of RC11's */
    uint64_t outcomes[OUTCOMES_MAX];
    unsigned outcome_count;
    char *data; /* the program's variables as they are before main */
} * kept;

#define VIEWS_BYTES ((size_t)256 << 20)

static struct {
    int mode;
    unsigned preemptions, stale, depth;
    uint64_t executions_max, seed;
    const char *weaken_file, *weaken_part;
    int weaken_line;
    bool sites, trace, quiet;
    const char *without;
} options = {.preemptions = 2, .stale = 2, .depth = 3, .executions_max = UINT64_MAX};

int model_test_main(void);

/* ------------------------------------------------------------------------- saying what is wrong */

static const char *const order_names[] = {"relaxed", "consume", "acquire",
                                          "release", "acq_rel", "seq_cst"};

static const char *base(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

static void print_trace(FILE *out)
{
    for (unsigned i = 0; i < now->events && i < TRACE_MAX; i++) {
        const struct event *e = &kept->trace[i];
        fprintf(out, "%5u  %*sT%u %-8s %-8s %#" PRIx64 " at %p, %s:%d", i, e->thread * 2, "",
                e->thread, e->what, e->order < 0 ? "" : order_names[e->order], e->value, e->address,
                base(e->site->file), e->site->line);
        if (e->later > 0)
            fprintf(out, "  (%u later in modification order)", e->later);
        fputc('\n', out);
    }
}

/* For what the model itself does. */
static const struct model_site here = {__FILE__, "", "", __LINE__};

static void note(const char *what, const void *address, uint64_t value, int order, unsigned later,
                 const struct model_site *site)
{
    if (now->events < TRACE_MAX)
        kept->trace[now->events] =
            (struct event){(uint8_t)now->current, what, site, address, value, order, later};
    now->events++;
}

static _Noreturn void leave_execution(void)
{
    setcontext(&now->outside);
    abort();
}

/* RC11 does not have this execution: it does not count, and nothing that it shows. */
static _Noreturn void give_up(void)
{
    kept->inconsistent = true;
    leave_execution();
}

void model_violation(const char *what, const char *file, int line)
{
    snprintf(kept->violation, sizeof kept->violation, "%s (%s:%d, T%u)", what, base(file), line,
             now->current);
    leave_execution();
}

/* ------------------------------------------------------------------------------------- choices */

static uint64_t random_next(void)
{
    kept->random += 0x9e3779b97f4a7c15u;
    uint64_t x = kept->random;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* One of `options_`: what was chosen last time up to the point that differs, then the first. */
static unsigned choose(unsigned options_)
{
    if (options_ <= 1)
        return 0;
    if (now->depth == kept->choice_count) {
        if (kept->choice_count == CHOICES_MAX)
            model_violation("too many choices for the explorer", __FILE__, __LINE__);
        kept->choices[kept->choice_count++] = (struct choice){0, (uint16_t)options_};
    }
    struct choice *choice = &kept->choices[now->depth++];
    if (choice->options != options_)
        model_violation("an execution does not repeat: the program is not deterministic", __FILE__,
                        __LINE__);
    return choice->taken;
}

/* ---------------------------------------------------------------------------------- scheduling */

static struct thread *me(void)
{
    return &now->threads[now->current];
}

static void switch_to(unsigned next)
{
    unsigned before = now->current;
    if (next == before)
        return;
    now->current = next;
    swapcontext(&now->threads[before].context, &now->threads[next].context);
}

static bool can_go_on(const struct thread *thread)
{
    return thread->status == RUNNABLE;
}

static void run_callbacks(void);

static unsigned pick_random(const unsigned *enabled, unsigned count)
{
    for (unsigned i = 0; i + 1 < options.depth && i < CHANGES_MAX; i++)
        if (kept->change_points[i] == now->steps)
            me()->priority = -(int)i - 1;
    unsigned best = enabled[0];
    for (unsigned i = 1; i < count; i++)
        if (now->threads[enabled[i]].priority > now->threads[best].priority)
            best = enabled[i];
    return best;
}

/* Go on with some thread that can. */
static void schedule(void)
{
    run_callbacks();
    unsigned enabled[THREADS_MAX], count = 0;
    bool here = can_go_on(me());
    if (here)
        enabled[count++] = now->current;
    for (unsigned i = 0; i < now->thread_count; i++)
        if (i != now->current && can_go_on(&now->threads[i]))
            enabled[count++] = i;
    if (count == 0) { /* those who have paused for others */
        for (unsigned i = 0; i < now->thread_count; i++)
            if (now->threads[i].status == PAUSED) {
                now->threads[i].status = RUNNABLE;
                enabled[count++] = i;
            }
    }
    if (count == 0)
        model_violation("all threads wait for ever", __FILE__, __LINE__);
    unsigned next;
    if (options.mode == MODE_RANDOM) {
        next = pick_random(enabled, count);
    } else {
        bool may_switch = !here || now->preemptions < options.preemptions;
        unsigned taken = may_switch ? choose(count) : 0;
        next = enabled[taken];
        now->preemptions += here && taken > 0;
    }
    switch_to(next);
}

unsigned model_choice(unsigned options_)
{
    return options.mode == MODE_RANDOM ? (unsigned)(random_next() % options_) : choose(options_);
}

/* Before an operation that others can see. */
static void step(void)
{
    if (now->in_callback)
        return;
    if (++now->steps > STEPS_MAX)
        model_violation("an execution without end", __FILE__, __LINE__);
    schedule();
    for (unsigned i = 0; i < now->thread_count; i++)
        if (i != now->current && now->threads[i].status == PAUSED)
            now->threads[i].status = RUNNABLE;
}

void model_pause(void)
{
    if (now->in_callback)
        return;
    /* Behind all others: else two who wait for a third could take turns for ever. */
    if (options.mode == MODE_RANDOM)
        me()->priority = --now->lowest;
    me()->status = PAUSED;
    schedule();
}

static void wait_as(enum status status)
{
    me()->status = status;
    schedule();
}

void model_sleep(const void *address)
{
    me()->waits_for = address;
    note("sleep", address, 0, -1, 0, &here);
    wait_as(ASLEEP);
}

void model_wake(const void *address)
{
    for (unsigned i = 0; i < now->thread_count; i++)
        if (now->threads[i].status == ASLEEP && now->threads[i].waits_for == address)
            now->threads[i].status = RUNNABLE;
    note("wake", address, 0, -1, 0, &here);
}

void model_outcome(uint64_t outcome)
{
    for (unsigned i = 0; i < kept->outcome_count; i++)
        if (kept->outcomes[i] == outcome)
            return;
    if (kept->outcome_count == OUTCOMES_MAX)
        model_violation("too many outcomes for the explorer", __FILE__, __LINE__);
    kept->outcomes[kept->outcome_count++] = outcome;
}

/* --------------------------------------------------------------------------------------- views */

static void clock_join(struct clock *clock, const struct clock *other)
{
    for (unsigned i = 0; i < CLOCK_SIZE; i++)
        if (clock->at[i] < other->at[i])
            clock->at[i] = other->at[i];
}

static void clocks_join(struct clocks *clocks, const struct clocks *others)
{
    clock_join(&clocks->before, &others->before);
    clock_join(&clocks->causal, &others->causal);
    clock_join(&clocks->strong, &others->strong);
    clock_join(&clocks->ordered, &others->ordered);
}

static void view_clear(struct view *view)
{
    view->count = 0;
    view->clocks = (struct clocks){0};
}

static void view_join_stores(struct view *view, const uint16_t *at, unsigned count)
{
    for (unsigned i = view->count; i < count; i++)
        view->at[i] = 0;
    if (count > view->count)
        view->count = (uint16_t)count;
    for (unsigned i = 0; i < count; i++)
        if (at[i] > view->at[i])
            view->at[i] = at[i];
}

static void view_join(struct view *view, const struct view *other)
{
    clocks_join(&view->clocks, &other->clocks);
    view_join_stores(view, other->at, other->count);
}

static uint16_t view_at(const struct view *view, unsigned location)
{
    return location < view->count ? view->at[location] : 0;
}

static void view_raise(struct view *view, unsigned location, unsigned store)
{
    uint16_t at = (uint16_t)store;
    for (unsigned i = view->count; i <= location; i++)
        view->at[i] = 0;
    if (view->count <= location)
        view->count = (uint16_t)(location + 1);
    if (view->at[location] < at)
        view->at[location] = at;
}

static struct message message_of(const struct view *view, const struct message *also)
{
    struct message message = {view->clocks, view->count, NULL};
    if (also)
        clocks_join(&message.clocks, &also->clocks);
    if (also && also->count > message.count)
        message.count = also->count;
    if (message.count == 0)
        return message;
    message.at = now->views + now->views_used;
    now->views_used += message.count;
    if (now->views_used * sizeof *message.at > VIEWS_BYTES)
        model_violation("no memory for views", __FILE__, __LINE__);
    for (unsigned i = 0; i < message.count; i++) {
        message.at[i] = view_at(view, i);
        if (also && i < also->count && also->at[i] > message.at[i])
            message.at[i] = also->at[i];
    }
    return message;
}

/* A store has come into the modification order at `position`. */
static void positions_shift(uint16_t *at, unsigned count, unsigned location, unsigned position)
{
    if (location < count && at[location] >= position)
        at[location]++;
}

static void view_shift(struct view *view, unsigned location, unsigned position)
{
    positions_shift(view->at, view->count, location, position);
}

static void shift_all(unsigned location, unsigned position)
{
    for (unsigned i = 0; i < now->thread_count; i++) {
        view_shift(&now->threads[i].view, location, position);
        view_shift(&now->threads[i].acquired, location, position);
        view_shift(&now->threads[i].released, location, position);
    }
    view_shift(&now->sequential, location, position);
    view_shift(&now->ended_sections, location, position);
    view_shift(&now->grace, location, position);
    view_shift(&now->once, location, position);
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        view_shift(&now->channels[i], location, position);
    for (unsigned i = 0; i < now->store_count; i++) {
        struct message *message = &now->stores[i].message;
        positions_shift(message->at, message->count, location, position);
    }
    graph_move(now->locations[location].graph, position, 1);
}

/* ----------------------------------------------------------------------------------- locations */

static unsigned hash(const void *address)
{
    uint64_t x = (uintptr_t)address * 0x9e3779b97f4a7c15u;
    return (unsigned)(x >> (64 - SHARED_BITS));
}

static uint64_t read_memory(const void *address, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, address, size);
    return value;
}

static struct store *append_store(struct location *location, uint64_t value)
{
    if (now->store_count == STORES_MAX || location->count == UINT16_MAX)
        model_violation("too many stores for the explorer", __FILE__, __LINE__);
    struct store *store = &now->stores[now->store_count];
    *store = (struct store){.value = value, .event = -1};
    location->stores[location->count % 64] = now->store_count++;
    location->count++;
    return store;
}

/* Just behind the store at `after`, which is not the last. */
static struct store *insert_store(unsigned index, uint64_t value, unsigned after)
{
    struct location *location = &now->locations[index];
    shift_all(index, after + 1);
    struct store *store = append_store(location, value);
    uint32_t number = location->stores[(location->count - 1) % 64];
    for (unsigned position = location->count - 1; position > after + 1; position--)
        location->stores[position % 64] = location->stores[(position - 1) % 64];
    location->stores[(after + 1) % 64] = number;
    return store;
}

static struct store *store_of(const struct location *location, unsigned position)
{
    return &now->stores[location->stores[position % 64]];
}

extern char __data_start[], _end[];

/* One byte for each line of the program's variables, in which the model's memory lies, too. */
static size_t line_of(const void *address)
{
    return (size_t)((uintptr_t)address / 64 - (uintptr_t)__data_start / 64);
}

static bool is_variable(const void *address)
{
    return (const char *)address >= __data_start && (const char *)address < _end;
}

/* Does all that was stored there happen before what this thread does now? */
static bool is_known(unsigned index)
{
    const struct location *location = &now->locations[index];
    if (location->plain)
        return me()->view.clocks.before.at[location->writer] >= location->time;
    return view_at(&me()->view, index) + 1u == location->count;
}

static bool is_dead(const void *address)
{
    return is_variable(address) && kept->dead[line_of(address)];
}

/* The location's number plus one; or 0, and *place is where in the table it goes. */
static unsigned find(const void *address, bool plain, unsigned *place)
{
    *place = hash(address);
    for (; now->table[*place]; *place = (*place + 1) % (1 << SHARED_BITS)) {
        const struct location *location = &now->locations[now->table[*place] - 1u];
        if (location->address == address && location->plain == plain)
            return now->table[*place];
    }
    return 0;
}

static unsigned add_location(const void *address, size_t size, bool plain, unsigned place)
{
    if (now->location_count == LOCATIONS_MAX)
        model_violation("too many locations for the explorer", here.file, here.line);
    unsigned index = now->location_count++;
    now->table[place] = (uint16_t)(index + 1);
    now->locations[index] =
        (struct location){.address = address, .size = (uint8_t)size, .plain = plain};
    if (!plain)
        now->locations[index].graph = graph_location();
    return index;
}

static unsigned locate(const void *address, size_t size, const struct model_site *site)
{
    if (is_dead(address))
        model_violation("memory is touched that is free", site->file, site->line);
    unsigned place, number = find(address, false, &place);
    if (number > 0)
        return number - 1;
    unsigned index = add_location(address, size, false, place);
    append_store(&now->locations[index], read_memory(address, size));
    return index;
}

/* Is it worth a switch? Only if others use the location, too. */
static void reach(unsigned index)
{
    struct location *location = &now->locations[index];
    if (now->in_callback)
        return;
    unsigned place = hash(location->address);
    location->users |= (uint8_t)(1u << now->current);
    if (kept->shared[place]) {
        step();
    } else if (location->users & (location->users - 1)) {
        kept->shared[place] = 1;
        kept->shared_grew = true;
    }
}

static bool acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL ||
           order == __ATOMIC_SEQ_CST;
}

static bool releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* The library's own sources, not the tests, nor what stands in for the rest of the library. */
static bool of_library(const struct model_site *site)
{
    return strncmp(site->file, "lib/", 4) == 0;
}

/* Remember an operation that is not relaxed, for --sites. */
static void list_site(const char *kind, int order, int failure, const struct model_site *site)
{
    for (unsigned i = 0; i < kept->site_count; i++)
        if (kept->sites[i].site->line == site->line && kept->sites[i].kind == kind &&
            strcmp(kept->sites[i].site->file, site->file) == 0)
            return;
    if (kept->site_count < SITES_MAX)
        kept->sites[kept->site_count++] = (struct site){site, kind, order, failure};
}

static bool weakens(const char *part, const struct model_site *site)
{
    return options.weaken_line == site->line && options.weaken_file && of_library(site) &&
           strcmp(options.weaken_file, base(site->file)) == 0 &&
           (strcmp(options.weaken_part, part) == 0 || strcmp(options.weaken_part, "all") == 0);
}

/* The order as written, or without the part of it that --weaken names. */
static int weakened(const char *kind, int order, int failure, const struct model_site *site)
{
    if (order == __ATOMIC_RELAXED && failure == __ATOMIC_RELAXED)
        return order;
    if (options.sites && of_library(site))
        list_site(kind, order, failure, site);
    bool acquire = acquires(order) && strcmp(kind, "store") != 0;
    bool release = releases(order) && strcmp(kind, "load") != 0;
    bool total = order == __ATOMIC_SEQ_CST;
    if (weakens("acquire", site))
        acquire = total = false;
    if (weakens("release", site))
        release = total = false;
    if (weakens("total", site))
        total = false;
    return total                ? __ATOMIC_SEQ_CST
           : acquire && release ? __ATOMIC_ACQ_REL
           : acquire            ? __ATOMIC_ACQUIRE
           : release            ? __ATOMIC_RELEASE
                                : __ATOMIC_RELAXED;
}

/* ------------------------------------------------------------------------------------ accesses */

/* The callbacks of grace periods are one thread more. */
static unsigned self(void)
{
    return now->in_callback ? CALLBACKS : now->current;
}

/* An event of the thread with that number; returns its time. */
static uint16_t tick(struct thread *thread, unsigned number)
{
    struct clocks *clocks = &thread->view.clocks;
    if (now->times[number] == UINT16_MAX)
        model_violation("too many events for the explorer", __FILE__, __LINE__);
    uint16_t time = ++now->times[number];
    clocks->before.at[number] = clocks->causal.at[number] = time;
    clocks->strong.at[number] = clocks->ordered.at[number] = time;
    return time;
}

static bool is_without(const char *what)
{
    return options.without && strcmp(options.without, what) == 0;
}

static void check_consistency(void)
{
    if (now->checked && !is_without("psc") && !graph_is_consistent(false))
        give_up();
}

/* Returns the number of the event; it stands at `position`. */
static int record(const struct access *access, bool write, int order, unsigned position)
{
    return graph_add(&(struct graph_event){.thread = (uint8_t)self(),
                                           .access = true,
                                           .write = write,
                                           .total = order == __ATOMIC_SEQ_CST,
                                           .time = now->times[self()],
                                           .location = now->locations[access->index].graph,
                                           .position = (uint16_t)position,
                                           .here = access->here,
                                           .clocks = me()->view.clocks});
}

static void read_clocks(const struct store *store, int order)
{
    struct clocks *clocks = &me()->view.clocks;
    if (store->event >= 0) {
        const struct clocks *written = &graph_event(store->event)->clocks;
        clock_join(&clocks->causal, &written->causal);
        clock_join(&clocks->ordered, &written->strong);
    }
    clocks_join(acquires(order) ? clocks : &me()->acquired.clocks, &store->message.clocks);
}

static void has_read(unsigned index, unsigned position, int order)
{
    const struct store *store = store_of(&now->locations[index], position);
    struct view *view = acquires(order) ? &me()->view : &me()->acquired;
    read_clocks(store, order);
    view_raise(&me()->view, index, position);
    if (store->message.at)
        view_join_stores(view, store->message.at, store->message.count);
    if (order == __ATOMIC_SEQ_CST && is_without("weak_total"))
        view_raise(&now->sequential, index, position);
}

/* Just behind the store at `after`. `read`: the message of that one, if this reads and modifies. */
static void write_behind(const struct access *access, uint64_t value, unsigned after,
                         const struct message *read)
{
    struct location *location = &now->locations[access->index];
    bool last = after + 1 == location->count;
    struct store *store =
        last ? append_store(location, value) : insert_store(access->index, value, after);
    store->rmw = read;
    store->total = access->order == __ATOMIC_SEQ_CST;
    view_raise(&me()->view, access->index, after + 1);
    if (store->total)
        view_raise(&now->sequential, access->index, after + 1);
    store->message = message_of(releases(access->order) ? &me()->view : &me()->released,
                                is_without("release_sequence") ? NULL : read);
    store->event = record(access, true, access->order, after + 1);
    if (last)
        memcpy((void *)(uintptr_t)location->address, &value, location->size);
    check_consistency();
}

/* The oldest store that is still kept, of the object that is there now. */
static unsigned oldest_kept(const struct location *location)
{
    unsigned latest = location->count - 1;
    return latest > location->oldest + (unsigned)RECENT ? latest - RECENT : location->oldest;
}

static bool is_fenced(const struct store *store)
{
    if (store->event < 0)
        return false;
    const struct graph_event *event = graph_event(store->event);
    return now->fenced.at[event->thread] >= event->time;
}

/* The oldest store that may be read, or stored behind, while psc follows the order of execution. */
static unsigned oldest_in_order(unsigned index, int order)
{
    const struct location *location = &now->locations[index];
    unsigned oldest = oldest_kept(location);
    if (oldest < view_at(&me()->view, index))
        oldest = view_at(&me()->view, index);
    if (order != __ATOMIC_SEQ_CST)
        return oldest;
    if (is_without("weak_total") && oldest < view_at(&now->sequential, index))
        oldest = view_at(&now->sequential, index);
    unsigned position = location->count - 1;
    while (position > oldest && !store_of(location, position)->total &&
           !is_fenced(store_of(location, position)))
        position--;
    return position;
}

/* Would the graph be RC11's with this access, and not without an edge of psc that goes back? */
static bool may_go_back(const struct access *access, unsigned position, bool write, int order)
{
    struct clocks before = me()->view.clocks, acquired = me()->acquired.clocks;
    uint16_t location = now->locations[access->index].graph;
    if (access->read)
        read_clocks(store_of(&now->locations[access->index], position), order);
    bool may = graph_is_loose(self(), &me()->view.clocks, order == __ATOMIC_SEQ_CST);
    if (may) {
        if (write)
            graph_move(location, position + 1, 1);
        record(access, write, order, position + write);
        may = is_without("psc") || graph_is_consistent(true);
        graph_drop();
        if (write)
            graph_move(location, position + 1, -1);
    }
    me()->view.clocks = before;
    me()->acquired.clocks = acquired;
    return may;
}

/* The store at `position` is not the last. */
static bool may_take(const struct access *access, unsigned position)
{
    const struct location *location = &now->locations[access->index];
    bool write = access->write;
    if (access->conditional)
        write = store_of(location, position)->value == access->wanted;
    int order = access->conditional && !write ? access->failure : access->order;
    /* Nothing comes between a store and the read-modify-write that has read it. */
    if (write && (store_of(location, position + 1)->rmw || is_without("modification_order")))
        return false;
    if (position >= oldest_in_order(access->index, order))
        return true;
    return !is_without("weak_total") &&
           position >= graph_known(location->graph, &me()->view.clocks.before) &&
           may_go_back(access, position, write, order);
}

/*
 * Returns the position of a store: that which a load or a read-modify-write reads, or behind which
 * a store goes.
 */
static unsigned choose_place(const struct access *access)
{
    const struct location *location = &now->locations[access->index];
    unsigned latest = location->count - 1, oldest = oldest_kept(location);
    if (now->in_callback || now->stale >= options.stale)
        return latest;
    unsigned allowed[RECENT + 1], count = 0;
    for (unsigned position = latest + 1; position-- > oldest;)
        if (position == latest || may_take(access, position))
            allowed[count++] = position;
    unsigned taken;
    if (options.mode == MODE_RANDOM)
        taken = count > 1 && random_next() % 4 == 0 ? (unsigned)(random_next() % count) : 0;
    else
        taken = choose(count);
    now->stale += taken > 0;
    return allowed[taken];
}

/* If it is below what the order of execution has: psc is to be checked from now on. */
static void note_going_back(const struct access *access, unsigned position, int order)
{
    if (position + 1 < now->locations[access->index].count &&
        position < oldest_in_order(access->index, order))
        now->checked = true;
}

/* `order` is what the access has turned out to have. */
static void finish_read(const struct access *access, unsigned position, int order)
{
    note_going_back(access, position, order);
    has_read(access->index, position, order);
    record(access, false, order, position);
    check_consistency();
}

static uint64_t mask_of(size_t size)
{
    return size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * size) - 1;
}

static void plain_access(const void *address, size_t size, bool store);

/* Where an atomic access may go: what has made the object there, by plain stores, must be known. */
static unsigned atomic_access(const void *address, size_t size, const struct model_site *site)
{
    unsigned index = locate(address, size, site);
    reach(index);
    plain_access(address, size, false);
    return index;
}

/* An atomic access begins; the place is chosen later. */
static struct access access_begin(const void *address, size_t size, int order,
                                  const struct model_site *site)
{
    struct access access = {.index = atomic_access(address, size, site), .order = order};
    access.here = me()->view.clocks.before;
    tick(me(), self());
    return access;
}

static unsigned later_than(unsigned index, unsigned position)
{
    return now->locations[index].count - 1 - position;
}

uint64_t model_load(const void *address, size_t size, int order, const struct model_site *site)
{
    order = weakened("load", order, __ATOMIC_RELAXED, site);
    struct access access = access_begin(address, size, order, site);
    access.read = true;
    unsigned position = choose_place(&access);
    uint64_t value = store_of(&now->locations[access.index], position)->value;
    note("load", address, value, order, later_than(access.index, position), site);
    finish_read(&access, position, order);
    return value;
}

void model_store(void *address, size_t size, uint64_t value, int order,
                 const struct model_site *site)
{
    order = weakened("store", order, __ATOMIC_RELAXED, site);
    struct access access = access_begin(address, size, order, site);
    access.write = true;
    if (is_dead(address))
        model_violation("memory is written that is free", site->file, site->line);
    unsigned after = choose_place(&access);
    note("store", address, value, order, later_than(access.index, after), site);
    note_going_back(&access, after, order);
    write_behind(&access, value & mask_of(size), after, NULL);
}

void model_init(void *address, size_t size, uint64_t value)
{
    struct access access = {.index = locate(address, size, &here), .order = __ATOMIC_RELAXED};
    access.here = me()->view.clocks.before;
    tick(me(), self());
    write_behind(&access, value & mask_of(size), now->locations[access.index].count - 1, NULL);
    plain_access(address, size, true);
}

static void read_modify_write(const struct access *access, uint64_t value, unsigned position)
{
    struct location *location = &now->locations[access->index];
    struct message message = store_of(location, position)->message;
    note_going_back(access, position, access->order);
    has_read(access->index, position, access->order);
    write_behind(access, value & mask_of(location->size), position, &message);
}

uint64_t model_rmw(void *address, size_t size, enum model_rmw_kind kind, uint64_t operand,
                   int order, const struct model_site *site)
{
    order = weakened("rmw", order, __ATOMIC_RELAXED, site);
    struct access access = access_begin(address, size, order, site);
    access.read = access.write = true;
    unsigned position = choose_place(&access);
    uint64_t before = store_of(&now->locations[access.index], position)->value;
    uint64_t after = kind == MODEL_EXCHANGE ? operand
                     : kind == MODEL_ADD    ? before + operand
                     : kind == MODEL_OR     ? before | operand
                                            : before & operand;
    note("rmw", address, after & mask_of(size), order, later_than(access.index, position), site);
    read_modify_write(&access, after, position);
    return before;
}

bool model_cas(void *address, size_t size, void *expected, uint64_t desired, int success,
               int failure, const struct model_site *site)
{
    int order = weakened("cas", success, failure, site);
    if (weakens("failure", site))
        failure = __ATOMIC_RELAXED;
    struct access access = access_begin(address, size, order, site);
    access.read = access.conditional = true;
    access.failure = failure;
    access.wanted = read_memory(expected, size);
    unsigned position = choose_place(&access), later = later_than(access.index, position);
    uint64_t value = store_of(&now->locations[access.index], position)->value;
    if (value == access.wanted) {
        note("cas", address, desired, order, later, site);
        read_modify_write(&access, desired, position);
        return true;
    }
    note("cas not", address, value, failure, later, site);
    finish_read(&access, position, failure);
    memcpy(expected, &value, size);
    return false;
}

/* -------------------------------------------------------------------------------------- fences */

static void fence(struct thread *thread, int order)
{
    struct clocks *clocks = &thread->view.clocks;
    if (acquires(order))
        view_join(&thread->view, &thread->acquired);
    if (order == __ATOMIC_SEQ_CST) {
        view_join_stores(&thread->view, now->sequential.at, now->sequential.count);
        view_join_stores(&now->sequential, thread->view.at, thread->view.count);
        clock_join(&now->fenced, &clocks->before);
        clock_join(&clocks->strong, &clocks->ordered);
    }
    if (releases(order))
        view_join(&thread->released, &thread->view);
}

/* `here`: happens-before just before it. */
static void record_fence(unsigned thread, uint16_t time, const struct clock *before, bool total,
                         const struct clocks *clocks)
{
    graph_add(&(struct graph_event){.thread = (uint8_t)thread,
                                    .total = total,
                                    .time = time,
                                    .here = *before,
                                    .clocks = *clocks});
}

void model_fence(int order, const struct model_site *site)
{
    order = weakened("fence", order, __ATOMIC_RELAXED, site);
    step();
    note("fence", NULL, 0, order, 0, site);
    if (order == __ATOMIC_RELAXED)
        return;
    struct clock before = me()->view.clocks.before;
    uint16_t time = tick(me(), self());
    fence(me(), order);
    record_fence(self(), time, &before, order == __ATOMIC_SEQ_CST, &me()->view.clocks);
    check_consistency();
}

void model_step(void)
{
    step();
}

void model_hand_over(struct model_channel *channel)
{
    view_join(&now->channels[channel->number % CHANNELS_MAX], &me()->view);
}

void model_take_over(struct model_channel *channel)
{
    view_join(&me()->view, &now->channels[channel->number % CHANNELS_MAX]);
}

/*
 * One fence that is an event of every thread. The kernel runs it in each while the caller waits, so
 * everything before it in any thread is, for causality, before what comes behind it in another.
 */
void model_fence_all(void)
{
    uint16_t times[CLOCK_SIZE] = {0};
    struct clocks all = {0};
    step();
    note("barrier", NULL, 0, -1, 0, &here);
    for (unsigned i = 0; i < now->thread_count; i++) {
        struct thread *thread = &now->threads[i];
        unsigned number = i == now->current ? self() : i;
        struct clock before = thread->view.clocks.before;
        times[number] = tick(thread, number);
        fence(thread, __ATOMIC_SEQ_CST);
        record_fence(number, times[number], &before, false, &thread->view.clocks);
        clocks_join(&all, &thread->view.clocks);
    }
    graph_add_barrier(times, &all);
    for (unsigned i = 0; i < now->thread_count; i++) {
        struct clocks *clocks = &now->threads[i].view.clocks;
        fence(&now->threads[i], __ATOMIC_SEQ_CST);
        clock_join(&clocks->causal, &all.causal);
        clock_join(&clocks->ordered, &all.ordered);
        clock_join(&clocks->strong, &all.ordered);
    }
    check_consistency();
}

/* ------------------------------------------------------------------------------ plain accesses */

/* Variables that would be thread-local are one for all here: a choice of where to look first. */
extern char __start_model_local[] __attribute__((weak)), __stop_model_local[] __attribute__((weak));

static bool is_thread_local(const void *address)
{
    return (const char *)address >= __start_model_local &&
           (const char *)address < __stop_model_local;
}

/*
 * The library is compiled as for ThreadSanitizer, whose calls come here. The latest plain store to
 * an address must happen before a plain access to it. Else there is a data race, which is how a
 * publication without its release or acquire shows. A seq_cst fence alone does not help. (That
 * earlier plain loads happen before a store is left to ThreadSanitizer itself.) Stores from before
 * there was a second thread happen before everything.
 */
static void plain_access(const void *address, size_t size, bool store)
{
    if (!now || now->thread_count <= 1 || !is_variable(address) || is_thread_local(address))
        return;
    if (is_dead(address))
        model_violation("memory is touched that is free, by a plain access", here.file, here.line);
    unsigned place, number = find(address, true, &place);
    if (number == 0 && !store)
        return;
    unsigned index = number > 0 ? number - 1 : add_location(address, size, true, place);
    struct location *location = &now->locations[index];
    if (!is_known(index)) {
        note(store ? "plain st" : "plain ld", address, 0, -1, 0, &here);
        model_violation("a data race: a plain store is not known here", here.file, here.line);
    }
    if (store) {
        location->writer = (uint8_t)self();
        location->time = tick(me(), self());
    }
}

#define PLAIN(size)                                                                                \
    void __tsan_read##size(const void *address);                                                   \
    void __tsan_read##size(const void *address)                                                    \
    {                                                                                              \
        plain_access(address, size, false);                                                        \
    }                                                                                              \
    void __tsan_write##size(const void *address);                                                  \
    void __tsan_write##size(const void *address)                                                   \
    {                                                                                              \
        plain_access(address, size, true);                                                         \
    }

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

/* Of structs, by words. */
void __tsan_read_range(const void *address, unsigned long size);
void __tsan_read_range(const void *address, unsigned long size)
{
    for (unsigned long i = 0; i < size; i += sizeof(uint64_t))
        plain_access((const char *)address + i, sizeof(uint64_t), false);
}

void __tsan_write_range(const void *address, unsigned long size);
void __tsan_write_range(const void *address, unsigned long size)
{
    for (unsigned long i = 0; i < size; i += sizeof(uint64_t))
        plain_access((const char *)address + i, sizeof(uint64_t), true);
}

void *model_memset(void *address, int byte, size_t size)
{
    __tsan_write_range(address, size);
    return memset(address, byte, size);
}

/* Only for the hook of the steps, which is set before any thread is there. */
uint64_t __tsan_atomic64_load(const volatile void *address, int order);
uint64_t __tsan_atomic64_load(const volatile void *address, int order)
{
    (void)order;
    return *(const volatile uint64_t *)address;
}

void __tsan_init(void);
void __tsan_init(void)
{
}

void model_make(const void *object)
{
    plain_access(object, 1, true);
}

void model_use(const void *object)
{
    plain_access(object, 1, false);
}

/* ------------------------------------------------------------------------------- grace periods */

void model_section_begin(void)
{
    if (me()->nesting++ > 0)
        return;
    me()->section = now->sections++;
    /* No grace period that has begun waits for this one, so it sees what was done before them. */
    view_join(&me()->view, &now->grace);
}

static bool section_open_before(uint64_t number)
{
    for (unsigned i = 0; i < now->thread_count; i++)
        if (now->threads[i].status != ENDED && now->threads[i].nesting > 0 &&
            now->threads[i].section < number)
            return true;
    return false;
}

/* Those that are due. They run where they are, though as a thread of their own would: what was done
 * before the grace period is visible to them, and what they do to whoever learns of it. */
static void run_callbacks(void)
{
    if (now->in_callback)
        return;
    for (unsigned i = 0; i < now->callback_count; i++) {
        struct callback *callback = &now->callbacks[i];
        if (callback->done || section_open_before(callback->before))
            continue;
        callback->done = true;
        static struct view saved[3];
        memcpy(saved, (struct view[]){me()->view, me()->acquired, me()->released}, sizeof saved);
        view_join(&me()->view, &now->ended_sections);
        now->in_callback = true;
        callback->function(callback->head);
        now->in_callback = false;
        view_join(&now->ended_sections, &me()->view);
        me()->view = saved[0];
        me()->acquired = saved[1];
        me()->released = saved[2];
    }
    for (unsigned i = 0; i < now->thread_count; i++)
        if (now->threads[i].status == GRACE && !section_open_before(now->threads[i].section)) {
            now->threads[i].status = RUNNABLE;
            view_join(&now->threads[i].view, &now->ended_sections);
        }
}

void model_section_end(void)
{
    if (--me()->nesting > 0)
        return;
    view_join(&now->ended_sections, &me()->view);
    run_callbacks();
}

int model_section_inside(void)
{
    return me()->nesting > 0;
}

void model_later(struct rcu_head *head, void (*callback)(struct rcu_head *))
{
    if (now->callback_count == CALLBACKS_MAX)
        model_violation("too many callbacks for the explorer", __FILE__, __LINE__);
    view_join(&now->grace, &me()->view);
    view_join(&now->ended_sections, &me()->view);
    now->callbacks[now->callback_count++] = (struct callback){head, callback, now->sections, false};
}

void model_grace_period(void)
{
    view_join(&now->grace, &me()->view);
    me()->section = now->sections; /* outside of any: the mark up to which others must be gone */
    view_join(&now->ended_sections, &me()->view);
    wait_as(GRACE);
}

/* ------------------------------------------------------------------------------------- threads */

static void (*at_thread_end)(void *); /* of the one key there is */

int model_key_create(void (*at_end)(void *))
{
    at_thread_end = at_end;
    return 0;
}

int model_setspecific(void *value)
{
    me()->at_end = value;
    return 0;
}

static void thread_main(void)
{
    struct thread *thread = me();
    thread->body(thread->argument);
    if (thread->at_end && now->current != 0)
        at_thread_end(thread->at_end);
    thread->status = ENDED;
    if (thread->nesting > 0)
        model_violation("a thread has ended in a section", __FILE__, __LINE__);
    for (unsigned i = 0; i < now->thread_count; i++)
        if (now->threads[i].status == JOINING && now->threads[i].joins == now->current) {
            now->threads[i].status = RUNNABLE;
            view_join(&now->threads[i].view, &thread->view);
        }
    if (now->current == 0)
        leave_execution();
    schedule();
    abort();
}

static void thread_new(void *(*body)(void *), void *argument)
{
    if (now->thread_count == THREADS_MAX)
        model_violation("too many threads for the explorer", __FILE__, __LINE__);
    unsigned index = now->thread_count++;
    struct thread *thread = &now->threads[index];
    char *stack = thread->stack;
    *thread =
        (struct thread){.status = RUNNABLE, .stack = stack, .body = body, .argument = argument};
    thread->priority = 1000 + (int)(random_next() % 1000);
    if (index > 0)
        thread->view = me()->view;
    getcontext(&thread->context);
    thread->context.uc_stack.ss_sp = stack;
    thread->context.uc_stack.ss_size = STACK_SIZE;
    thread->context.uc_link = NULL;
    makecontext(&thread->context, thread_main, 0);
}

int model_thread_start(unsigned long *thread, void *(*body)(void *), void *argument)
{
    *thread = now->thread_count;
    thread_new(body, argument);
    return 0;
}

int model_thread_join(unsigned long index)
{
    struct thread *other = &now->threads[index];
    if (other->status == ENDED) {
        view_join(&me()->view, &other->view);
        return 0;
    }
    me()->joins = (unsigned)index;
    wait_as(JOINING);
    return 0;
}

bool model_numberless;

unsigned model_thread_number(void)
{
    return model_numberless ? (unsigned)-1 : now->current;
}

int model_once(void *once, void (*function)(void))
{
    enum { NEVER, BEGUN, DONE };
    int *state = once;
    if (*state == NEVER) {
        *state = BEGUN;
        function();
        *state = DONE;
        view_join(&now->once, &me()->view);
    }
    while (*state == BEGUN)
        model_pause();
    view_join(&me()->view, &now->once);
    return 0;
}

/* ------------------------------------------------------------------------------ memory's state */

void model_dead(const void *address, size_t size)
{
    /* Whoever gives memory back must know of every store there, or others may still be at it. */
    for (unsigned i = 0; i < now->location_count; i++) {
        const struct location *location = &now->locations[i];
        const char *at = location->address;
        if (at >= (const char *)address && at < (const char *)address + size && !is_known(i))
            model_violation("memory is given back, and a store there is not known", here.file,
                            here.line);
    }
    memset(kept->dead + line_of(address), 1, size / 64);
}

void model_alive(const void *address, size_t size)
{
    memset(kept->dead + line_of(address), 0, size / 64);
}

void model_forget(const void *address, size_t size)
{
    for (unsigned i = 0; i < now->location_count; i++) {
        struct location *location = &now->locations[i];
        const char *at = location->address;
        if (at < (const char *)address || at >= (const char *)address + size)
            continue;
        location->time = 0;
        if (location->plain)
            continue;
        /* Old stores can't be read any more by anybody. */
        uint64_t value = read_memory(at, location->size);
        if (value != store_of(location, location->count - 1)->value)
            append_store(location, value); /* by a plain store */
        unsigned latest = location->count - 1u;
        location->oldest = (uint16_t)latest;
        location->graph = graph_location();
        for (unsigned t = 0; t < now->thread_count; t++)
            view_raise(&now->threads[t].view, i, latest);
    }
}

/* ----------------------------------------------------------------------------------- executing */

static void *run_main(void *nothing)
{
    (void)nothing;
    model_test_main();
    return NULL;
}

static void execute(void)
{
    char *stacks[THREADS_MAX];
    for (unsigned i = 0; i < THREADS_MAX; i++)
        stacks[i] = now->threads[i].stack;
    uint16_t *views = now->views;
    for (unsigned i = 0; i < now->location_count; i++) { /* cheaper than the whole table */
        unsigned place = hash(now->locations[i].address);
        while (now->table[place]) {
            now->table[place] = 0;
            place = (place + 1) % (1 << SHARED_BITS);
        }
    }
    now->location_count = now->store_count = 0;
    now->views_used = 0;
    now->thread_count = now->current = 0;
    now->in_callback = false;
    view_clear(&now->sequential);
    view_clear(&now->ended_sections);
    view_clear(&now->grace);
    view_clear(&now->once);
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        view_clear(&now->channels[i]);
    now->fenced = (struct clock){0};
    memset(now->times, 0, sizeof now->times);
    now->checked = kept->inconsistent = false;
    graph_clear();
    now->sections = 0;
    now->callback_count = 0;
    now->preemptions = now->stale = now->depth = now->steps = now->events = 0;
    now->lowest = -CHANGES_MAX;
    now->views = views;
    for (unsigned i = 0; i < THREADS_MAX; i++)
        now->threads[i].stack = stacks[i];
    memcpy(__data_start, kept->data, (size_t)(_end - __data_start));
    memset(kept->dead, 0, (size_t)(_end - __data_start) / 64 + 2);
    kept->violation[0] = '\0';
    static volatile bool back;
    back = false;
    getcontext(&now->outside);
    if (back)
        return;
    back = true;
    thread_new(run_main, NULL);
    setcontext(&now->threads[0].context);
}

static void *space(size_t size)
{
    void *space_ = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space_ == MAP_FAILED)
        exit(3);
    return space_;
}

/* A pointer that was read too early, for example. */
static void no_memory_there(int signal)
{
    (void)signal;
    model_violation("memory is touched that is not there", here.file, here.line);
}

static void begin(void)
{
    sigaction(SIGSEGV, &(struct sigaction){.sa_handler = no_memory_there, .sa_flags = SA_NODEFER},
              NULL);
    graph_begin();
    now = space(sizeof *now);
    kept = space(sizeof *kept);
    now->views = space(VIEWS_BYTES + (LOCATIONS_MAX * sizeof(uint16_t)));
    for (unsigned i = 0; i < THREADS_MAX; i++)
        now->threads[i].stack = space(STACK_SIZE);
    size_t size = (size_t)(_end - __data_start);
    kept->dead = space(size / 64 + 2);
    kept->data = space(size);
    memcpy(kept->data, __data_start, size); /* the last thing: `now` and `kept` are in there */
}

static int report(uint64_t executions)
{
    if (!options.quiet) {
        print_trace(stdout);
        printf("VIOLATION in execution %" PRIu64 ": %s\n", executions, kept->violation);
    }
    return 1;
}

/* The next execution in order; false: that was the last. */
static bool next_execution(void)
{
    while (kept->choice_count > 0) {
        struct choice *last = &kept->choices[kept->choice_count - 1];
        if (last->taken + 1u < last->options) {
            last->taken++;
            return true;
        }
        kept->choice_count--;
    }
    return false;
}

static int run_exhaustively(void)
{
    uint64_t executions = 0;
    bool more = true;
    while (more) {
        execute();
        executions += !kept->inconsistent;
        if (kept->violation[0])
            return report(executions);
        if (kept->shared_grew) { /* there are more points to switch at: from the beginning */
            kept->shared_grew = false;
            kept->choice_count = 0;
            executions = 0;
            continue;
        }
        if (executions == options.executions_max && !kept->inconsistent) {
            printf("%" PRIu64 " executions, and there are more\n", executions);
            return 2;
        }
        more = next_execution();
    }
    if (!options.quiet)
        printf("%" PRIu64 " executions: all with up to %u preemptions and %u stale accesses\n",
               executions, options.preemptions, options.stale);
    return 0;
}

/*
 * Random priorities, lowered at `depth` - 1 random steps (Burckhardt et al., PCT). The steps are
 * those of the longest of some executions with seeds of their own, so that a seed alone decides.
 */
static int run_randomly(void)
{
    memset(kept->shared, 1, sizeof kept->shared);
    unsigned longest = 1;
    for (uint64_t i = 0; i < MEASURED + options.executions_max; i++) {
        bool measuring = i < MEASURED;
        kept->seed = measuring ? i : options.seed + (i - MEASURED);
        kept->random = kept->seed * 0x9e3779b97f4a7c15u;
        for (unsigned c = 0; c < CHANGES_MAX; c++)
            kept->change_points[c] = (unsigned)(random_next() % longest);
        execute();
        if (measuring && now->steps > longest)
            longest = now->steps;
        if (!measuring && kept->violation[0]) {
            report(i + 1 - MEASURED);
            printf("repeat it with --random 1 --depth %u --stale %u --seed %" PRIu64 "\n",
                   options.depth, options.stale, kept->seed);
            return 1;
        }
    }
    if (!options.quiet)
        printf("%" PRIu64 " random schedules of depth %u from seed %" PRIu64 ", up to %u steps\n",
               options.executions_max, options.depth, options.seed, longest);
    return 0;
}

static void usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--preemptions N] [--stale N] [--max EXECUTIONS] [--quiet]\n"
            "       [--random SCHEDULES [--depth N] [--seed N]] [--weaken FILE:LINE[:PART]] "
            "[--sites]\n"
            "       [--without modification_order|weak_total|release_sequence|psc]\n",
            program);
    exit(2);
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--quiet") == 0) {
            options.quiet = true;
            continue;
        }
        if (strcmp(name, "--sites") == 0) {
            options.sites = true;
            continue;
        }
        if (++i == argc)
            usage(argv[0]);
        uint64_t value = strtoull(argv[i], NULL, 10);
        if (strcmp(name, "--preemptions") == 0) {
            options.preemptions = (unsigned)value;
        } else if (strcmp(name, "--stale") == 0) {
            options.stale = (unsigned)value;
        } else if (strcmp(name, "--max") == 0) {
            options.executions_max = value;
        } else if (strcmp(name, "--depth") == 0) {
            options.depth = (unsigned)value;
        } else if (strcmp(name, "--seed") == 0) {
            options.seed = value;
        } else if (strcmp(name, "--random") == 0) {
            options.mode = MODE_RANDOM;
            options.executions_max = value;
        } else if (strcmp(name, "--without") == 0) {
            options.without = argv[i];
        } else if (strcmp(name, "--weaken") == 0) {
            char *colon = strchr(argv[i], ':');
            if (!colon)
                usage(argv[0]);
            *colon = '\0';
            options.weaken_file = argv[i];
            options.weaken_line = atoi(colon + 1);
            colon = strchr(colon + 1, ':');
            options.weaken_part = colon ? colon + 1 : "all";
        } else {
            usage(argv[0]);
        }
    }
}

static int compare_outcomes(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    begin();
    int result = options.mode == MODE_RANDOM ? run_randomly() : run_exhaustively();
    qsort(kept->outcomes, kept->outcome_count, sizeof *kept->outcomes, compare_outcomes);
    for (unsigned i = 0; i < kept->outcome_count; i++)
        printf("outcome %016" PRIx64 "\n", kept->outcomes[i]);
    for (unsigned i = 0; i < kept->site_count; i++) {
        const struct site *site = &kept->sites[i];
        printf("site %s %d %s %s %s %s %s\n", base(site->site->file), site->site->line,
               site->site->function, site->kind, order_names[site->order],
               order_names[site->failure], site->site->object);
    }
    return result;
}
