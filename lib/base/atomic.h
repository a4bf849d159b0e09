/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Atomic operations by name: OPERATION_ORDER(object, …), with C11's meaning.
 *
 *   - cas_ORDER(object, expected, desired) is a strong compare-and-swap, and relaxed where it
 *     fails. cas_ORDER_else_ORDER names the order of a failure as well. cas_weak_… may fail
 *     although the value was as expected.
 *   - They are macros because the model checker brings a <stdatomic.h> of its own: so each
 *     operation is a step of the explorer, and has the name of the line that uses it.
 *   - ThreadSanitizer ignores fences. tsan_released() and tsan_acquired() tell it the one order
 *     that rests on fences: what happens before a grace period (memory/reclaim.h).
 */
#ifndef EXITBUS_ATOMIC_H
#define EXITBUS_ATOMIC_H

#include <stdatomic.h>

#define load_relaxed(object) atomic_load_explicit(object, memory_order_relaxed)
#define load_acquire(object) atomic_load_explicit(object, memory_order_acquire)
#define load_seq_cst(object) atomic_load_explicit(object, memory_order_seq_cst)

#define store_relaxed(object, value) atomic_store_explicit(object, value, memory_order_relaxed)
#define store_release(object, value) atomic_store_explicit(object, value, memory_order_release)
#define store_seq_cst(object, value) atomic_store_explicit(object, value, memory_order_seq_cst)

#define exchange_relaxed(object, value)                                                            \
    atomic_exchange_explicit(object, value, memory_order_relaxed)
#define exchange_acquire(object, value)                                                            \
    atomic_exchange_explicit(object, value, memory_order_acquire)
#define exchange_release(object, value)                                                            \
    atomic_exchange_explicit(object, value, memory_order_release)
#define exchange_acq_rel(object, value)                                                            \
    atomic_exchange_explicit(object, value, memory_order_acq_rel)
#define exchange_seq_cst(object, value)                                                            \
    atomic_exchange_explicit(object, value, memory_order_seq_cst)

#define fetch_add_relaxed(object, value)                                                           \
    atomic_fetch_add_explicit(object, value, memory_order_relaxed)
#define fetch_add_acquire(object, value)                                                           \
    atomic_fetch_add_explicit(object, value, memory_order_acquire)
#define fetch_add_release(object, value)                                                           \
    atomic_fetch_add_explicit(object, value, memory_order_release)
#define fetch_add_seq_cst(object, value)                                                           \
    atomic_fetch_add_explicit(object, value, memory_order_seq_cst)

#define fetch_sub_relaxed(object, value)                                                           \
    atomic_fetch_sub_explicit(object, value, memory_order_relaxed)
#define fetch_sub_release(object, value)                                                           \
    atomic_fetch_sub_explicit(object, value, memory_order_release)
#define fetch_sub_acq_rel(object, value)                                                           \
    atomic_fetch_sub_explicit(object, value, memory_order_acq_rel)
#define fetch_sub_seq_cst(object, value)                                                           \
    atomic_fetch_sub_explicit(object, value, memory_order_seq_cst)

#define fetch_or_relaxed(object, value)                                                            \
    atomic_fetch_or_explicit(object, value, memory_order_relaxed)
#define fetch_or_release(object, value)                                                            \
    atomic_fetch_or_explicit(object, value, memory_order_release)
#define fetch_or_seq_cst(object, value)                                                            \
    atomic_fetch_or_explicit(object, value, memory_order_seq_cst)

#define cas_relaxed(object, expected, desired)                                                     \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_relaxed,       \
                                            memory_order_relaxed)
#define cas_acquire(object, expected, desired)                                                     \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_acquire,       \
                                            memory_order_relaxed)
#define cas_acquire_else_acquire(object, expected, desired)                                        \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_acquire,       \
                                            memory_order_acquire)
#define cas_release(object, expected, desired)                                                     \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_release,       \
                                            memory_order_relaxed)
#define cas_release_else_acquire(object, expected, desired)                                        \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_release,       \
                                            memory_order_acquire)
#define cas_acq_rel_else_acquire(object, expected, desired)                                        \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_acq_rel,       \
                                            memory_order_acquire)
#define cas_seq_cst_else_acquire(object, expected, desired)                                        \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_seq_cst,       \
                                            memory_order_acquire)
#define cas_seq_cst_else_seq_cst(object, expected, desired)                                        \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_seq_cst,       \
                                            memory_order_seq_cst)

#define cas_weak_acq_rel_else_acquire(object, expected, desired)                                   \
    atomic_compare_exchange_weak_explicit(object, expected, desired, memory_order_acq_rel,         \
                                          memory_order_acquire)
#define cas_weak_relaxed(object, expected, desired)                                                \
    atomic_compare_exchange_weak_explicit(object, expected, desired, memory_order_relaxed,         \
                                          memory_order_relaxed)
#define cas_weak_acquire_else_acquire(object, expected, desired)                                   \
    atomic_compare_exchange_weak_explicit(object, expected, desired, memory_order_acquire,         \
                                          memory_order_acquire)
#define cas_weak_release(object, expected, desired)                                                \
    atomic_compare_exchange_weak_explicit(object, expected, desired, memory_order_release,         \
                                          memory_order_relaxed)
#define cas_weak_seq_cst(object, expected, desired)                                                \
    atomic_compare_exchange_weak_explicit(object, expected, desired, memory_order_seq_cst,         \
                                          memory_order_relaxed)

#define fence_seq_cst() atomic_thread_fence(memory_order_seq_cst)
/* Keeps the compiler from moving accesses, but not the processor. */
#define compiler_fence() atomic_signal_fence(memory_order_seq_cst)

#if defined(__SANITIZE_THREAD__)
#define ATOMIC_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ATOMIC_TSAN 1
#endif
#endif

#ifdef ATOMIC_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define tsan_released(address) __tsan_release(address)
#define tsan_acquired(address) __tsan_acquire(address)
#else
#define tsan_released(address) ((void)0)
#define tsan_acquired(address) ((void)0)
#endif

#endif
