/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Lines of JSON of another program, written to a spool by a thread. A file is followed: also what
 * is appended later, and a file that takes its place. Its position goes with each record, so after
 * a restart it is read from where the spool ends. A pipe has no position, and is read to its end.
 */
#ifndef TOOLS_FORWARD_LINES_H
#define TOOLS_FORWARD_LINES_H

#include "tools/forward/spool.h"

#include <pthread.h>

struct lines {
    struct spool spool;
    struct record_head head;
    const char *path; /* "-": standard input */
    bool once;        /* end at the end of the file */
    bool is_stream;   /* no regular file: it has no places */
    int fd;
    int changes;       /* inotify of the file's directory, or -1 */
    int stop;          /* eventfd: readable when it is to stop */
    int ended;         /* eventfd: readable when it has ended by itself */
    uint64_t too_long; /* lines that were passed over */
    int error;         /* of the read that ended it, negative */
    bool is_failing;   /* the file can't be opened, which was reported */
    char *text;
    size_t held;
    pthread_t thread;
};

/* Returns 0 or -errno. */
int lines_start(struct lines *lines, const char *spool, uint32_t flags, uint64_t max_bytes);
/* Returns 0; or -errno, why records were dropped. */
int lines_stop(struct lines *lines);

#endif
