/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: another thread goes first. */
#ifndef MODEL_SCHED_H
#define MODEL_SCHED_H

#include_next <sched.h>

#include "../model.h"

#define sched_yield() (model_pause(), 0)

#endif
