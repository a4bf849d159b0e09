/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The explorer: runs a program of 2 to 4 threads through all its executions in RC11, up to bounds.
 * Threads are coroutines of one thread. Each atomic operation is a call here. The explorer chooses
 * which thread goes on, and where in modification order the operation takes place. See explore.c
 * for the model of memory, and README.md for how to use it.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum model_rmw_kind { MODEL_EXCHANGE, MODEL_ADD, MODEL_OR, MODEL_AND };

/* An operation's place in the source. */
struct model_site {
    const char *file, *function, *object;
    int line;
};

uint64_t model_load(const void *address, size_t size, int order, const struct model_site *site);
void model_store(void *address, size_t size, uint64_t value, int order,
                 const struct model_site *site);
uint64_t model_rmw(void *address, size_t size, enum model_rmw_kind kind, uint64_t operand,
                   int order, const struct model_site *site);
bool model_cas(void *address, size_t size, void *expected, uint64_t desired, int success,
               int failure, const struct model_site *site);
void model_fence(int order, const struct model_site *site);
/* A plain store, as to memory that nobody else can see yet; and of many. */
void *model_memset(void *address, int byte, size_t size);
void model_init(void *address, size_t size, uint64_t value);

/* A full fence on every thread, as by membarrier. */
void model_fence_all(void);

/* Like a plain store to the object, and a plain load: who uses it must know that it was made. */
void model_make(const void *object);
void model_use(const void *object);

/* A system call: others may go first. What one hands over through it another takes over. */
struct model_channel {
    unsigned number;
};
void model_step(void);
void model_hand_over(struct model_channel *channel);
void model_take_over(struct model_channel *channel);

/* Any number below that: each in some execution. */
unsigned model_choice(unsigned options);

/* What the execution has come to: after the last one, each that was there is printed once. */
void model_outcome(uint64_t outcome);

/* Let another thread take a step first, if one can. */
void model_pause(void);

/* Sleep until model_wake(address); for the model of the futex. */
void model_sleep(const void *address);
void model_wake(const void *address);

struct rcu_head;
void model_section_begin(void);
void model_section_end(void);
int model_section_inside(void);
void model_later(struct rcu_head *head, void (*callback)(struct rcu_head *));
void model_grace_period(void);

int model_thread_start(unsigned long *thread, void *(*body)(void *), void *argument);
int model_thread_join(unsigned long thread);
unsigned model_thread_number(void);

int model_once(void *once, void (*function)(void));
/* One key; main's own value is left alone, since the process ends with it. */
int model_key_create(void (*at_end)(void *));
int model_setspecific(void *value);

/* Memory from the kernel: zeroed, and never given back. */
void *model_map(size_t size);

/*
 * Accesses to [address, address + size) are violations from now on, or not. It is a violation if
 * whoever says so does not know of every store there.
 */
void model_dead(const void *address, size_t size);
void model_alive(const void *address, size_t size);
/* Forget what atomics there were: the memory is used anew, with what it holds now. */
void model_forget(const void *address, size_t size);

_Noreturn void model_violation(const char *what, const char *file, int line);

#endif
