/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The segments of a log (lib/queue/log.c) as a Promela model, for Spin to try in every
 * interleaving: publishers link segments and move the tail, receivers move cursors, cursors are
 * closed, and a new one joins. Cells are left out: a cursor crosses into the next segment as soon as
 * there is one. One step of a process is one access to shared memory.
 *
 * Cursor 0 has RECEIVERS, and with LEAVE it is closed meanwhile; cursor 1 has one receiver, and
 * stays. With JOIN a third cursor comes, and leaves. PUBLISHERS link LINKS segments, or find that
 * others have. With STOPS any process but publisher 0 and cursor 1's receiver may stop for good at
 * any of its steps.
 *
 * Safety
 *   - a segment that dies is behind the tail, and no open cursor is in it or in front of it;
 *   - a segment dies once;
 *   - the count of a segment that has PREDECESSOR_GONE is never below zero;
 *   - in the end, if no process has stopped, every segment in front of the slowest cursor and the
 *     tail is dead.
 * Not in it: weak memory, reuse of memory (a section's grace period is an assumption), the portions
 * in which segments are retired. BREAK_…: a mistake, which must be refuted.
 */

#ifndef PUBLISHERS
#define PUBLISHERS 1
#endif
#ifndef RECEIVERS
#define RECEIVERS 1
#endif
#ifndef LINKS
#define LINKS 2
#endif
#define SEGMENTS (LINKS + 1)

bit linked[SEGMENTS]; /* segment i + 1 is linked behind segment i */
byte tail;

/* The references of a segment, which are one word: each step on them is one d_step. */
bit predecessor_gone[SEGMENTS], tail_gone[SEGMENTS], dead[SEGMENTS];
short cursors[SEGMENTS] = 0;

byte position[3]; /* of a cursor */
bit closed[3], open[3];

byte running; /* processes that have not ended */
bit has_stopped;

#ifdef STOPS
#define MAY_STOP                                                                                   \
    if                                                                                             \
    ::skip                                                                                         \
    ::may_stop -> has_stopped = 1; goto stopped                                                    \
    fi
#else
#define MAY_STOP skip
#endif

/* What retire_unused() does: the caller's own operation has left `unused` as it says. */
inline retire_unused(segment)
{
    at = segment;
    do
    ::!unused -> break
    ::else ->
        MAY_STOP;
        d_step {
#ifndef BREAK_DEAD_TWICE
            won = predecessor_gone[at] && tail_gone[at] && cursors[at] == 0 && !dead[at];
#else
            won = 1;
#endif
            if
            ::won ->
                assert(!dead[at]);
                assert(tail > at);
                assert(!open[0] || position[0] > at);
                assert(!open[1] || position[1] > at);
                assert(!open[2] || position[2] > at);
                dead[at] = 1
            ::else
            fi
        }
        if
        ::!won -> break
        ::else
        fi;
        MAY_STOP;
        at++;
        d_step {
            predecessor_gone[at] = 1;
            assert(cursors[at] >= 0);
            unused = tail_gone[at] && cursors[at] == 0 && !dead[at]
        }
    od
}

inline cursor_enter(segment)
{
    cursors[segment]++
}

inline cursor_exit(segment)
{
    d_step {
        cursors[segment]--;
        assert(!predecessor_gone[segment] || cursors[segment] >= 0);
        unused = predecessor_gone[segment] && tail_gone[segment] && cursors[segment] == 0 &&
                 !dead[segment]
    };
    retire_unused(segment)
}

/* What log_cross() does. */
inline cross(from)
{
#ifdef BREAK_UNCOUNT_FIRST
    cursor_exit(from);
    MAY_STOP;
    cursor_enter(from + 1)
#else
    cursor_enter(from + 1);
    MAY_STOP;
    cursor_exit(from)
#endif
}

/* Links `links` segments, each unless another publisher has. */
proctype publisher(bool may_stop; byte links)
{
    byte here, at;
    bit unused, won;
    do
    ::links == 0 -> break
    ::else ->
        MAY_STOP;
        here = tail;
        if
        ::here == SEGMENTS - 1 -> break
        ::else
        fi;
        MAY_STOP;
        linked[here] = 1;
        MAY_STOP;
        d_step {
            won = tail == here;
            if
            ::won -> tail = here + 1
            ::else
            fi
        };
        if
        ::won ->
            MAY_STOP;
            d_step {
                tail_gone[here] = 1;
                unused = predecessor_gone[here] && cursors[here] == 0 && !dead[here]
            };
            retire_unused(here)
        ::else
        fi;
        links--
    od;
stopped:
    running--
}

/* Moves a cursor on, for as long as there is something behind it, `tries` times. */
proctype receiver(bool may_stop; byte cursor; byte tries)
{
    byte here, at;
    bit unused, won;
    do
    ::tries == 0 -> break
    ::else ->
        MAY_STOP;
        d_step {
            here = position[cursor];
            won = closed[cursor]
        };
        if
        ::won -> break
        ::else
        fi;
        if
        ::linked[here] ->
            MAY_STOP;
            d_step { /* the CAS of the head, which has the closed bit in it */
                won = position[cursor] == here && !closed[cursor];
                if
                ::won -> position[cursor] = here + 1
                ::else
                fi
            };
            if
            ::won -> MAY_STOP; cross(here)
            ::else
            fi
        ::else
        fi;
        tries--
    od;
stopped:
    running--
}

/* Closes a cursor. */
proctype leaver(bool may_stop; byte cursor)
{
    byte here, at;
    bit unused, won;
    MAY_STOP;
    d_step {
        closed[cursor] = 1;
        open[cursor] = 0;
        here = position[cursor]
    };
    MAY_STOP;
    cursor_exit(here);
stopped:
    running--
}

/* A new cursor walks from the tail to the end, and leaves again. */
proctype joiner(bool may_stop)
{
    byte here, at;
    bit unused, won;
    MAY_STOP;
    here = tail;
    MAY_STOP;
#ifndef BREAK_JOIN_UNCOUNTED
    cursor_enter(here);
#endif
    MAY_STOP;
    do
    ::d_step { /* no successor: its place is decided, and asserted from here on */
        !linked[here] -> position[2] = here; open[2] = 1; assert(!dead[here])
      } -> break
    ::linked[here] -> MAY_STOP; cross(here); here++
    od;
#ifdef BREAK_JOIN_UNCOUNTED
    cursor_enter(here);
#endif
    MAY_STOP;
    d_step { closed[2] = 1; open[2] = 0 };
    MAY_STOP;
    cursor_exit(here);
stopped:
    running--
}

#define run_counted(process)                                                                       \
    running++;                                                                                     \
    run process

init
{
    byte i, slowest;
    atomic {
        predecessor_gone[0] = 1;
        cursors[0] = 2;
        open[0] = 1;
        open[1] = 1;
        run_counted(publisher(false, LINKS));
        run_counted(receiver(false, 1, LINKS));
        run_counted(receiver(true, 0, LINKS));
#if PUBLISHERS > 1
        run_counted(publisher(true, 1));
#endif
#if RECEIVERS > 1
        run_counted(receiver(true, 0, 1));
#endif
#ifdef LEAVE
        run_counted(leaver(true, 0));
#endif
#ifdef JOIN
        run_counted(joiner(true));
#endif
    }
    running == 0;
    d_step {
        slowest = (position[1] < tail -> position[1] : tail);
        slowest = (open[0] && position[0] < slowest -> position[0] : slowest);
        i = 0;
        do
        ::i == slowest -> break
        ::else ->
            assert(has_stopped || dead[i]);
            i++
        od
    }
}
