/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before liburcu's: read-side sections and grace periods of the model. */
#ifndef MODEL_URCU_BP_H
#define MODEL_URCU_BP_H

#include "../model.h"

struct rcu_head {
    struct rcu_head *next;
    void (*func)(struct rcu_head *head);
};

#define rcu_read_lock() model_section_begin()
#define rcu_read_unlock() model_section_end()
#define rcu_read_ongoing() model_section_inside()
#define call_rcu(head, callback) model_later(head, callback)
#define synchronize_rcu() model_grace_period()

#endif
