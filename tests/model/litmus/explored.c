/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The litmus program that the environment variable LITMUS names, for the explorer. */
#include "model.h"
#include "programs.h"

#include <pthread.h>
#include <stdatomic.h>

static const memory_order orders[] = {
    [RLX] = memory_order_relaxed, [ACQ] = memory_order_acquire, [REL] = memory_order_release,
    [AR] = memory_order_acq_rel,  [SC] = memory_order_seq_cst,
};

static struct program program;
static _Atomic int memory[LOCATIONS];
static int registers[REGISTERS + 1];

static void compare(const struct operation *o, _Atomic int *at)
{
    int value = o->wanted;
    registers[o->to] = atomic_compare_exchange_strong_explicit(
        at, &value, o->value, orders[o->order], orders[o->failure]);
    registers[o->to_old] = value;
}

static void perform(const struct operation *o)
{
    _Atomic int *at = &memory[o->location];
    int value = o->value + (o->from ? registers[o->from] : 0);
    if (o->kind == STORE)
        atomic_store_explicit(at, value, orders[o->order]);
    else if (o->kind == LOAD)
        registers[o->to] = atomic_load_explicit(at, orders[o->order]);
    else if (o->kind == FETCH_ADD)
        registers[o->to] = atomic_fetch_add_explicit(at, value, orders[o->order]);
    else if (o->kind == EXCHANGE)
        registers[o->to] = atomic_exchange_explicit(at, value, orders[o->order]);
    else if (o->kind == COMPARE)
        compare(o, at);
    else if (o->kind == FENCE)
        atomic_thread_fence(orders[o->order]);
}

static void *run(void *operations)
{
    const struct operation *o = operations;
    for (int i = 0; i < OPERATIONS && o[i].kind != NOTHING; i++)
        perform(&o[i]);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    int values[LOCATIONS], count = 0;
    program = program_named(getenv("LITMUS"));
    while (count < THREADS && program.threads[count][0].kind != NOTHING) {
        pthread_create(&threads[count], NULL, run, program.threads[count]);
        count++;
    }
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (int l = 0; l < LOCATIONS; l++)
        values[l] = atomic_load_explicit(&memory[l], memory_order_relaxed);
    model_outcome(outcome_of(registers, values));
    return 0;
}
