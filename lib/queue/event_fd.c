/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The eventfd of a subscription. The protocol and its ten points: docs/design.md, "The descriptor".
 * Point N below is a point there.
 *
 * How it works:
 * - The eventfd is a semaphore: a read takes one token, so no take destroys another's token. It
 *   polls readable while it holds one.
 * - All that is known of it stands in one word, fd_state. 0: there is no descriptor, and publishers
 *   pass by.
 *   v  version: counts the announcements of receivers
 *   S  signalled: a publisher need not write
 *   t  tokens: at least those in the descriptor or about to be written
 *   p  publishers between their announcement and their note
 *   k  receivers between their announcement and their leave; each may take one token
 *   C  closed: the descriptor stays readable, and no thread takes or writes any more
 *   U  uncounted: t or p was too small a field once; t says nothing then, and p too little
 *   E  ended: the last reference is gone
 * - A publisher announces k + 1 tokens, writes them, and notes S if v is still the same.
 * - A receiver announces itself, looks at the queue again, and takes a token only if it is empty.
 *
 * It relies on: a full fence on both sides. Publishers pass theirs only where there is a
 * descriptor. So the thread that makes the descriptor passes a fence, and settles the order: from
 * then on every publisher sees the descriptor. Before that (WAKEUP_FD_KNOWN) no token is taken.
 */
#include "queue/event_fd.h"
#include "base/sys.h"

#include <errno.h>

/* Returns the descriptor in receiver->fd. */
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

/* A receiver takes no more tokens in one go. What is left costs another wake-up. */
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

/*
 * Returns the word with fewer tokens. The user, or an uncounted receiver, may have taken some, too.
 */
static inline uint64_t fd_less_tokens(uint64_t word, unsigned count)
{
    unsigned tokens = fd_tokens(word);
    return word - (count < tokens ? count : tokens) * FD_TOKEN;
}

/*
 * Change fd_state. Release; pairs with event_fd_signal(), and with the fence in wakeup_fd_clear().
 * A thread that loads a state beyond NONE there sees the descriptor, and the thread that closes the
 * descriptor sees all its uses. No acquire: the expected value was read before, and after a change
 * a thread reads nothing but behind the fence.
 */
static inline bool fd_change(struct wake_publisher *publisher, uint64_t *word, uint64_t to)
{
    return cas_release(&publisher->fd_state, word, to);
}

/* Close the descriptor if the change to `word` was its end: point 9. */
static inline void fd_close_if_unused(struct wake_receiver *receiver, uint64_t word)
{
    if (likely(!(word & FD_ENDED)) || word & FD_UNCOUNTED)
        return;
    if (fd_publishers(word) > 0 || fd_receivers(word) > 0)
        return;
    sys_close(fd_number(load_relaxed(&receiver->fd)));
    /* Relaxed: loaded again behind a grace period. */
    store_relaxed(&receiver->fd, -1);
}

void wakeup_destroy(struct wake_receiver *receiver)
{
    int fd = load_relaxed(&receiver->fd);
    if (fd >= 0)
        sys_close(fd_number(fd));
}

/* Write tokens. Retried, because a fault may have been injected, but not for ever. */
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

bool event_fd_signal(struct wake_publisher *publisher, struct wake_receiver *receiver, bool closing)
{
    /* Acquire; pairs with fd_change(). A state beyond NONE means that the descriptor is there. */
    uint64_t word = load_acquire(&publisher->fd_state);
    probe(PROBE_FD_STATE_READ);
    uint64_t announced;
    unsigned tokens;
    bool counted;
    for (;;) {
        if (word == WAKEUP_FD_NONE || word & FD_CLOSED)
            return true;
        if (word & FD_SIGNALLED) {
            if (!closing || fd_change(publisher, &word, word | FD_CLOSED))
                return true;
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
            next |= FD_CLOSED; /* else the next thread to close tries again */
        if (next == word)
            return result == 0;
        if (fd_change(publisher, &word, next)) {
            fd_close_if_unused(receiver, next);
            return result == 0;
        }
    }
}

/*
 * Returns whether no token is there or about to be: nothing to take, nothing to announce. Point 5.
 */
static bool fd_is_clean(uint64_t word)
{
    return !(word & (FD_SIGNALLED | FD_UNCOUNTED)) && fd_tokens(word) == 0;
}

/* Returns the word of a receiver that announces itself, again if it is `announced` already. */
static uint64_t fd_announced(uint64_t word, bool announced, bool taken)
{
    uint64_t next = (word & ~FD_SIGNALLED) + FD_VERSION;
    if (next / FD_VERSION == 0)
        next += FD_VERSION; /* never NONE */
    if (!announced)
        next += FD_RECEIVER;
    return taken ? fd_less_tokens(next, 1) : next;
}

/* Leave: undo the announcement. `signalled`: S as it was before the word `announced`. */
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
    /* Relaxed: all that follows from it lies behind the fence. */
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
                return true; /* point 5 */
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
        /* The announcement is visible before the look; pairs with the fence in
         * event_fd_signal(). */
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
        /* Acquire; pairs with the first CAS in wakeup_fd(). The fence orders as much, but
         * ThreadSanitizer ignores fences. */
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
    /* The announcement is visible before the look; pairs with the fence in event_fd_signal(). */
    fence_seq_cst();
}

int wakeup_fd(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    /* Acquire; pairs with the CAS below. */
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
        /* Release and acquire: a thread that returns the descriptor sees that it was made. */
        if (cas_release_else_acquire(&receiver->fd, &fd, fresh))
            fd = fresh;
        else
            sys_close(fresh);
    }
    /* Every caller does this, in case the thread that made the descriptor was stopped before. */
    uint64_t word = WAKEUP_FD_NONE;
    fd_change(publisher, &word, FD_VERSION | FD_TOKEN | FD_SIGNALLED);
    /* The state is visible to every publisher of a later turn; pairs with wakeup_notify(). The
     * caller settles, and so sees the appends of those that have missed it. */
    fence_seq_cst();
    return fd_number(fd);
}

void wakeup_fd_known(struct wake_receiver *receiver)
{
    int32_t fd = load_relaxed(&receiver->fd);
    /* Release; pairs with wakeup_fd_clearable(), for the appends that the caller has settled. */
    if (!(fd & WAKEUP_FD_KNOWN))
        cas_release(&receiver->fd, &fd, fd | WAKEUP_FD_KNOWN);
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
