/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * From a spool to an output: read a batch, send it, note how far it has come. A batch that fails is
 * kept and sent again; the cursor moves behind what the engine has accepted, never before.
 */
#ifndef TOOLS_FORWARD_SENDER_H
#define TOOLS_FORWARD_SENDER_H

#include "tools/forward/output.h"

struct batch {
    struct message *messages;
    size_t count;
    uint64_t passed; /* the last number that it tells of, or that can't be told; 0: none */
    uint64_t first;  /* the segment that this is in */
};

struct sender {
    struct spool_reader reader;
    struct output *output;
    struct message_origin origin;
    int directory;
    int cursor; /* descriptor */
    char cursor_name[96];
    uint64_t pruned;         /* the segment that was read when segments were last removed */
    struct batch batches[2]; /* the one to send, and the next */
    int turn;
    uint64_t delivered;  /* messages */
    uint64_t lost;       /* records in gaps */
    uint64_t unreadable; /* records that can't be sent, or that the engine refuses for good */
    uint64_t repeated;   /* messages that were sent again */
    const char *why;     /* of the last failure */
};

/* `name` is that of the cursor. Returns 0; -EBUSY another process delivers by it; or -errno. */
int sender_open(struct sender *sender, const char *spool, const char *name, struct output *output);
void sender_close(struct sender *sender);

/* Send one batch. Returns 1; 0 if there is nothing now; or -errno, and the next
 * call tries it again. */
int sender_step(struct sender *sender);

#endif
