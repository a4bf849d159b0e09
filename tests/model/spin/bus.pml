/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The protocol of lib/bus/order.c, queue.c, subscription.c and wakeup.c as a Promela model, for Spin to
 * try in every interleaving: the order word with turns and helping, idempotent append to cells
 * whose tags are written once, segments with gaps, receivers that sleep, a subscription that comes
 * late. One step of a process is one access to shared memory, or several where nobody could tell.
 *
 * Publisher 0 goes on; any other may stop for good at any of its steps, and must hold up nobody.
 *
 * Safety (assertions, and `at_rest`, when nobody can move any more):
 *   - a receiver takes the events of its subscription in the order of seq, each one once, none left
 *     out, and whole;
 *   - a subscription takes none from before it was made, and all from after;
 *   - a cell that has a tag is never given other content;
 *   - in the end all publishers that have not stopped have returned, and every event up to the last
 *     one whose publish has returned is taken: no receiver sleeps over one.
 * Progress:
 *   - there is no infinite execution, fair or not (it would have a cycle, and nothing here is
 *     labelled as progress, so that pan -l finds any). Each publish and each receive thus ends
 *     after finitely many steps, whoever has stopped or is never scheduled: lock-freedom, for the
 *     number of publishes that are made here;
 *   - as a formula, `served`: with weak fairness, publisher 0 returns and its events are taken.
 *
 * Not in it: weak memory (all accesses are sequentially consistent here), reuse of memory (the
 * grace period is an assumption), running out of it, unsubscribe.
 *
 * PUBLISHERS, each of which publishes one event, but the first EVENTS_OF_FIRST (1 or 2);
 * SUBSCRIPTIONS, of which the first RECEIVED have RECEIVERS each, the others are emptied by
 * `at_rest`; WIDE: a bit for each event that takes two cells; TOPIC: subscription 1 takes only
 * those; LATE: subscription 0 is made while events are published. BREAK_…: a mistake, which must be
 * refuted.
 */

#ifndef PUBLISHERS
#define PUBLISHERS 2
#endif
#ifndef EVENTS_OF_FIRST
#define EVENTS_OF_FIRST 1
#endif
#ifndef SUBSCRIPTIONS
#define SUBSCRIPTIONS 1
#endif
#ifndef RECEIVED
#define RECEIVED SUBSCRIPTIONS
#endif
#ifndef RECEIVERS
#define RECEIVERS 1
#endif
#ifndef WIDE
#define WIDE 0
#endif

#define SEGMENTS 4
#define CELLS 2 /* of each segment */
#define SEQ_END 8

/* Events are numbers from 1: publisher 0 has 1 and 2, publisher p has p + 2. */
#define EVENTS(p) ((p) == 0 -> EVENTS_OF_FIRST : 1)
#define EVENT(p, n) ((p) == 0 -> 1 + (n) : (p) + 2)
#define WIDTH(event) (1 + ((WIDE >> (event)) & 1))
#ifdef TOPIC
#define MATCHES(q, event) ((q) != 1 || WIDTH(event) == 2)
#else
#define MATCHES(q, event) true
#endif

/* The order word. */
byte order_seq, order_slot;
bit order_done = 1;

/* The slots, one for each publisher. A record is two words, so that it can be torn. */
byte slot_first[PUBLISHERS], slot_second[PUBLISHERS];
byte finished[PUBLISHERS]; /* the last seq that the slot's owner has finished by itself */

/* The queues. */
#define SEGMENT(q, segment) ((q) * SEGMENTS + (segment))
#define CELL(q, segment, i) (SEGMENT(q, segment) * CELLS + (i))
byte tag[SUBSCRIPTIONS * SEGMENTS * CELLS], content[SUBSCRIPTIONS * SEGMENTS * CELLS];
byte base[SUBSCRIPTIONS * SEGMENTS]; /* 0: not linked, but for the first */
byte tail[SUBSCRIPTIONS], hint_segment[SUBSCRIPTIONS], hint_index[SUBSCRIPTIONS];
byte head_segment[SUBSCRIPTIONS], head_index[SUBSCRIPTIONS];

/* The event counts. */
byte epoch[SUBSCRIPTIONS] = 1, slept[SUBSCRIPTIONS], woken[SUBSCRIPTIONS] = 1;
bit asleep[SUBSCRIPTIONS * RECEIVERS];

/* The late subscription, in the registry and its first seq. */
bit inserted;
byte start;

/* For the assertions alone. */
byte event_of[SEQ_END];    /* by seq */
byte taken[SUBSCRIPTIONS]; /* the last seq taken */
byte returned_seq;         /* the highest whose publish has returned */
byte last_of_0;            /* of publisher 0's events */
bit returned[PUBLISHERS];  /* all its publishes */
bit stopped[PUBLISHERS];
bit subscribed;
byte before_subscribe; /* returned_seq when that began */

/* One access to shared memory; or this publisher's end. */
#define STEP(...)                                                                                  \
    if                                                                                             \
    ::d_step { __VA_ARGS__ }                                                                       \
    ::p > 0 -> goto stop                                                                           \
    fi

#ifdef BREAK_WAKE_NEVER
#define WAKE(q) skip
#else
#define WAKE(q)                                                                                    \
    STEP(seen = slept[q]);                                                                         \
    STEP(e = woken[q]);                                                                            \
    if                                                                                             \
    ::seen >= e ->                                                                                 \
        STEP(epoch[q] = epoch[q] + 1; e = epoch[q]);                                               \
        STEP(asleep[(q) * RECEIVERS] = 0; asleep[(q) * RECEIVERS + RECEIVERS - 1] = 0);            \
        STEP(woken[q] = e)                                                                         \
    ::else                                                                                         \
    fi
#endif

proctype publisher(byte p)
{
    byte n, mine;                /* the event to publish; its seq, once it has one */
    byte s, slot, first, second; /* the turn in hand, and the copy of its record */
    byte q, segment, i, seen, e; /* the append in hand */
    bit flag, after_subscribe;

    do
    ::n < EVENTS(p) ->
        after_subscribe = subscribed;
        if
        ::n == 0 -> /* nobody looks at it yet */
            d_step { slot_first[p] = EVENT(p, 0); slot_second[p] = slot_first[p] }
        ::else ->
            STEP(slot_first[p] = EVENT(p, n));
            STEP(slot_second[p] = EVENT(p, n))
        fi;

    turn:
        STEP(s = order_seq; slot = order_slot; flag = order_done);
#ifndef BREAK_TURN_TOO_SOON
        if
        ::!flag ->
            STEP(seen = finished[slot]);
            if
            ::seen < s ->
                seen = 0;
#ifdef BREAK_NO_HELP
                goto turn
#else
                goto distribute
#endif
            ::else -> seen = 0
            fi
        ::else
        fi;
#endif
        STEP(
            if
            ::order_seq == s && order_slot == slot && order_done == flag ->
                order_seq = s + 1; order_slot = p; order_done = 0; mine = s + 1;
                event_of[mine] = EVENT(p, n);
                if
                ::p == 0 -> last_of_0 = mine
                ::else
                fi
            ::else
            fi);
        if
        ::mine == 0 -> goto turn
        ::else
        fi;
        assert(!after_subscribe || mine >= start);
        d_step { s = mine; slot = p };
#ifdef BREAK_DONE_FIRST
        STEP(finished[p] = s);
#endif

        /* From here on owner and helpers do the same. */
    distribute:
        skip;
#if EVENTS_OF_FIRST > 1
        STEP(first = slot_first[slot]);
        STEP(second = slot_second[slot]);
#else /* written once: it does not matter when it is read */
        d_step { first = slot_first[slot]; second = slot_second[slot] };
#endif
#if !defined(BREAK_COPY_UNCHECKED) && !defined(BREAK_DONE_FIRST)
        STEP(flag = (order_seq == s && !order_done));
        if
        ::!flag -> goto closed
        ::else
        fi;
        if
        ::mine != s -> /* nobody else writes one's own */
            STEP(flag = (finished[slot] < s));
            if
            ::!flag -> goto closed
            ::else
            fi
        ::else
        fi;
#endif
        assert(first == second && first == event_of[s]);

        do
        ::q < SUBSCRIPTIONS ->
            if
            ::!MATCHES(q, first) -> goto next
            ::else
            fi;
#ifdef LATE
            if
            ::q == 0 ->
                STEP(flag = inserted);
                if
                ::!flag -> goto next
                ::else
                fi;
                STEP(seen = start);
                if
                ::seen == 0 ->
#ifdef BREAK_START_FROM_EVENT
                    seen = s;
#else
                    STEP(seen = order_seq + 1);
#endif
                    STEP(
                        if
                        ::start == 0 ->
                            assert(seen > before_subscribe);
                            start = seen; taken[0] = start - 1
                        ::else -> seen = start
                        fi)
                ::else
                fi;
                if
                ::s < seen -> goto next
                ::else
                fi
            ::else
            fi;
#endif
            STEP(segment = tail[q]);
            STEP(i = (hint_segment[q] == segment -> hint_index[q] : 0));
#ifndef BREAK_NO_LOOK_BACK
            if
            ::i > 0 ->
                STEP(seen = tag[CELL(q, segment, i - 1)]);
                if
                ::seen >= s -> goto wake
                ::else
                fi
            ::else
            fi;
#endif
            do
            ::i < CELLS ->
#ifndef BREAK_NO_BASE
                if /* constant since it was linked, and so no step */
                ::base[SEGMENT(q, segment)] > s -> goto wake
                ::else
                fi;
#endif
                STEP(seen = tag[CELL(q, segment, i)]; e = content[CELL(q, segment, i)]);
                if
                ::seen >= s -> goto wake
                ::seen > 0 && seen < s -> i = i + WIDTH(e)
                ::seen == 0 && i + WIDTH(first) <= CELLS -> break
                ::seen == 0 && i + WIDTH(first) > CELLS -> i = CELLS /* a gap, for good */
                fi
            ::else ->
                assert(segment + 2 < SEGMENTS); /* receivers look one further */
                STEP(
                    if
                    ::base[SEGMENT(q, segment + 1)] == 0 -> base[SEGMENT(q, segment + 1)] = s
                    ::else
                    fi);
                STEP(
                    if
                    ::tail[q] == segment -> tail[q] = segment + 1
                    ::else
                    fi);
                segment++;
                i = 0
            od;

            if
            ::WIDTH(first) == 2 -> /* the continuation first */
                STEP(
                    seen = tag[CELL(q, segment, i + 1)];
                    assert(seen == 0 || (seen == s && content[CELL(q, segment, i + 1)] == first));
                    tag[CELL(q, segment, i + 1)] = s; content[CELL(q, segment, i + 1)] = first)
            ::else
            fi;
#ifdef BREAK_TAG_FIRST
            STEP(tag[CELL(q, segment, i)] = s);
            STEP(content[CELL(q, segment, i)] = first);
#else
            STEP(
                seen = tag[CELL(q, segment, i)];
                assert(seen == 0 || (seen == s && content[CELL(q, segment, i)] == first));
                content[CELL(q, segment, i)] = first);
            STEP(
                seen = tag[CELL(q, segment, i)];
                assert(seen == 0 || seen == s);
                tag[CELL(q, segment, i)] = s);
#endif
            STEP(hint_segment[q] = segment; hint_index[q] = i + WIDTH(first));

        wake:
#ifndef BREAK_WAKE_LAST
            if
            ::q < RECEIVED -> WAKE(q)
            ::else
            fi;
#endif
        next:
            skip;
            d_step { segment = 0; i = 0; seen = 0; e = 0; q++ }
        ::else -> break
        od;

        if
        ::mine == s -> STEP(finished[p] = s)
        ::else ->
            STEP(
                if
                ::order_seq == s -> order_done = 1
                ::else
                fi)
        fi;
#ifdef BREAK_WAKE_LAST
        WAKE(0);
#endif

    closed:
        skip;
        d_step {
            if
            ::mine == s -> n++; mine = 0;
                if
                ::returned_seq < s -> returned_seq = s
                ::else
                fi;
                flag = 1
            ::else -> flag = 0
            fi;
            s = 0; slot = 0; first = 0; second = 0; q = 0; seen = 0; e = 0
        };
        if
        ::!flag -> goto turn
        ::else
        fi
    ::else -> break
    od;
    returned[p] = 1;
    goto gone;
stop:
    stopped[p] = 1;
gone:
    skip;
    d_step {
        n = 0; mine = 0; s = 0; slot = 0; first = 0; second = 0; q = 0; segment = 0; i = 0;
        seen = 0; e = 0; flag = 0; after_subscribe = 0
    }
}

/* The event in hand is the next one for this subscription, and whole. */
inline check_taken(q, seq, first, second)
{
    assert(seq > taken[q] && event_of[seq] == first && event_of[seq] == second);
    assert(MATCHES(q, first));
    taken[q] = taken[q] + 1;
    do
    ::taken[q] < seq -> assert(!MATCHES(q, event_of[taken[q]])); taken[q] = taken[q] + 1
    ::else -> break
    od
}

proctype receiver(byte q, r)
{
    byte at_epoch, segment, i, seen, first, second;

#ifdef LATE
    if
    ::q == 0 && r == 0 ->
        d_step { inserted = 1; before_subscribe = returned_seq };
        seen = order_seq + 1;
        d_step {
            if
            ::start == 0 -> assert(seen > before_subscribe); start = seen; taken[0] = start - 1
            ::else
            fi
        };
        subscribed = 1;
        seen = 0
    ::else
    fi;
#endif

receive:
#ifndef BREAK_ANNOUNCE_LATE
    at_epoch = epoch[q];
    d_step {
        if
        ::slept[q] < at_epoch -> slept[q] = at_epoch
        ::else
        fi
    };
#endif

look:
    skip;
#if RECEIVERS > 1 /* else it does not matter when it is read */
    d_step { segment = head_segment[q]; i = head_index[q] };
#endif
    d_step {
#if RECEIVERS == 1
        segment = head_segment[q]; i = head_index[q];
#endif
        if
        ::i < CELLS -> seen = tag[CELL(q, segment, i)]; first = content[CELL(q, segment, i)]
        ::else -> seen = 0
        fi
    };
    if
    ::seen != 0 -> goto take
    ::else
    fi;
    seen = base[SEGMENT(q, segment + 1)]; /* is there a successor? */
    if
    ::seen == 0 -> goto nothing
    ::else
    fi;
#ifndef BREAK_NO_SECOND_LOOK
    if
    ::i < CELLS ->
        seen = tag[CELL(q, segment, i)];
        if
        ::seen != 0 -> goto look
        ::else
        fi
    ::else
    fi;
#endif
    d_step {
        if
        ::head_segment[q] == segment && head_index[q] == i ->
            head_segment[q] = segment + 1; head_index[q] = 0; seen = 1
        ::else -> seen = 0
        fi
    };
    if
    ::seen ->
        d_step {
            if
            ::tail[q] == segment -> tail[q] = segment + 1
            ::else
            fi
        }
    ::else
    fi;
    goto look;

take:
    second = first;
    if
    ::WIDTH(first) == 2 -> second = content[CELL(q, segment, i + 1)]
    ::else
    fi;
    d_step {
        if
        ::head_segment[q] == segment && head_index[q] == i ->
            head_index[q] = i + WIDTH(first);
            check_taken(q, seen, first, second)
        ::else
        fi;
        at_epoch = 0; segment = 0; i = 0; seen = 0; first = 0; second = 0
    };
    goto receive;

nothing:
    skip;
#ifdef BREAK_ANNOUNCE_LATE
    at_epoch = epoch[q];
    d_step {
        if
        ::slept[q] < at_epoch -> slept[q] = at_epoch
        ::else
        fi
    };
#endif
    d_step { /* as futex_wait: sleeps if the word is as it was */
        if
        ::epoch[q] == at_epoch -> asleep[q * RECEIVERS + r] = 1
        ::else
        fi;
        at_epoch = 0; segment = 0; i = 0; seen = 0; first = 0; second = 0
    };
end_asleep:
    !asleep[q * RECEIVERS + r];
    goto receive
}

/* When nobody can move any more. */
active proctype at_rest()
{
    byte q, segment, i, seq;

    timeout;
    d_step {
        do
        ::q < PUBLISHERS -> assert(returned[q] || stopped[q]); q++
        ::else -> break
        od;
        q = RECEIVED;
        do
        ::q < SUBSCRIPTIONS && i < CELLS && tag[CELL(q, segment, i)] != 0 ->
            seq = tag[CELL(q, segment, i)];
            check_taken(q, seq, content[CELL(q, segment, i)],
                        content[CELL(q, segment, i + WIDTH(content[CELL(q, segment, i)]) - 1)]);
            i = i + WIDTH(content[CELL(q, segment, i)])
        ::q < SUBSCRIPTIONS && !(i < CELLS && tag[CELL(q, segment, i)] != 0) ->
            i = 0;
            if
            ::base[SEGMENT(q, segment + 1)] != 0 -> segment++
            ::else -> segment = 0; q++
            fi
        ::else -> break
        od;
        q = 0;
        do
        ::q < SUBSCRIPTIONS ->
            seq = returned_seq;
            do
            ::seq > taken[q] -> assert(!MATCHES(q, event_of[seq])); seq--
            ::else -> break
            od;
            q++
        ::else -> break
        od
    }
}

init
{
    byte k;

    atomic {
        do
        ::k < PUBLISHERS -> run publisher(k); k++
        ::else -> break
        od;
        k = 0;
        do
        ::k < RECEIVED * RECEIVERS -> run receiver(k / RECEIVERS, k % RECEIVERS); k++
        ::else -> break
        od;
        k = 0
    }
}

#define SERVED(q) (q >= RECEIVED || taken[q] >= last_of_0)

ltl served { <> (returned[0] && SERVED(0) && SERVED(SUBSCRIPTIONS - 1)) }
