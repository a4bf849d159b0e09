/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Is the model the one of C11? Small programs whose outcomes are known: each one that is allowed
 * must be seen in some execution (its name is printed), each that is forbidden in none.
 * LITMUS chooses the program.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define relaxed memory_order_relaxed
#define acquire memory_order_acquire
#define release memory_order_release
#define seq_cst memory_order_seq_cst
#define load(x, order) atomic_load_explicit(&(x), order)
#define store(x, value, order) atomic_store_explicit(&(x), value, order)

static _Atomic int x, y, z;
static int r0, r1, r2, r3;

static void *first(void *nothing);
static void *second(void *nothing);
static void *third(void *nothing);
static void *fourth(void *nothing);

#define MP 1       /* message passing, release and acquire: never flag without data */
#define MP_WEAK 2  /* relaxed: may be */
#define SB 3       /* store buffering with seq_cst: never both 0 */
#define SB_WEAK 4  /* with release and acquire: may be */
#define SB_FENCE 5 /* with fences: never */
#define RS 6       /* a release sequence through another thread's read-modify-write: holds */
#define RS_WEAK 7  /* through a plain store of another's: does not */
#define COHERENCE 8
#define IRIW_WEAK 9 /* independent readers may disagree with acquire */
#define FENCES 10   /* release fence, relaxed store; relaxed load, acquire fence: holds */

#if LITMUS == MP || LITMUS == MP_WEAK
#define W (LITMUS == MP ? release : relaxed)
#define R (LITMUS == MP ? acquire : relaxed)
static void *first(void *n) { store(x, 1, relaxed); store(y, 1, W); return n; }
static void *second(void *n) { r0 = load(y, R); r1 = load(x, relaxed); return n; }
#define BAD (r0 == 1 && r1 == 0)
#define THREADS 2
#elif LITMUS == SB || LITMUS == SB_WEAK || LITMUS == SB_FENCE
#define W (LITMUS == SB ? seq_cst : release)
#define R (LITMUS == SB ? seq_cst : acquire)
#define F (LITMUS == SB_FENCE ? atomic_thread_fence(seq_cst) : (void)0)
static void *first(void *n) { store(x, 1, W); F; r0 = load(y, R); return n; }
static void *second(void *n) { store(y, 1, W); F; r1 = load(x, R); return n; }
#define BAD (r0 == 0 && r1 == 0)
#define THREADS 2
#elif LITMUS == RS || LITMUS == RS_WEAK
static void *first(void *n) { store(x, 1, relaxed); store(y, 1, release); return n; }
static void *second(void *n)
{
    if (LITMUS == RS)
        atomic_fetch_add_explicit(&y, 1, relaxed);
    else if (load(y, relaxed) == 1)
        store(y, 2, relaxed);
    return n;
}
static void *third(void *n) { r0 = load(y, acquire); r1 = load(x, relaxed); return n; }
#define BAD (r0 == 2 && r1 == 0)
#define THREADS 3
#elif LITMUS == COHERENCE
static void *first(void *n) { store(x, 1, relaxed); store(x, 2, relaxed); return n; }
static void *second(void *n) { r0 = load(x, relaxed); r1 = load(x, relaxed); return n; }
#define BAD (r0 == 2 && r1 != 2)
#define THREADS 2
#elif LITMUS == IRIW_WEAK
static void *first(void *n) { store(x, 1, release); return n; }
static void *second(void *n) { store(y, 1, release); return n; }
static void *third(void *n) { r0 = load(x, acquire); r1 = load(y, acquire); return n; }
static void *fourth(void *n) { r2 = load(y, acquire); r3 = load(x, acquire); return n; }
#define BAD (r0 == 1 && r1 == 0 && r2 == 1 && r3 == 0)
#define THREADS 4
#elif LITMUS == FENCES
static void *first(void *n)
{
    store(x, 1, relaxed);
    atomic_thread_fence(release);
    store(y, 1, relaxed);
    return n;
}
static void *second(void *n)
{
    r0 = load(y, relaxed);
    atomic_thread_fence(acquire);
    r1 = load(x, relaxed);
    return n;
}
#define BAD (r0 == 1 && r1 == 0)
#define THREADS 2
#endif

int main(void)
{
    void *(*const bodies[])(void *) = {
        first, second,
#if THREADS > 2
        third,
#endif
#if THREADS > 3
        fourth,
#endif
    };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, bodies[i], NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert(!BAD);
    return 0;
}
