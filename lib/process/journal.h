/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A reaper's journal: the exit record of EXITBUS_REAPER_RECORD. Each exit that the reaper collects
 * is appended to a file before it is published and reaped, so that another process, which has no
 * such child, can read it after this one has died.
 */
#ifndef EXITBUS_JOURNAL_H
#define EXITBUS_JOURNAL_H

#include "base/sys.h"

#include <exitbus/exitbus.h>

/* Exits that were written, and whose children are not reaped yet, that a journal knows of. */
#define JOURNAL_WRITTEN 64

/* What names a process as long as the machine runs. */
struct journal_name {
    int32_t pid; /* 0: the place is free */
    uint64_t start_ns;
};

/* Of one reaper; by the thread that makes its passes. */
struct journal {
    int fd;               /* our own; -1: there is no journal */
    struct sys_file file; /* that it is of; its size as our latest entry has left it */
    uint64_t boot;        /* names this boot; 0: not known */
    uint64_t doubted_ns;  /* CLOCK_BOOTTIME: the file may have exits of processes as old as that */
    struct journal_name written[JOURNAL_WRITTEN];
};

/*
 * Begin, with a copy of the user's descriptor. Returns 0; -EBADF; -EINVAL: it is of no regular
 * file, or not open for appending; -EMFILE, -ENFILE, -ENOMEM.
 */
int journal_open(struct journal *journal, int fd);

/* Close the copy, if there is one, and if its number is not another file's by now. */
void journal_close(struct journal *journal);

/*
 * Append an exit, unless it was written before. Returns 0 or -errno: it is not in the file, or only
 * a part of it, which readers pass over. -EBADF: the descriptor is not ours any more, or does not
 * append. Context: blocks as long as the file does.
 */
int journal_write(struct journal *journal, const struct exitbus_event *event);

/* The child of that pid was reaped. */
void journal_reaped(struct journal *journal, pid_t pid);

/* Another waiter has reaped it, and its exit is about to be written without a start time. */
void journal_lost(struct journal *journal, pid_t pid);

/* No child is a zombie: all were reaped. */
void journal_all_reaped(struct journal *journal);

/* The public call exitbus_record_read(), with checked arguments. */
int journal_read(int fd, uint64_t *offset, struct exitbus_event *event);

#endif
