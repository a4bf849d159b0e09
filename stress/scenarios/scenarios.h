/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kinds of threads that a run consists of. Each takes its number (cast) and runs until told. */
#ifndef STRESS_SCENARIOS_H
#define STRESS_SCENARIOS_H

/* Publishes synthetic events, one by one and in batches; checks the real-time order (G2). */
void *scenario_producer(void *number);

/* Subscribes to everything for the whole run, and receives every event (G1, G2). */
void *scenario_steady(void *number);

/* Subscribes to one pid, receives nothing until the end, then finds everything there (G1, G4). */
void *scenario_sloth(void *number);

/* Subscribes to random topics, receives in every way there is, unsubscribes (G1, G2, G3, G5). */
void *scenario_churn(void *number);

/* Several threads on one subscription, closed by another (G1, G3, G5). */
void *scenario_shared(void *number);

/* Real children: codes, signals, execs that fail (G1, G8), and their latency. */
void *scenario_spawner(void *number);

/* Bad input, forks, one-shots (G8, G9). */
void *scenario_faults(void *number);

#endif
