/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The eventfd is a semaphore: a read takes one token, so no take destroys another's token. It polls
 * readable while it holds one. All that is known of it stands in one word, fd_state (0: there is no
 * descriptor, and publishers go by):
 *     v  version: how often a receiver has announced that it is going to look
 *     S  signalled: a publisher need not write
 *     t  tokens: at least those that are in the descriptor or about to be written
 *     p  publishers between their announcement and their note
 *     k  receivers between their announcement and their leave: each may take one token
 *     C  closed: the descriptor stays readable, nobody takes or writes any more
 *     U  uncounted: t, or p, has been too small a field once; t says nothing, and p too little
 *     E  ended: the last reference is gone
 *
 * Publisher, its event being in the queue:   Receiver that has found the queue empty:
 *     fence, load the word                       load the word; S, U, t all 0: -EAGAIN
 *     S or C: return                             announce: CAS {v + 1, no S, k + 1}
 *     announce: CAS {t + k + 1, p + 1}           fence, look at the queue again
 *     write k + 1 tokens                         something there: leave {k - 1, S as it was if v
 *     note: CAS {p - 1, S if v is still            is unchanged}; look again for an event
 *       as announced}                            empty: take a token, if t says that there are any;
 *                                                  leave {k - 1, t - 1}, or, if there are more,
 *                                                  announce and look again before the next
 *                                                -EAGAIN
 * A receiver does this when it is about to say -EAGAIN, and also after it has taken the last event,
 * so that a loop that takes one event for each wake-up is not woken once more for nothing.
 *
 * 1. Look. Let P load the word before R's announcement in its modification order. Then P's fence
 *    comes before R's, and R's look sees P's event, or that somebody has taken it.
 * 2. Tokens. S means that there are at least 1 + n tokens, n being the receivers that have looked,
 *    or will, and have yet to take their one. When S is noted, v is as announced: nobody has
 *    announced since, so n <= k, and k + 1 tokens were written. After that n only falls with the
 *    tokens, until a receiver announces and takes S away. One that finds something gives S back
 *    only if no other has announced since, and takes nothing.
 * 3. Level. An event in the queue, all its publishers past their notes, and no receiver past its
 *    announcement that would still find it: then there is a token. For P either wrote k + 1, which
 *    the k receivers of before can't use up, or read S, with 2; and a receiver that announces after
 *    P's load finds the event by 1, and takes none.
 * 4. Edge. R has said -EAGAIN without having seen P's event. Then a token was written after R was
 *    last woken. If P writes, its write is that token: had it been before, R would know of the
 *    event. If P has read S, that was noted by some Q after R's announcement: one from before R has
 *    taken away, and then P loaded before the announcement, and R saw the event by 1. Nor was it
 *    given back by a receiver of before, since R moved v. So Q, whose v was still current, loaded
 *    behind R's announcement, and wrote behind that.
 * 5. Without an announcement. A word with S, U and t 0 leaves nothing to announce for. A Q that
 *    could still note S with the current v has announced k + 1 tokens, of which the k can take k at
 *    most, and t is never too low; so t would not be 0. Nor has S been taken away by a receiver
 *    that is yet to look: it takes its token only then, and leaves t as it was until it has.
 * 6. No wake-up for nothing. P, stopped behind its write, has woken R; R takes the event, sees t,
 *    and takes the token. P finds another v, and leaves S alone. t is then exact again.
 * 7. Stopped for ever: a publisher leaves t too high, and a token, if it has written: one wake-up,
 *    and a read more before each -EAGAIN, which says that there is none. A receiver leaves k:
 *    publishers write one token more each, which other receivers take, as t says.
 * 8. Closing is an event, too: with S there is a token, otherwise k + 1 are written, and then C is
 *    set. Receivers that announce later see it, or the closed queue, and take nothing.
 * 9. The descriptor's end. Behind C nobody announces. So once the last reference is gone (E), and p
 *    and k are 0, nobody is going to use the descriptor any more. The change that makes it so, the
 *    setting of E or the last note or leave, happens once, and closes it. With U the grace period
 *    does it. A thread stopped in between keeps the one descriptor that it is using.
 * 10. Errors. A write that fails, for whatever reason, is taken back in the note, without S: the
 *    next publisher tries again, nobody waits. A read that fails ends the taking.
 *
 * A receiver announces after each burst, so here a heavy barrier would cost more than all the rest.
 * Instead a publisher that sees that there is a descriptor passes a full fence before it reads the
 * state, and so does the receiver. It takes one heavy barrier, when the descriptor is made, to know
 * that from then on every publisher sees it; only after that (WAKEUP_FD_KNOWN) is anything taken.
 */
#include "queue/event_fd.h"
#include "base/sys.h"

#include <errno.h>

/* The descriptor in receiver->fd. */
static inline int fd_number(int32_t fd)
{
    return fd & ~WAKEUP_FD_KNOWN;
}

/* The fields of fd_state, from the lowest bit up. */
#define FD_SIGNALLED ((uint64_t)1)
#define FD_CLOSED ((uint64_t)2)
#define FD_UNCOUNTED ((uint64_t)4)
#define FD_ENDED ((uint64_t)8)
#define FD_TOKENS_MAX 255
#define FD_TOKEN ((uint64_t)1 << 4)
#define FD_PUBLISHERS_MAX 255
#define FD_PUBLISHER ((uint64_t)1 << 12)
#define FD_RECEIVERS_MAX 127
#define FD_RECEIVER ((uint64_t)1 << 20)
#define FD_VERSION ((uint64_t)1 << 27)

/* A receiver takes no more tokens in one go; what may be left costs another wake-up. */
#define FD_TAKES_MAX 512

static inline unsigned fd_tokens(uint64_t word)
{
    return (word / FD_TOKEN) & FD_TOKENS_MAX;
}

static inline unsigned fd_publishers(uint64_t word)
{
    return (word / FD_PUBLISHER) & FD_PUBLISHERS_MAX;
}

static inline unsigned fd_receivers(uint64_t word)
{
    return (word / FD_RECEIVER) & FD_RECEIVERS_MAX;
}

static inline bool fd_same_version(uint64_t word, uint64_t other)
{
    return word / FD_VERSION == other / FD_VERSION;
}

/* The user, or one that is not counted, may have taken tokens, too. */
static inline uint64_t fd_less_tokens(uint64_t word, unsigned count)
{
    unsigned tokens = fd_tokens(word);
    return word - (count < tokens ? count : tokens) * FD_TOKEN;
}

/*
 * Every change of fd_state. Release: a thread that reads a state beyond NONE with acquire
 * (event_fd_signal), or before a fence (wakeup_fd_clear), sees the descriptor; and the one that closes it
 * sees all its uses. No acquire: what was read before is known already, and nothing is read after a
 * change but behind the fence.
 */
static inline bool fd_change(struct wake_publisher *publisher, uint64_t *word, uint64_t to)
{
    return cas_release(&publisher->fd_state, word, to);
}

/* After a change to `word`: close the descriptor if that was its end. See 9. */
static inline void fd_close_if_unused(struct wake_receiver *receiver, uint64_t word)
{
    if (likely(!(word & FD_ENDED)) || word & FD_UNCOUNTED)
        return;
    if (fd_publishers(word) > 0 || fd_receivers(word) > 0)
        return;
    sys_close(fd_number(load_relaxed(&receiver->fd)));
    /* Relaxed: read again behind a grace period. */
    store_relaxed(&receiver->fd, -1);
}

void wakeup_destroy(struct wake_receiver *receiver)
{
    int fd = load_relaxed(&receiver->fd);
    if (fd >= 0)
        sys_close(fd_number(fd));
}

/* Retried, though never for ever: it may be that a fault was injected. */
static int fd_write(int fd, unsigned tokens)
{
    int result = 0;
    for (int tries = 0; tries < 4; tries++) {
        result = sys_eventfd_add_tokens(fd, tokens);
        if (result == 0 || result == -EBADF)
            break;
    }
    return result;
}

/* By a publisher, or, with `closing`, by the thread that has closed the queue. */
void event_fd_signal(struct wake_publisher *publisher, struct wake_receiver *receiver, bool closing)
{
    /* The append (or the close) before the look; pairs with the fence in wakeup_fd_clear. */
    fence_seq_cst();
    /* Acquire: a state beyond NONE means that the descriptor is there. */
    uint64_t word = load_acquire(&publisher->fd_state);
    probe(PROBE_FD_STATE_READ);
    uint64_t announced;
    unsigned tokens;
    bool counted;
    for (;;) {
        if (word == WAKEUP_FD_NONE || word & FD_CLOSED)
            return;
        if (word & FD_SIGNALLED) {
            if (!closing || fd_change(publisher, &word, word | FD_CLOSED))
                return;
            continue;
        }
        tokens = fd_receivers(word) + 1;
        counted =
            fd_tokens(word) + tokens <= FD_TOKENS_MAX && fd_publishers(word) < FD_PUBLISHERS_MAX;
        announced = counted ? word + tokens * FD_TOKEN + FD_PUBLISHER : word | FD_UNCOUNTED;
        if (announced == word || fd_change(publisher, &word, announced))
            break;
    }
    probe(PROBE_FD_ANNOUNCED);
    int fd = fd_number(load_relaxed(&receiver->fd));
    int result = fd_write(fd, tokens);
    probe(PROBE_FD_WRITTEN);
    word = announced;
    for (;;) {
        uint64_t next = counted ? word - FD_PUBLISHER : word;
        if (result < 0)
            next = counted ? fd_less_tokens(next, tokens) : next;
        else if (fd_same_version(word, announced))
            next |= FD_SIGNALLED;
        if (closing && result == 0)
            next |= FD_CLOSED; /* or the next to close tries again */
        if (next == word)
            return;
        if (fd_change(publisher, &word, next)) {
            fd_close_if_unused(receiver, next);
            return;
        }
    }
}

/* No token is there or about to be: nothing to take, and no need to announce. See 5. */
static bool fd_is_clean(uint64_t word)
{
    return !(word & (FD_SIGNALLED | FD_UNCOUNTED)) && fd_tokens(word) == 0;
}

/* The word for a receiver that announces itself, again if it is `announced` already. */
static uint64_t fd_announced(uint64_t word, bool announced, bool taken)
{
    uint64_t next = (word & ~FD_SIGNALLED) + FD_VERSION;
    if (next / FD_VERSION == 0)
        next += FD_VERSION; /* never NONE */
    if (!announced)
        next += FD_RECEIVER;
    return taken ? fd_less_tokens(next, 1) : next;
}

/* The opposite. `signalled`: as it was before the word `announced`. */
static void fd_leave(struct wake_publisher *publisher, struct wake_receiver *receiver,
                     uint64_t announced, bool signalled, bool taken)
{
    uint64_t word = announced;
    uint64_t next;
    do {
        next = word - FD_RECEIVER;
        if (taken)
            next = fd_less_tokens(next, 1);
        if (signalled && fd_same_version(word, announced))
            next |= FD_SIGNALLED;
    } while (!fd_change(publisher, &word, next));
    fd_close_if_unused(receiver, next);
}

bool wakeup_fd_clear(struct wake_publisher *publisher, struct wake_receiver *receiver,
                     bool (*pending)(const void *context), const void *context)
{
    /* Relaxed: whatever is done about it comes behind the fence. */
    uint64_t word = load_relaxed(&publisher->fd_state);
    probe(PROBE_FD_BEFORE_CLEARING);
    uint64_t announced = 0;
    bool counted = false, taken = false;
    for (unsigned takes = 0;; takes++) {
        bool signalled;
        do {
            if (word & FD_CLOSED) {
                if (counted)
                    fd_leave(publisher, receiver, word, false, taken);
                return false;
            }
            if (!counted && fd_is_clean(word))
                return true; /* see 5 */
            signalled = word & FD_SIGNALLED;
            /* More receivers than can be counted: this one takes none. */
            bool full = !counted && fd_receivers(word) == FD_RECEIVERS_MAX;
            announced = fd_announced(word, counted || full, taken);
            if (fd_change(publisher, &word, announced)) {
                counted = !full;
                break;
            }
        } while (true);
        probe(PROBE_FD_CLEARING);
        /* The announcement before the look; pairs with the fence in event_fd_signal. */
        fence_seq_cst();
        if (pending(context)) {
            if (counted)
                fd_leave(publisher, receiver, announced, signalled, false);
            return false;
        }
        if (!counted)
            return true;
        if ((fd_tokens(announced) == 0 && !(announced & FD_UNCOUNTED)) || takes == FD_TAKES_MAX) {
            fd_leave(publisher, receiver, announced, false, false);
            return true;
        }
        probe(PROBE_FD_ARMED);
        /* Acquire: pairs with the CAS in wakeup_fd. The fence does as much, but TSan ignores it. */
        int fd = fd_number(load_acquire(&receiver->fd));
        int result = sys_eventfd_take(fd);
        probe(PROBE_FD_TAKEN);
        taken = result == 0;
        if (!taken || (fd_tokens(announced) == 1 && !(announced & FD_UNCOUNTED))) {
            fd_leave(publisher, receiver, announced, false, taken);
            return true;
        }
        word = load_relaxed(&publisher->fd_state);
    }
}

void wakeup_fd_rearm(struct wake_publisher *publisher)
{
    uint64_t word = load_relaxed(&publisher->fd_state);
    while (!(word & FD_CLOSED) && !fd_change(publisher, &word, fd_announced(word, true, false)))
        continue;
    /* The announcement before the look; pairs with the fence in event_fd_signal. */
    fence_seq_cst();
}

int wakeup_fd(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    /* Acquire: pairs with the CAS below. */
    int32_t fd = load_acquire(&receiver->fd);
    if (fd < 0) {
        int fresh = sys_eventfd(true);
        if (fresh < 0)
            return fresh;
        int result = sys_eventfd_add(fresh);
        if (result < 0) {
            sys_close(fresh);
            return result;
        }
        /* Release, and acquire: whoever returns the descriptor knows that it was made. */
        if (cas_release_else_acquire(&receiver->fd, &fd, fresh))
            fd = fresh;
        else
            sys_close(fresh);
    }
    /* By every caller, in case the one that made it was stopped before this. */
    uint64_t word = WAKEUP_FD_NONE;
    fd_change(publisher, &word, FD_VERSION | FD_TOKEN | FD_SIGNALLED);
    if (!(fd & WAKEUP_FD_KNOWN)) {
        /* The state before who looks at it; pairs with barrier_light in notify. Who did not see it
         * has appended before, and that is known behind this. */
        barrier_heavy();
        /* Release: pairs with wakeup_fd_clearable, for what the barrier has made known. */
        int32_t unknown = fd;
        cas_release(&receiver->fd, &unknown, fd | WAKEUP_FD_KNOWN);
    }
    return fd_number(fd);
}

void wakeup_fd_close_when_unused(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    if (!wakeup_fd_used(receiver))
        return;
    uint64_t word = load_relaxed(&publisher->fd_state);
    uint64_t ended;
    do
        ended = word | FD_CLOSED | FD_ENDED;
    while (!fd_change(publisher, &word, ended));
    fd_close_if_unused(receiver, ended);
}
