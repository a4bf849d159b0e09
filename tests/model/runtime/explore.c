/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The explorer: see model.h.
 *
 * Memory. Each atomic location has the list of its stores, in modification order, which here is the
 * order in which they are executed. Each thread has a view: for each location the oldest store that
 * it may still read. A store carries a message view, which an acquiring load adds to its thread's:
 * that of the storing thread, if the store is a release; that of its latest release fence, if it is
 * relaxed; and, if it is a read-modify-write, that of the store it has read, too (release
 * sequences). A load may read any store from its view on, a read-modify-write only the last. There
 * is one view of sequential consistency: a seq_cst fence joins it with the thread's, both ways;
 * seq_cst accesses join it at their location only, and are acquire and release besides. That is as
 * strong as C11 for programs that mix fences and accesses as the library does, or weaker.
 * Executions in which a load reads a store that is executed after it (load buffering) are not
 * covered; compilers and processors hardly show them, and a release or an acquire rules them out.
 *
 * Exploration. A choice is which thread goes on, at each operation on a location that more than one
 * thread uses, or which store a load reads. All choices of an execution are recorded; the next
 * execution repeats all but the last that has an alternative left. Bounds: at most PREEMPTIONS
 * switches away from a thread that could go on, and at most STALE loads that do not read the latest
 * store. Within the bounds every execution is run. Which locations are shared is found out as it
 * goes; when one more is, exploration begins anew.
 *
 * Grace periods end as early as they can: as soon as the last section ends that was open when
 * call_rcu was called, the callback runs. So memory comes back at the worst of times.
 */
#define _GNU_SOURCE
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

#define THREADS_MAX 6
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
#define CHANGES_MAX 16 /* of priority; so the largest depth is one more */
#define MEASURED 100   /* executions from which the number of steps is taken */

enum { MODE_EXHAUSTIVE, MODE_RANDOM };

/* --------------------------------------------------------------------------------- the state */

struct view {
    uint16_t count;
    uint16_t at[LOCATIONS_MAX]; /* number of a store in its location */
};

struct message {
    uint16_t count;
    uint16_t *at; /* NULL: empty */
};

struct store {
    uint64_t value;
    struct message message;
    uint32_t next; /* in the location; 0: the last */
};

struct location {
    const void *address;
    uint32_t stores[64]; /* by number; the latest 64 are enough */
    uint32_t count;
    uint8_t size;
    uint8_t users; /* threads, a bit each */
    bool plain;    /* not atomic: its stores are only counted */
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
    bool stale;
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
        fprintf(out, "%5u  %*sT%u %-8s %-8s %#" PRIx64 " at %p, %s:%d%s\n", i, e->thread * 2, "",
                e->thread, e->what, e->order < 0 ? "" : order_names[e->order], e->value, e->address,
                base(e->site->file), e->site->line, e->stale ? "  (not the latest)" : "");
    }
}

/* For what the model itself does. */
static const struct model_site here = {__FILE__, "", "", __LINE__};

static void note(const char *what, const void *address, uint64_t value, int order, bool stale,
                 const struct model_site *site)
{
    if (now->events < TRACE_MAX)
        kept->trace[now->events] =
            (struct event){(uint8_t)now->current, what, site, address, value, order, stale};
    now->events++;
}

static _Noreturn void leave_execution(void)
{
    setcontext(&now->outside);
    abort();
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
    note("sleep", address, 0, -1, false, &here);
    wait_as(ASLEEP);
}

void model_wake(const void *address)
{
    for (unsigned i = 0; i < now->thread_count; i++)
        if (now->threads[i].status == ASLEEP && now->threads[i].waits_for == address)
            now->threads[i].status = RUNNABLE;
    note("wake", address, 0, -1, false, &here);
}

/* --------------------------------------------------------------------------------------- views */

static void view_join(struct view *view, const uint16_t *at, unsigned count)
{
    for (unsigned i = view->count; i < count; i++)
        view->at[i] = 0;
    if (count > view->count)
        view->count = (uint16_t)count;
    for (unsigned i = 0; i < count; i++)
        if (at[i] > view->at[i])
            view->at[i] = at[i];
}

static void view_join_message(struct view *view, struct message message)
{
    if (message.at)
        view_join(view, message.at, message.count);
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

static struct message message_of(const struct view *view, struct message also)
{
    unsigned count = also.at && also.count > view->count ? also.count : view->count;
    if (count == 0)
        return (struct message){0};
    uint16_t *at = now->views + now->views_used;
    now->views_used += count;
    if (now->views_used * sizeof *at > VIEWS_BYTES)
        model_violation("no memory for views", __FILE__, __LINE__);
    for (unsigned i = 0; i < count; i++) {
        at[i] = i < view->count ? view->at[i] : 0;
        if (also.at && i < also.count && also.at[i] > at[i])
            at[i] = also.at[i];
    }
    return (struct message){(uint16_t)count, at};
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

static void append_store(struct location *location, uint64_t value, struct message message)
{
    if (now->store_count == STORES_MAX || location->count == UINT16_MAX)
        model_violation("too many stores for the explorer", __FILE__, __LINE__);
    now->stores[now->store_count] = (struct store){value, message, 0};
    location->stores[location->count % 64] = now->store_count++;
    location->count++;
}

static const struct store *store_of(const struct location *location, unsigned number)
{
    return &now->stores[location->stores[number % 64]];
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
    now->locations[index] = (struct location){
        .address = address, .size = (uint8_t)size, .plain = plain, .count = plain};
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
    append_store(&now->locations[index], read_memory(address, size), (struct message){0});
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

static void has_read(unsigned index, unsigned number, int order)
{
    struct message message = store_of(&now->locations[index], number)->message;
    view_raise(&me()->view, index, number);
    if (acquires(order))
        view_join_message(&me()->view, message);
    else
        view_join_message(&me()->acquired, message);
    if (order == __ATOMIC_SEQ_CST)
        view_raise(&now->sequential, index, number);
}

static void write_latest(unsigned index, uint64_t value, int order, struct message also)
{
    struct location *location = &now->locations[index];
    unsigned number = location->count;
    view_raise(&me()->view, index, number);
    if (order == __ATOMIC_SEQ_CST)
        view_raise(&now->sequential, index, number);
    append_store(location, value,
                 message_of(releases(order) ? &me()->view : &me()->released, also));
    memcpy((void *)(uintptr_t)location->address, &value, location->size);
}

/* Which store a load reads. `forbidden`: a value that only the latest store may be read for. */
static unsigned choose_store(unsigned index, int order, const uint64_t *forbidden)
{
    struct location *location = &now->locations[index];
    unsigned latest = location->count - 1, oldest = view_at(&me()->view, index);
    if (order == __ATOMIC_SEQ_CST && view_at(&now->sequential, index) > oldest)
        oldest = view_at(&now->sequential, index);
    if (latest >= 60 && oldest < latest - 60)
        oldest = latest - 60;
    if (now->in_callback || now->stale >= options.stale)
        return latest;
    unsigned allowed[64], count = 0;
    for (unsigned number = latest + 1; number-- > oldest;) {
        uint64_t value = store_of(location, number)->value;
        bool same = number < latest && value == store_of(location, number + 1)->value &&
                    !store_of(location, number)->message.at &&
                    !store_of(location, number + 1)->message.at;
        if (number == latest || (!same && (!forbidden || value != *forbidden)))
            allowed[count++] = number;
    }
    unsigned taken;
    if (options.mode == MODE_RANDOM)
        taken = count > 1 && random_next() % 4 == 0 ? (unsigned)(random_next() % count) : 0;
    else
        taken = choose(count);
    now->stale += taken > 0;
    return allowed[taken];
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

uint64_t model_load(const void *address, size_t size, int order, const struct model_site *site)
{
    order = weakened("load", order, __ATOMIC_RELAXED, site);
    unsigned index = atomic_access(address, size, site);
    unsigned number = choose_store(index, order, NULL);
    uint64_t value = store_of(&now->locations[index], number)->value;
    note("load", address, value, order, number + 1 < now->locations[index].count, site);
    has_read(index, number, order);
    return value;
}

void model_store(void *address, size_t size, uint64_t value, int order,
                 const struct model_site *site)
{
    order = weakened("store", order, __ATOMIC_RELAXED, site);
    unsigned index = atomic_access(address, size, site);
    if (is_dead(address))
        model_violation("memory is written that is free", site->file, site->line);
    note("store", address, value, order, false, site);
    write_latest(index, value & mask_of(size), order, (struct message){0});
}

void model_init(void *address, size_t size, uint64_t value)
{
    unsigned index = locate(address, size, &here);
    write_latest(index, value & mask_of(size), __ATOMIC_RELAXED, (struct message){0});
    plain_access(address, size, true);
}

static void read_modify_write(unsigned index, uint64_t value, int order)
{
    struct location *location = &now->locations[index];
    unsigned latest = location->count - 1;
    struct message message = store_of(location, latest)->message;
    has_read(index, latest, order);
    write_latest(index, value & mask_of(location->size), order, message);
}

uint64_t model_rmw(void *address, size_t size, enum model_rmw_kind kind, uint64_t operand,
                   int order, const struct model_site *site)
{
    order = weakened("rmw", order, __ATOMIC_RELAXED, site);
    unsigned index = atomic_access(address, size, site);
    struct location *location = &now->locations[index];
    uint64_t before = store_of(location, location->count - 1)->value;
    uint64_t after = kind == MODEL_EXCHANGE ? operand
                     : kind == MODEL_ADD    ? before + operand
                     : kind == MODEL_OR     ? before | operand
                                            : before & operand;
    note("rmw", address, after & mask_of(size), order, false, site);
    read_modify_write(index, after, order);
    return before;
}

bool model_cas(void *address, size_t size, void *expected, uint64_t desired, int success,
               int failure, const struct model_site *site)
{
    int order = weakened("cas", success, failure, site);
    if (weakens("failure", site))
        failure = __ATOMIC_RELAXED;
    unsigned index = atomic_access(address, size, site);
    uint64_t wanted = read_memory(expected, size);
    unsigned number = choose_store(index, failure, &wanted);
    uint64_t value = store_of(&now->locations[index], number)->value;
    if (value == wanted) {
        note("cas", address, desired, order, false, site);
        read_modify_write(index, desired, order);
        return true;
    }
    note("cas not", address, value, failure, number + 1 < now->locations[index].count, site);
    has_read(index, number, failure);
    memcpy(expected, &value, size);
    return false;
}

static void fence(struct thread *thread, int order)
{
    if (acquires(order))
        view_join(&thread->view, thread->acquired.at, thread->acquired.count);
    if (order == __ATOMIC_SEQ_CST) {
        view_join(&thread->view, now->sequential.at, now->sequential.count);
        view_join(&now->sequential, thread->view.at, thread->view.count);
    }
    if (releases(order))
        view_join(&thread->released, thread->view.at, thread->view.count);
}

void model_fence(int order, const struct model_site *site)
{
    order = weakened("fence", order, __ATOMIC_RELAXED, site);
    step();
    note("fence", NULL, 0, order, false, site);
    if (order != __ATOMIC_RELAXED)
        fence(me(), order);
}

void model_step(void)
{
    step();
}

void model_hand_over(struct model_channel *channel)
{
    struct view *view = &now->channels[channel->number % CHANNELS_MAX];
    view_join(view, me()->view.at, me()->view.count);
}

void model_take_over(struct model_channel *channel)
{
    struct view *view = &now->channels[channel->number % CHANNELS_MAX];
    view_join(&me()->view, view->at, view->count);
}

void model_fence_all(void)
{
    step();
    note("barrier", NULL, 0, -1, false, &here);
    for (int round = 0; round < 2; round++)
        for (unsigned i = 0; i < now->thread_count; i++)
            fence(&now->threads[i], __ATOMIC_SEQ_CST);
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
 * The library is compiled as for ThreadSanitizer, whose calls come here. A plain access must know
 * of the latest plain store to its address: else there is a data race, which is how a publication
 * without its release or acquire shows. (That a store must know of earlier plain loads is left to
 * ThreadSanitizer itself.) Stores from before there was a second thread are known to all.
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
    if (view_at(&me()->view, index) + 1u != location->count) {
        note(store ? "plain st" : "plain ld", address, 0, -1, false, &here);
        model_violation("a data race: a plain store is not known here", here.file, here.line);
    }
    if (store)
        view_raise(&me()->view, index, location->count++);
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
    view_join(&me()->view, now->grace.at, now->grace.count);
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
        view_join(&me()->view, now->ended_sections.at, now->ended_sections.count);
        now->in_callback = true;
        callback->function(callback->head);
        now->in_callback = false;
        view_join(&now->ended_sections, me()->view.at, me()->view.count);
        me()->view = saved[0];
        me()->acquired = saved[1];
        me()->released = saved[2];
    }
    for (unsigned i = 0; i < now->thread_count; i++)
        if (now->threads[i].status == GRACE && !section_open_before(now->threads[i].section)) {
            now->threads[i].status = RUNNABLE;
            view_join(&now->threads[i].view, now->ended_sections.at, now->ended_sections.count);
        }
}

void model_section_end(void)
{
    if (--me()->nesting > 0)
        return;
    view_join(&now->ended_sections, me()->view.at, me()->view.count);
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
    view_join(&now->grace, me()->view.at, me()->view.count);
    view_join(&now->ended_sections, me()->view.at, me()->view.count);
    now->callbacks[now->callback_count++] = (struct callback){head, callback, now->sections, false};
}

void model_grace_period(void)
{
    view_join(&now->grace, me()->view.at, me()->view.count);
    me()->section = now->sections; /* outside of any: the mark up to which others must be gone */
    view_join(&now->ended_sections, me()->view.at, me()->view.count);
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
            view_join(&now->threads[i].view, thread->view.at, thread->view.count);
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
        view_join(&me()->view, other->view.at, other->view.count);
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
        view_join(&now->once, me()->view.at, me()->view.count);
    }
    while (*state == BEGUN)
        model_pause();
    view_join(&me()->view, now->once.at, now->once.count);
    return 0;
}

/* ------------------------------------------------------------------------------ memory's state */

void model_dead(const void *address, size_t size)
{
    /* Whoever gives memory back must know of every store there, or others may still be at it. */
    for (unsigned i = 0; i < now->location_count; i++) {
        const struct location *location = &now->locations[i];
        const char *at = location->address;
        if (at >= (const char *)address && at < (const char *)address + size &&
            view_at(&me()->view, i) + 1u < location->count)
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
        /* Old stores can't be read any more by anybody. */
        uint64_t value = location->plain ? 0 : read_memory(at, location->size);
        if (!location->plain && value != store_of(location, location->count - 1)->value)
            append_store(location, value, (struct message){0}); /* by a plain store */
        unsigned latest = location->count - 1u;
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
    now->sequential.count = now->ended_sections.count = now->grace.count = now->once.count = 0;
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        now->channels[i].count = 0;
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
        executions++;
        if (kept->violation[0])
            return report(executions);
        if (kept->shared_grew) { /* there are more points to switch at: from the beginning */
            kept->shared_grew = false;
            kept->choice_count = 0;
            executions = 0;
            continue;
        }
        if (executions == options.executions_max) {
            printf("%" PRIu64 " executions, and there are more\n", executions);
            return 2;
        }
        more = next_execution();
    }
    if (!options.quiet)
        printf("%" PRIu64 " executions: all with up to %u preemptions and %u stale loads\n",
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
            "[--sites]\n",
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

int main(int argc, char **argv)
{
    parse(argc, argv);
    begin();
    int result = options.mode == MODE_RANDOM ? run_randomly() : run_exhaustively();
    for (unsigned i = 0; i < kept->site_count; i++) {
        const struct site *site = &kept->sites[i];
        printf("site %s %d %s %s %s %s %s\n", base(site->site->file), site->site->line,
               site->site->function, site->kind, order_names[site->order],
               order_names[site->failure], site->site->object);
    }
    return result;
}
