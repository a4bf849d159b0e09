/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The load that is always there: producers, and subscribers to everything. */
#ifndef STRESS_BASE_H
#define STRESS_BASE_H

/* Publishes events, one by one and in batches. */
void *producer_body(void *number);

/* Subscribes to everything for the whole run, and receives every event (G1, G2). */
void *steady_body(void *number);

#endif
