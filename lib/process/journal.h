/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A reaper's journal: the exit record of EXITBUS_REAPER_RECORD. Each exit that the reaper collects
 * is appended to a file before it is published and reaped, so that another process, which has no
 * such child, can read it after this one has died.
 */
#ifndef EXITBUS_JOURNAL_H
#define EXITBUS_JOURNAL_H

#include <exitbus/exitbus.h>
#include <stdbool.h>

/* Exits that were written, and whose children are not reaped yet, that a journal knows of. */
#define JOURNAL_WRITTEN 64

/* What names a process as long as the machine runs. */
struct journal_name {
    int32_t pid; /* 0: the place is free */
    uint64_t start_ns;
};

/* Of one reaper; by the thread that makes its passes. */
struct journal {
    int fd;             /* our own; -1: there is no journal */
    uint64_t boot;      /* names this boot; 0: not known */
    uint64_t opened_ns; /* CLOCK_BOOTTIME */
    bool continued;     /* the file was not empty: another may have written what we write */
    bool crowded;       /* one had no place in `written` */
    struct journal_name written[JOURNAL_WRITTEN];
};

/*
 * Begin, with a copy of the user's descriptor. Returns 0; -EBADF; -EINVAL: it is of no regular
 * file, or not open for appending; -EMFILE, -ENFILE.
 */
int journal_open(struct journal *journal, int fd);

/* Close the copy, if there is one. */
void journal_close(struct journal *journal);

/*
 * Append an exit, unless it was written before. Returns 0 or -errno: it is not in the file, or only
 * a part of it, which readers pass over. Context: blocks as long as the file does.
 */
int journal_write(struct journal *journal, const struct exitbus_event *event);

/* The child of that pid was reaped. */
void journal_reaped(struct journal *journal, pid_t pid);

/* The public call exitbus_record_read(), with checked arguments. */
int journal_read(int fd, uint64_t *offset, struct exitbus_event *event);

#endif
