/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The search for a sequential order of a concurrent history: see linear.h for what it must obey.
 * It is the depth-first search of Wing and Gong, that remembers where it has been (Lowe).
 *
 * Time. Points can be put into a sequence iff no point is followed by one that had to be over
 * before it began. So an operation may be placed if all that ended before its begin are placed:
 * before[] says which. Beyond that, times do not matter, and are not looked at again.
 *
 * One point per operation. The point of a publish is the one that orders its event. The points at
 * which the event reaches the queues are not searched for, since the latest possible ones serve:
 * reaching queue s early helps only the receive that takes the event from s, so let it happen right
 * before that; otherwise, it has to have happened when something is placed that began after the
 * publish had ended, or another publish that put a later event into s. All that an event in the
 * queue, but maybe not there yet, can decide is a receive that says EMPTY. So:
 *   - queue s holds, in order, the events ordered while s was open, until they are taken;
 *   - `over` is the set of operations that ended before the begin of one that was placed;
 *   - VALUE is right for the head of the queue; its publish has begun, since it was ordered;
 *   - EMPTY is right if no event in the queue is over when it is placed. (An event behind which
 *     there is one that is over must be there as well, but EMPTY is wrong then already.)
 * What is placed, and the queues, are thus the whole state: `over`, and which subscriptions are
 * open or closed, follow from what is placed.
 *
 * Harmless receives. A receive that is right now, and whose begin makes no event in a queue over
 * that was not, is placed at once, and nothing else is tried. Nothing is lost: take any
 * continuation, with that receive at its later place, or without it; move it to the front. The
 * others see queues that hold the same or less, which an EMPTY does not mind. A VALUE on the same
 * queue was not before it, as it had the head; and the others' times are not affected, because
 * what ended before their begin is placed before them still.
 *
 * Looking ahead. Which events a subscription will receive is known (`wanted`), and of two, often,
 * which one first (`ahead`). Placements after which such a receive has become impossible are not
 * tried: see hopeless(). By that, an event in a queue that will not be received has only such
 * behind it. Their order then does not matter, only when the first of them is over; so the rest is
 * left out of the remembered state. Looking ahead finds the verdict, but gives up a history long
 * before the place where a reader sees it break. The explanation is therefore that of a second
 * search, without.
 */
#include "linear.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT8_MAX

/* A set of operations, by their rank: they are sorted by their end. */
typedef uint64_t operations_set;

struct state {
    operations_set placed;
    operations_set over;
    operations_set queued[LINEAR_SUBSCRIPTIONS_MAX]; /* what is in queue[] from head[] on */
    uint32_t topics[LINEAR_SUBSCRIPTIONS_MAX];       /* 0 unless open */
    uint8_t head[LINEAR_SUBSCRIPTIONS_MAX];
    uint8_t tail[LINEAR_SUBSCRIPTIONS_MAX];
    uint8_t open, closed; /* bits, by subscription */
    uint8_t queue[LINEAR_SUBSCRIPTIONS_MAX][LINEAR_OPERATIONS_MAX];
};

/* Placed, and for each subscription, the queue and an end mark. */
#define KEY_MAX (8 + LINEAR_SUBSCRIPTIONS_MAX * (LINEAR_OPERATIONS_MAX + 2))
#define KEY_END 0xff
#define KEY_REST 0x80

/* The states that have been explored: a hash table of places in an array of keys. */
struct visited {
    struct visited_slot {
        uint32_t hash;
        uint32_t at; /* of the key, behind its length; 0: free */
    } * slots;
    uint8_t *keys;
    size_t slots_size, slots_used;
    size_t keys_size, keys_used;
};

struct search {
    struct linear_operation operations[LINEAR_OPERATIONS_MAX];
    uint32_t given_as[LINEAR_OPERATIONS_MAX]; /* the caller's index */
    size_t count;
    operations_set all;
    operations_set before[LINEAR_OPERATIONS_MAX];
    uint8_t event[LINEAR_OPERATIONS_MAX]; /* of a VALUE: its publish, or NONE */

    bool look_ahead;
    bool impossible; /* something is received that was not published, or twice from one queue */
    operations_set wanted[LINEAR_SUBSCRIPTIONS_MAX];  /* publishes */
    operations_set empties[LINEAR_SUBSCRIPTIONS_MAX]; /* receives that say EMPTY */
    operations_set values[LINEAR_SUBSCRIPTIONS_MAX];  /* … VALUE */
    /* The publishes whose events must be received before this one's. */
    operations_set ahead[LINEAR_SUBSCRIPTIONS_MAX][LINEAR_OPERATIONS_MAX];

    struct visited visited;
    uint64_t states, budget;
    bool gave_up;
    struct linear_explanation longest;
};

static operations_set bit(size_t operation)
{
    return (operations_set)1 << operation;
}

static size_t first_of(operations_set set)
{
    return (size_t)__builtin_ctzll(set);
}

/* ------------------------------------------------------------------------- the specification */

static bool matches(const struct state *state, unsigned s, unsigned topic)
{
    return topic < 32 && (state->topics[s] >> topic & 1) != 0;
}

static bool receive_allowed(const struct search *search, const struct state *state, size_t i)
{
    const struct linear_operation *operation = &search->operations[i];
    unsigned s = operation->subscription;
    bool open = (state->open >> s & 1) != 0;
    switch (operation->result) {
    case LINEAR_VALUE:
        return open && state->head[s] < state->tail[s] &&
               state->queue[s][state->head[s]] == search->event[i];
    case LINEAR_EMPTY:
        return open && (state->queued[s] & (state->over | search->before[i])) == 0;
    default:
        return (state->closed >> s & 1) != 0;
    }
}

/* May this operation come next? As to time, it may. */
static bool allowed(const struct search *search, const struct state *state, size_t i)
{
    const struct linear_operation *operation = &search->operations[i];
    unsigned s = operation->subscription;
    switch (operation->kind) {
    case LINEAR_PUBLISH:
        return true;
    case LINEAR_SUBSCRIBE:
        return ((state->open | state->closed) >> s & 1) == 0;
    case LINEAR_UNSUBSCRIBE:
        return (state->open >> s & 1) != 0;
    default:
        return receive_allowed(search, state, i);
    }
}

static void publish(struct state *state, size_t i, unsigned topic)
{
    for (unsigned s = 0; s < LINEAR_SUBSCRIPTIONS_MAX; s++) {
        if (!matches(state, s, topic))
            continue;
        state->queue[s][state->tail[s]++] = (uint8_t)i;
        state->queued[s] |= bit(i);
    }
}

/* Place an operation that is allowed. */
static void place(const struct search *search, struct state *state, size_t i)
{
    const struct linear_operation *operation = &search->operations[i];
    unsigned s = operation->subscription;
    state->placed |= bit(i);
    state->over |= search->before[i];
    switch (operation->kind) {
    case LINEAR_PUBLISH:
        publish(state, i, operation->topic);
        break;
    case LINEAR_SUBSCRIBE:
        state->open |= (uint8_t)(1u << s);
        state->topics[s] = operation->topics;
        break;
    case LINEAR_UNSUBSCRIBE:
        state->open &= (uint8_t) ~(1u << s);
        state->closed |= (uint8_t)(1u << s);
        state->topics[s] = 0;
        state->queued[s] = 0;
        state->head[s] = state->tail[s] = 0;
        break;
    default:
        if (operation->result == LINEAR_VALUE)
            state->queued[s] &= ~bit(state->queue[s][state->head[s]++]);
        break;
    }
}

/* ------------------------------------------------------------------------------- look ahead */

static bool publish_hopeless(const struct search *search, const struct state *state, size_t i)
{
    for (unsigned s = 0; s < LINEAR_SUBSCRIPTIONS_MAX; s++) {
        operations_set wanted = search->wanted[s];
        bool comes = matches(state, s, search->operations[i].topic);
        if ((wanted & bit(i)) == 0) {
            /* What is wanted and not in order yet would be stuck behind it. */
            if (comes && (wanted & ~state->placed) != 0)
                return true;
            continue;
        }
        if (!comes || (state->queued[s] & ~wanted) != 0)
            return true;
        if ((search->ahead[s][i] & ~state->placed) != 0)
            return true;
    }
    return false;
}

/* Does an operation that is allowed leave another without a way to be placed? */
static bool hopeless(const struct search *search, const struct state *state, size_t i)
{
    const struct linear_operation *operation = &search->operations[i];
    unsigned s = operation->subscription;
    switch (operation->kind) {
    case LINEAR_PUBLISH:
        if (publish_hopeless(search, state, i))
            return true;
        break;
    case LINEAR_UNSUBSCRIBE:
        return ((search->values[s] | search->empties[s]) & ~state->placed) != 0;
    default:
        break;
    }
    /* An event that is never received and now over denies each EMPTY to come. */
    operations_set over = state->over | search->before[i];
    for (s = 0; s < LINEAR_SUBSCRIPTIONS_MAX; s++)
        if ((state->queued[s] & ~search->wanted[s] & over) != 0 &&
            (search->empties[s] & ~(state->placed | bit(i))) != 0)
            return true;
    return false;
}

/* ------------------------------------------------------------------------ states remembered */

static size_t key_of(const struct search *search, const struct state *state, uint8_t *key)
{
    size_t size = sizeof state->placed;
    memcpy(key, &state->placed, size);
    for (unsigned s = 0; s < LINEAR_SUBSCRIPTIONS_MAX; s++) {
        if ((state->open >> s & 1) == 0)
            continue;
        operations_set rest = search->look_ahead ? state->queued[s] & ~search->wanted[s] : 0;
        for (unsigned i = state->head[s]; i < state->tail[s]; i++)
            if ((rest & bit(state->queue[s][i])) == 0)
                key[size++] = state->queue[s][i];
        if (rest != 0 && (search->empties[s] & ~state->placed) != 0)
            key[size++] = (uint8_t)(KEY_REST | first_of(rest)); /* the first one to be over */
        key[size++] = KEY_END;
    }
    return size;
}

static uint32_t key_hash(const uint8_t *key, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ key[i]) * 0x100000001b3u;
    return (uint32_t)(hash >> 32 ^ hash);
}

/* Make room for one more key. */
static bool visited_grow(struct visited *visited)
{
    if (visited->keys_size - visited->keys_used < 2 + KEY_MAX) {
        size_t size = visited->keys_size > 0 ? 2 * visited->keys_size : 1 << 16;
        uint8_t *keys = size <= UINT32_MAX ? realloc(visited->keys, size) : NULL;
        if (!keys)
            return false;
        visited->keys = keys;
        visited->keys_size = size;
    }
    if (2 * visited->slots_used < visited->slots_size)
        return true;
    size_t size = visited->slots_size > 0 ? 2 * visited->slots_size : 1 << 10;
    struct visited_slot *slots = calloc(size, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < visited->slots_size; i++) {
        struct visited_slot *from = &visited->slots[i];
        size_t to = from->hash & (size - 1);
        while (slots[to].at != 0)
            to = (to + 1) & (size - 1);
        if (from->at != 0)
            slots[to] = *from;
    }
    free(visited->slots);
    visited->slots = slots;
    visited->slots_size = size;
    return true;
}

/* True if it was not there. There is room. */
static bool visited_add(struct visited *visited, const uint8_t *key, size_t size)
{
    uint32_t hash = key_hash(key, size);
    uint16_t length = (uint16_t)size;
    size_t i = hash & (visited->slots_size - 1);
    for (; visited->slots[i].at != 0; i = (i + 1) & (visited->slots_size - 1)) {
        const uint8_t *other = visited->keys + visited->slots[i].at;
        if (visited->slots[i].hash == hash && memcmp(other - sizeof length, &length, 2) == 0 &&
            memcmp(other, key, size) == 0)
            return false;
    }
    memcpy(visited->keys + visited->keys_used, &length, sizeof length);
    visited->keys_used += sizeof length;
    visited->slots[i] = (struct visited_slot){.hash = hash, .at = (uint32_t)visited->keys_used};
    memcpy(visited->keys + visited->keys_used, key, size);
    visited->keys_used += size;
    visited->slots_used++;
    return true;
}

static void visited_clear(struct visited *visited)
{
    free(visited->slots);
    free(visited->keys);
    *visited = (struct visited){0};
}

/* True if a state is to be explored: it is new, and neither budget nor memory are used up. */
static bool visit(struct search *search, const struct state *state)
{
    if (search->states >= search->budget || !visited_grow(&search->visited)) {
        search->gave_up = true;
        return false;
    }
    uint8_t key[KEY_MAX];
    size_t size = key_of(search, state, key);
    if (!visited_add(&search->visited, key, size))
        return false;
    search->states++;
    return true;
}

/* ------------------------------------------------------------------------------- the search */

/* The operations that may be next as to time. */
static operations_set timely(const struct search *search, const struct state *state)
{
    operations_set set = 0;
    for (operations_set left = search->all & ~state->placed; left != 0; left &= left - 1) {
        size_t i = first_of(left);
        if ((search->before[i] & ~state->placed) == 0)
            set |= bit(i);
    }
    return set;
}

/* Place the harmless receives. */
static void settle(const struct search *search, struct state *state)
{
    bool again = true;
    while (again) {
        again = false;
        operations_set queued = 0;
        for (unsigned s = 0; s < LINEAR_SUBSCRIPTIONS_MAX; s++)
            queued |= state->queued[s];
        for (operations_set left = timely(search, state); left != 0; left &= left - 1) {
            size_t i = first_of(left);
            if (search->operations[i].kind != LINEAR_RECEIVE ||
                (search->before[i] & ~state->over & queued) != 0 || !allowed(search, state, i))
                continue;
            place(search, state, i);
            again = true;
        }
    }
}

/* Keep the longest beginning, and which operations are refused there. */
static void note(struct search *search, const struct state *state, operations_set refused)
{
    size_t length = (size_t)__builtin_popcountll(state->placed);
    struct linear_explanation *longest = &search->longest;
    if (length < longest->longest || (length == longest->longest && longest->stuck_count > 0))
        return;
    *longest = (struct linear_explanation){.longest = length};
    for (; refused != 0; refused &= refused - 1)
        longest->stuck[longest->stuck_count++] = search->given_as[first_of(refused)];
}

/* Can what is not placed yet be? */
static bool explore(struct search *search, const struct state *from)
{
    struct state state = *from;
    settle(search, &state);
    operations_set candidates = timely(search, &state);
    operations_set refused = 0;
    for (operations_set left = candidates; left != 0; left &= left - 1) {
        size_t i = first_of(left);
        if (!allowed(search, &state, i) || (search->look_ahead && hopeless(search, &state, i)))
            refused |= bit(i);
    }
    note(search, &state, refused);
    if (state.placed == search->all)
        return true;
    if (!visit(search, &state))
        return false;
    for (candidates &= ~refused; candidates != 0; candidates &= candidates - 1) {
        struct state next = state;
        place(search, &next, first_of(candidates));
        if (explore(search, &next))
            return true;
        if (search->gave_up)
            return false;
    }
    return false;
}

static enum linear_verdict run(struct search *search, bool look_ahead)
{
    search->look_ahead = look_ahead;
    search->states = 0;
    search->gave_up = false;
    search->longest = (struct linear_explanation){0};
    struct state state;
    memset(&state, 0, sizeof state);
    bool found = explore(search, &state);
    visited_clear(&search->visited);
    if (found)
        return LINEAR_YES;
    return search->gave_up ? LINEAR_UNDECIDED : LINEAR_NO;
}

/* ------------------------------------------------------------------------------ preparation */

static bool well_formed(const struct linear_operation *operation)
{
    if (operation->begin_ns > operation->end_ns || operation->kind > LINEAR_RECEIVE ||
        operation->subscription >= LINEAR_SUBSCRIPTIONS_MAX || operation->result > LINEAR_CLOSED)
        return false;
    return (operation->kind == LINEAR_RECEIVE) == (operation->result != LINEAR_OK);
}

/* Sort by end. */
static void take_in(struct search *search, const struct linear_operation *operations, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = i;
        for (; at > 0 && search->operations[at - 1].end_ns > operations[i].end_ns; at--) {
            search->operations[at] = search->operations[at - 1];
            search->given_as[at] = search->given_as[at - 1];
        }
        search->operations[at] = operations[i];
        search->given_as[at] = (uint32_t)i;
    }
    search->count = count;
    search->all = count < LINEAR_OPERATIONS_MAX ? bit(count) - 1 : ~(operations_set)0;
}

static uint8_t find_publish(const struct search *search, uint32_t value)
{
    for (size_t i = 0; i < search->count; i++)
        if (search->operations[i].kind == LINEAR_PUBLISH && search->operations[i].value == value)
            return (uint8_t)i;
    return NONE;
}

static void relate(struct search *search)
{
    for (size_t i = 0; i < search->count; i++) {
        const struct linear_operation *operation = &search->operations[i];
        for (size_t j = 0; j < search->count; j++)
            if (search->operations[j].end_ns < operation->begin_ns)
                search->before[i] |= bit(j);
        search->event[i] = NONE;
        if (operation->kind != LINEAR_RECEIVE)
            continue;
        unsigned s = operation->subscription;
        if (operation->result == LINEAR_EMPTY)
            search->empties[s] |= bit(i);
        if (operation->result != LINEAR_VALUE)
            continue;
        search->values[s] |= bit(i);
        search->event[i] = find_publish(search, operation->value);
        if (search->event[i] == NONE || (search->wanted[s] & bit(search->event[i])) != 0)
            search->impossible = true;
        else
            search->wanted[s] |= bit(search->event[i]);
    }
}

/* Of two receives of one subscription, the one that ended before the other took what is ahead. */
static void relate_receives(struct search *search)
{
    for (unsigned s = 0; s < LINEAR_SUBSCRIPTIONS_MAX; s++)
        for (operations_set left = search->values[s]; left != 0; left &= left - 1) {
            size_t later = first_of(left);
            operations_set sooner = search->values[s] & search->before[later];
            if (search->event[later] == NONE)
                continue;
            for (; sooner != 0; sooner &= sooner - 1)
                if (search->event[first_of(sooner)] != NONE)
                    search->ahead[s][search->event[later]] |= bit(search->event[first_of(sooner)]);
        }
}

enum linear_verdict linear_check(const struct linear_operation *operations, size_t count,
                                 uint64_t budget, struct linear_explanation *why)
{
    if (why)
        *why = (struct linear_explanation){0};
    if (count > LINEAR_OPERATIONS_MAX)
        return LINEAR_UNDECIDED;
    for (size_t i = 0; i < count; i++)
        if (!well_formed(&operations[i]))
            return LINEAR_UNDECIDED;
    struct search *search = calloc(1, sizeof *search);
    if (!search)
        return LINEAR_UNDECIDED;
    search->budget = budget;
    take_in(search, operations, count);
    relate(search);
    relate_receives(search);
    enum linear_verdict verdict = search->impossible ? LINEAR_NO : run(search, true);
    if (verdict == LINEAR_NO && why)
        run(search, false);
    if (why)
        *why = search->longest;
    free(search);
    return verdict;
}
