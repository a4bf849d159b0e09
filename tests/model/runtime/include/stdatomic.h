/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the compiler's own: every atomic operation becomes a call of the explorer. */
#ifndef MODEL_STDATOMIC_H
#define MODEL_STDATOMIC_H

#include "../model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    memory_order_relaxed = __ATOMIC_RELAXED,
    memory_order_consume = __ATOMIC_CONSUME,
    memory_order_acquire = __ATOMIC_ACQUIRE,
    memory_order_release = __ATOMIC_RELEASE,
    memory_order_acq_rel = __ATOMIC_ACQ_REL,
    memory_order_seq_cst = __ATOMIC_SEQ_CST
} memory_order;

/* Where an operation stands, and what on. */
#define MODEL_HERE(object)                                                                         \
    ({                                                                                             \
        static const struct model_site site_ = {__FILE__, __func__, #object, __LINE__};            \
        &site_;                                                                                    \
    })
#define MODEL_TYPE(object) __typeof__((void)0, *(object))

/* Values of up to eight bytes travel as uint64_t. */
#define model_bits(value)                                                                          \
    ({                                                                                             \
        __auto_type value_ = (value);                                                              \
        uint64_t bits_ = 0;                                                                        \
        _Static_assert(sizeof value_ <= sizeof bits_, "too large to be atomic here");              \
        __builtin_memcpy(&bits_, &value_, sizeof value_);                                          \
        bits_;                                                                                     \
    })
#define model_value(type, bits)                                                                    \
    ({                                                                                             \
        uint64_t result_bits_ = (bits);                                                            \
        type result_;                                                                              \
        __builtin_memcpy(&result_, &result_bits_, sizeof result_);                                 \
        result_;                                                                                   \
    })
/* As the object's own type would have it. */
#define model_bits_as(object, value)                                                               \
    ({                                                                                             \
        MODEL_TYPE(object) converted_ = (value);                                                   \
        model_bits(converted_);                                                                    \
    })

#define atomic_init(object, value)                                                                 \
    model_init((void *)(uintptr_t)(object), sizeof *(object), model_bits_as(object, value))
#define atomic_load_explicit(object, order)                                                        \
    model_value(MODEL_TYPE(object), model_load((const void *)(uintptr_t)(object),                  \
                                               sizeof *(object), order, MODEL_HERE(object)))
#define atomic_store_explicit(object, value, order)                                                \
    model_store((void *)(uintptr_t)(object), sizeof *(object), model_bits_as(object, value),       \
                order, MODEL_HERE(object))
#define model_rmw_(object, kind, bits, order, site)                                                \
    model_value(MODEL_TYPE(object), model_rmw((void *)(uintptr_t)(object), sizeof *(object), kind, \
                                              bits, order, site))
#define atomic_exchange_explicit(object, value, order)                                             \
    model_rmw_(object, MODEL_EXCHANGE, model_bits_as(object, value), order, MODEL_HERE(object))
#define atomic_fetch_add_explicit(object, value, order)                                            \
    model_rmw_(object, MODEL_ADD, (uint64_t)(int64_t)(value), order, MODEL_HERE(object))
#define atomic_fetch_sub_explicit(object, value, order)                                            \
    model_rmw_(object, MODEL_ADD, (uint64_t) - (int64_t)(value), order, MODEL_HERE(object))
#define atomic_fetch_or_explicit(object, value, order)                                             \
    model_rmw_(object, MODEL_OR, (uint64_t)(value), order, MODEL_HERE(object))
#define atomic_fetch_and_explicit(object, value, order)                                            \
    model_rmw_(object, MODEL_AND, (uint64_t)(value), order, MODEL_HERE(object))
#define atomic_compare_exchange_strong_explicit(object, expected, desired, success, failure)       \
    model_cas((void *)(uintptr_t)(object), sizeof *(object), (void *)(expected),                   \
              model_bits_as(object, desired), success, failure, MODEL_HERE(object))
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit

#define atomic_load(object) atomic_load_explicit(object, memory_order_seq_cst)
#define atomic_store(object, value) atomic_store_explicit(object, value, memory_order_seq_cst)
#define atomic_exchange(object, value) atomic_exchange_explicit(object, value, memory_order_seq_cst)
#define atomic_fetch_add(object, value)                                                            \
    atomic_fetch_add_explicit(object, value, memory_order_seq_cst)
#define atomic_fetch_sub(object, value)                                                            \
    atomic_fetch_sub_explicit(object, value, memory_order_seq_cst)
#define atomic_compare_exchange_strong(object, expected, desired)                                  \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_seq_cst,       \
                                            memory_order_seq_cst)
#define atomic_thread_fence(order) model_fence(order, MODEL_HERE())
#define atomic_signal_fence(order) ((void)(order))

#endif
