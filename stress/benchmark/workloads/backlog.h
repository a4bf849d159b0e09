/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One measurement of workload backlog, in a process that does nothing else. */
#ifndef BENCH_BACKLOG_H
#define BENCH_BACKLOG_H

/* `request` is PEER:EVENTS:SUBSCRIPTIONS. Prints four numbers, and returns the exit status. */
int backlog_alone(const char *request);

#endif
