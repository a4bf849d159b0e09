/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Enumerates the executions of a litmus program, and prints the outcomes of those that RC11 allows.
 * It shares the programs with the explorer, and nothing else.
 *
 * An execution is a choice, for each read, of the write that it reads (rf), and an order of the
 * writes of each location (mo). Relations are matrices of bits. The axioms are those of RC11 (Lahav
 * et al., PLDI 2017), with release sequences as in C++20, without later stores of the same thread:
 *
 *   coherence      hb; eco? is irreflexive; so is eco, since a read-modify-write is one event here
 *   atomicity      rmw ∩ (rb; mo) is empty
 *   seq_cst        psc is acyclic
 *   no thin air    sb ∪ rf is acyclic
 *
 *   axioms PROGRAM           the outcomes in RC11
 *   axioms --genmc PROGRAM   those that GenMC has; programs.h says where it differs
 *   axioms --list            number, outcomes that GenMC counts, name
 */
#include "programs.h"

#include <stdbool.h>
#include <stdio.h>

enum { EVENTS_MAX = 32, OUTCOMES_MAX = 4096, NOWHERE = -1, INITIAL = -1 };

typedef uint32_t set; /* of events */
typedef struct {
    set row[EVENTS_MAX];
} relation;

static struct event {
    const struct operation *operation; /* NULL: an initial write */
    int thread;
    enum location location;
    int rf;       /* the write that it reads, or NOWHERE */
    int has_read; /* value */
    int written;
    bool writes;
} events[EVENTS_MAX];
static int event_count;

static struct program program;
static bool as_genmc;
static uint64_t outcomes[OUTCOMES_MAX];
static int outcome_count;
static relation sb, mo;

/* ------------------------------------------------------------------------------------ relations */

static void add(relation *r, int from, int to)
{
    r->row[from] |= (set)1 << to;
}

static bool has(const relation *r, int from, int to)
{
    return r->row[from] >> to & 1;
}

static relation either(relation r, const relation *other)
{
    for (int i = 0; i < event_count; i++)
        r.row[i] |= other->row[i];
    return r;
}

static relation then(const relation *r, const relation *next)
{
    relation result = {{0}};
    for (int i = 0; i < event_count; i++)
        for (int k = 0; k < event_count; k++)
            if (has(r, i, k))
                result.row[i] |= next->row[k];
    return result;
}

static relation maybe(relation r)
{
    for (int i = 0; i < event_count; i++)
        add(&r, i, i);
    return r;
}

static relation repeated(relation r)
{
    for (int k = 0; k < event_count; k++)
        for (int i = 0; i < event_count; i++)
            if (has(&r, i, k))
                r.row[i] |= r.row[k];
    return r;
}

static relation restricted(const relation *r, set from, set to)
{
    relation result = {{0}};
    for (int i = 0; i < event_count; i++)
        if (from >> i & 1)
            result.row[i] = r->row[i] & to;
    return result;
}

static relation identity(set of)
{
    relation result = {{0}};
    for (int i = 0; i < event_count; i++)
        if (of >> i & 1)
            add(&result, i, i);
    return result;
}

static bool is_irreflexive(const relation *r)
{
    for (int i = 0; i < event_count; i++)
        if (has(r, i, i))
            return false;
    return true;
}

static bool is_acyclic(const relation *r)
{
    relation all = repeated(*r);
    return is_irreflexive(&all);
}

/* --------------------------------------------------------------------------------------- events */

static bool is_fence(const struct event *e)
{
    return e->operation && e->operation->kind == FENCE;
}

static bool may_read(const struct event *e)
{
    return e->operation && e->operation->kind != STORE && e->operation->kind != FENCE;
}

static bool may_write(const struct event *e)
{
    return !e->operation || (e->operation->kind != LOAD && e->operation->kind != FENCE);
}

static enum order order_of(const struct event *e)
{
    if (!e->operation)
        return RLX;
    bool failed = e->operation->kind == COMPARE && !e->writes && !as_genmc;
    return failed ? e->operation->failure : e->operation->order;
}

static bool releases(const struct event *e)
{
    enum order order = order_of(e);
    return order == REL || order == AR || order == SC;
}

static bool acquires(const struct event *e)
{
    enum order order = order_of(e);
    return order == ACQ || order == AR || order == SC;
}

static set those(bool (*property)(const struct event *))
{
    set result = 0;
    for (int i = 0; i < event_count; i++)
        if (property(&events[i]))
            result |= (set)1 << i;
    return result;
}

static bool is_total(const struct event *e)
{
    return order_of(e) == SC;
}

static bool is_total_fence(const struct event *e)
{
    return is_fence(e) && is_total(e);
}

static bool is_read(const struct event *e)
{
    return e->rf != NOWHERE;
}

static bool is_write(const struct event *e)
{
    return e->writes;
}

static bool is_update(const struct event *e)
{
    return is_read(e) && is_write(e);
}

static bool same_location(int i, int k)
{
    return !is_fence(&events[i]) && !is_fence(&events[k]) &&
           events[i].location == events[k].location;
}

static relation at_one_location(const relation *r, bool same)
{
    relation result = {{0}};
    for (int i = 0; i < event_count; i++)
        for (int k = 0; k < event_count; k++)
            if (has(r, i, k) && same_location(i, k) == same)
                add(&result, i, k);
    return result;
}

/* ----------------------------------------------------------------------------------- the axioms */

static relation rf_of(void)
{
    relation rf = {{0}};
    for (int i = 0; i < event_count; i++)
        if (is_read(&events[i]))
            add(&rf, events[i].rf, i);
    return rf;
}

static relation rb_of(void)
{
    relation rb = {{0}};
    for (int i = 0; i < event_count; i++)
        if (is_read(&events[i]))
            rb.row[i] = mo.row[events[i].rf] & ~((set)1 << i);
    return rb;
}

/* sw = [release]; ([F]; sb)?; [W]; (rf; rmw)*; rf; (sb; [F])?; [acquire] */
static relation sw_of(const relation *rf)
{
    set all = ~(set)0, fences = those(is_fence);
    relation to_updates = restricted(rf, all, those(is_update));
    relation sequence = maybe(repeated(to_updates));
    relation behind_fence = restricted(&sb, fences, those(is_write));
    relation release = maybe(behind_fence), before_fence = restricted(&sb, those(is_read), fences);
    relation acquire = maybe(before_fence), sw = then(&release, &sequence);
    sw = then(&sw, rf);
    sw = then(&sw, &acquire);
    return restricted(&sw, those(releases), those(acquires));
}

static relation scb_of(const relation *hb, const relation *rb)
{
    relation others = at_one_location(&sb, false), same = at_one_location(hb, true);
    if (as_genmc) {
        relation inside = identity(those(is_update));
        others = either(others, &inside);
    }
    relation scb = then(&others, hb);
    scb = then(&scb, &others);
    scb = either(scb, &sb);
    scb = either(scb, &same);
    scb = either(scb, &mo);
    return either(scb, rb);
}

static bool psc_is_acyclic(const relation *hb, const relation *eco, const relation *rb)
{
    set total = those(is_total), fences = those(is_total_fence), all = ~(set)0;
    relation hb_or_not = maybe(*hb), scb = scb_of(hb, rb), esc = identity(total);
    relation from = restricted(&hb_or_not, fences, all), to = restricted(&hb_or_not, all, fences);
    from = either(from, &esc);
    to = either(to, &esc);
    relation base = then(&from, &scb);
    base = then(&base, &to);
    relation by_eco = then(hb, eco);
    by_eco = then(&by_eco, hb);
    by_eco = either(by_eco, hb);
    by_eco = restricted(&by_eco, fences, fences);
    base = either(base, &by_eco);
    return is_acyclic(&base);
}

static bool is_atomic(const relation *rb)
{
    relation between = then(rb, &mo);
    return is_irreflexive(&between);
}

static bool is_consistent(void)
{
    relation rf = rf_of(), rb = rb_of(), sw = sw_of(&rf), eco = either(rf, &mo);
    relation hb = repeated(either(sb, &sw));
    eco = repeated(either(eco, &rb));
    relation eco_or_not = maybe(eco), coherence = then(&hb, &eco_or_not);
    return is_irreflexive(&coherence) && is_irreflexive(&eco) && is_atomic(&rb) &&
           psc_is_acyclic(&hb, &eco, &rb);
}

/* ------------------------------------------------------------------------------------- outcomes */

static void note_outcome(void)
{
    int registers[REGISTERS + 1] = {0}, values[LOCATIONS] = {0};
    for (int i = 0; i < event_count; i++) {
        const struct event *e = &events[i];
        if (is_read(e) && e->operation->kind == COMPARE) {
            registers[e->operation->to] = e->writes;
            registers[e->operation->to_old] = e->has_read;
        } else if (is_read(e)) {
            registers[e->operation->to] = e->has_read;
        }
        set later = mo.row[i];
        if (is_write(e) && later == 0)
            values[e->location] = e->written;
    }
    uint64_t outcome = outcome_of(registers, values);
    for (int i = 0; i < outcome_count; i++)
        if (outcomes[i] == outcome)
            return;
    if (outcome_count == OUTCOMES_MAX)
        exit(3);
    outcomes[outcome_count++] = outcome;
}

/* ----------------------------------------------------------------------------------- candidates */

/* The writes of each location in all orders; `placed` are in mo. */
static void choose_mo(set placed)
{
    set writes = those(is_write);
    bool all = true;
    for (int i = 0; i < event_count; i++) {
        if (!(writes >> i & 1) || placed >> i & 1)
            continue;
        /* Locations one after the other, so that each order comes once. */
        enum location location = events[i].location;
        all = false;
        for (int next = 0; next < event_count; next++) {
            if (!(writes >> next & 1) || placed >> next & 1 || events[next].location != location)
                continue;
            relation before = mo;
            for (int k = 0; k < event_count; k++)
                if (placed >> k & 1 && events[k].location == location)
                    add(&mo, k, next);
            choose_mo(placed | (set)1 << next);
            mo = before;
        }
        break;
    }
    if (all && is_consistent())
        note_outcome();
}

static int register_before(int event, int name)
{
    int value = 0;
    for (int i = 0; i < event; i++)
        if (events[i].operation && events[i].thread == events[event].thread) {
            const struct operation *o = events[i].operation;
            if (o->kind == COMPARE && o->to_old == name)
                value = events[i].has_read;
            if (o->to == name && o->kind == COMPARE)
                value = events[i].writes;
            else if (o->to == name && may_read(&events[i]))
                value = events[i].has_read;
        }
    return value;
}

static void evaluate(int i)
{
    struct event *e = &events[i];
    const struct operation *o = e->operation;
    if (!o || o->kind == FENCE)
        return;
    if (is_read(e))
        e->has_read = events[e->rf].written;
    e->writes = o->kind != LOAD && (o->kind != COMPARE || e->has_read == o->wanted);
    e->written = o->value + (o->from ? register_before(i, o->from) : 0);
    if (o->kind == FETCH_ADD)
        e->written += e->has_read;
}

/* In an order that sb and rf allow; false: there is none. */
static bool evaluate_all(void)
{
    set done = 0;
    for (int round = 0; round < event_count; round++)
        for (int i = 0; i < event_count; i++) {
            const struct event *e = &events[i];
            bool first = i == 0 || events[i - 1].thread != e->thread || done >> (i - 1) & 1;
            if (e->operation && (!first || (is_read(e) && !(done >> e->rf & 1))))
                continue;
            evaluate(i);
            done |= (set)1 << i;
        }
    for (int i = 0; i < event_count; i++)
        if (!(done >> i & 1) || (is_read(&events[i]) && !events[events[i].rf].writes))
            return false;
    return true;
}

static void choose_rf(int i)
{
    while (i < event_count && !may_read(&events[i]))
        i++;
    if (i == event_count) {
        mo = (relation){{0}};
        if (evaluate_all())
            choose_mo(0);
        return;
    }
    for (int k = 0; k < event_count; k++)
        if (k != i && may_write(&events[k]) && same_location(i, k)) {
            events[i].rf = k;
            choose_rf(i + 1);
        }
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static void add_event(const struct operation *operation, int thread, enum location location)
{
    int number = event_count++;
    events[number] = (struct event){.operation = operation,
                                    .thread = thread,
                                    .location = location,
                                    .rf = NOWHERE,
                                    .writes = !operation};
    for (int i = 0; i < number; i++)
        if (events[i].thread == INITIAL ? thread != INITIAL : events[i].thread == thread)
            add(&sb, i, number);
}

static int list(void)
{
    for (int i = 0; i < PROGRAMS; i++)
        printf("%d %d %s\n", i + 1, programs[i].genmc, programs[i].name);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    as_genmc = argc == 3 && strcmp(argv[1], "--genmc") == 0;
    if (argc < 2)
        return 2;
    program = program_named(argv[argc - 1]);
    for (int l = 0; l < LOCATIONS; l++)
        add_event(NULL, INITIAL, (enum location)l);
    for (int t = 0; t < THREADS; t++)
        for (int o = 0; o < OPERATIONS && program.threads[t][o].kind != NOTHING; o++)
            add_event(&program.threads[t][o], t, program.threads[t][o].location);
    choose_rf(0);
    qsort(outcomes, (size_t)outcome_count, sizeof *outcomes, compare);
    for (int i = 0; i < outcome_count; i++)
        printf("outcome %016llx\n", (unsigned long long)outcomes[i]);
    return 0;
}
