/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The command line of exitbus-forward. */
#ifndef TOOLS_FORWARD_OPTIONS_H
#define TOOLS_FORWARD_OPTIONS_H

#include "tools/forward/output.h"

struct options {
    const char *spool;
    const char *name; /* of the cursor */
    const char *lines;
    char **command;               /* NULL: none */
    struct output_options output; /* target NULL: write the spool only */
    uint32_t flags;               /* EXITBUS_FORWARD_… */
    uint64_t max_bytes;
    int64_t linger_ms; /* -1: as long as it takes */
    bool once;
    bool stats;
    char machine[65];
    char host[256];
};

/* Ends the process, with status 2, if the command line is wrong. */
void options_parse(int argc, char **argv, struct options *options);

#endif
