/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An output: where messages go, a batch at a time. A batch that fails is given again, as a whole:
 * so a message may come twice, with one id.
 */
#ifndef TOOLS_FORWARD_OUTPUT_H
#define TOOLS_FORWARD_OUTPUT_H

#include "tools/forward/message.h"

#define OUTPUT_BATCH 4096 /* most messages of a batch */

struct output {
    /* Begin with a batch, which stays as it is until it is finished. Returns 0; or -errno, and
     * perhaps some are accepted. `why` is a text for it. */
    int (*start)(struct output *output, struct message *messages, size_t count, const char **why);
    /* Wait until the engine has accepted all of it. Returns 0 or -errno, likewise. */
    int (*finish)(struct output *output, const char **why);
    void (*close)(struct output *output);
    size_t refused; /* messages of the finished batch that the engine will never accept */
};

struct output_options {
    const char *target;      /* json:FILE, json:-, journal, nats:URL */
    const char *stream;      /* nats: its name, or NULL: any */
    const char *credentials; /* nats: a file, or NULL */
    bool create;             /* nats: make the stream if it is not there */
};

/* Make an output by the target's name. An engine that is away is no error. Returns NULL, with errno
 * set: EINVAL there is no such output, ENOTSUP it was not built in. */
struct output *output_open(const struct output_options *options);

/* A `finish` for outputs whose `start` does all. Returns 0. */
int output_done(struct output *output, const char **why);

struct output *output_json_open(const char *path);
struct output *output_journal_open(void);
struct output *output_nats_open(const struct output_options *options);

#endif
