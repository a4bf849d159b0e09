/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The calls into the subject, each noted in its thread's ring. What the subject lacks is made up
 * for where that is possible: a receive that can only be tried is tried until its time is over.
 */
#ifndef STRESS_CALLS_H
#define STRESS_CALLS_H

#include "worker.h"

int call_publish(const struct subject_event *events, size_t count, uint64_t *first_seq);
int call_subscribe(const struct subject_topic *topic, uint32_t flags, void **subscription);
int call_unsubscribe(void *subscription);
/* Who subscribed, if that was not too many subscriptions ago; else NULL. */
const struct worker *call_maker_of(const void *subscription);
/* Capacity up to BATCH. timeout_ns as in subject.h. */
ssize_t call_receive(void *subscription, struct subject_event *events, size_t capacity,
                     int64_t timeout_ns);
/* Wait up to `ms` for the descriptor to be readable: 1, 0, or a negative errno value. */
int call_poll(void *subscription, int ms);
int call_spawn(char *const argv[], pid_t *pid, void **subscription);

/* Tasks, handles and groups, where the subject has them: see subject.h. */
int call_task_create(uint8_t container, void **task);
int call_task_release(void *task);
int call_exec_reserve(void *task, uint8_t exec, void **handle);
int call_exec_started(void *handle, pid_t pid);
int call_exec_cancel(void *handle);
int call_exec_wait(void *handle, int *status, int64_t timeout_ns);
int call_exec_release(void *handle);
int call_adopt(pid_t pid, void **process);
int call_signal(void *process, int signal);
int call_process_wait(void *process, int *status, int64_t timeout_ns);
int call_process_release(void *process);
int call_group_create(void **group);
int call_group_add(void *group, void *process);
int call_group_end(void *group, int signal, int64_t grace_ns);
int call_group_wait(void *group, int64_t timeout_ns);
int call_group_release(void *group);

/* Of world->bus. */
int call_create(void);
int call_destroy(void);
int call_stats(struct subject_stats *stats);

static inline void subject_ref(void *subscription)
{
    world->subject->ref(subscription);
}

static inline void subject_unref(void *subscription)
{
    world->subject->unref(subscription);
}

#endif
