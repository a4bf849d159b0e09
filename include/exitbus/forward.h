/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus-forward: the events of a bus, written to a spool.
 *
 * A spool is a directory of files. One process writes it; programs `exitbus-forward` read it and
 * send what is in it to an engine. So no call here waits for an engine, and a host that uses it is
 * linked with zlib, and with no client of an engine. docs/fleet.md says what is delivered when.
 *
 * A child made by fork() has no writer: calls there return -ESTALE and do nothing. If the host is
 * killed, such a child keeps the lock of the spool until it exits or execs. Until then
 * exitbus_forward_start() returns -EBUSY.
 *
 * Link with -lexitbus-forward -lexitbus -lz. Conventions are those of exitbus.h.
 */
#ifndef EXITBUS_FORWARD_H
#define EXITBUS_FORWARD_H

#include <stdint.h>

#include <exitbus/exitbus.h>

#ifdef __cplusplus
extern "C" {
#endif

struct exitbus_forward;

/* exitbus_forward_options.flags */
/* Where the spool is full, wait for room: events stay in the memory of the bus, none is lost. */
#define EXITBUS_FORWARD_WAIT 0x01u
/* fdatasync() behind each write. Otherwise events of the last seconds may go with the machine. */
#define EXITBUS_FORWARD_SYNC 0x02u

struct exitbus_forward_options {
    uint32_t flags;
    const char *spool;  /* a directory; made if it is not there */
    uint64_t max_bytes; /* most bytes of the spool, at least 1 MiB; 0: 256 MiB */
};

struct exitbus_forward_stats {
    uint64_t written;     /* records written to the spool */
    uint64_t dropped;     /* records that had no room: the reader is told a gap */
    uint64_t removed;     /* bytes of oldest records removed for newer ones */
    uint64_t failures;    /* writes that failed, and were tried again or given up */
    int32_t last_error;   /* of the last failure, negative; 0: none */
    int32_t waiting;      /* 1: waits for room now */
    uint64_t reserved[6]; /* 0; for later versions */
};

/*
 * Write all events that are published on `bus` from now on to a spool, by a thread. Begins with a
 * record of this bus, and one for each child of the process that is alive.
 * Blocks for the disk.
 * Errors: -EINVAL; -EBUSY another process, or another call, writes to that spool; -ENOSPC and other
 * errors of mkdir, open and write; those of exitbus_subscribe(); -EAGAIN no thread.
 */
EXITBUS_API int exitbus_forward_start(struct exitbus *bus,
                                      const struct exitbus_forward_options *options,
                                      struct exitbus_forward **forward);

/*
 * Write what was published before the call, then a record of the end, and stop. With WAIT and
 * without room, what has none is given up. NULL is a no-op. Blocks for the disk.
 * Errors: -ESTALE in a forked child, and nothing is stopped. Errors, though it is stopped: if
 * records were dropped, why the last of them were.
 */
EXITBUS_API int exitbus_forward_stop(struct exitbus_forward *forward);

/* Figures so far. Errors: -EINVAL; -ESTALE in a forked child. */
EXITBUS_API int exitbus_forward_stats(struct exitbus_forward *forward,
                                      struct exitbus_forward_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
