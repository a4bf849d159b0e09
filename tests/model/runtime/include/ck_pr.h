/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before ConcurrencyKit's: a pause lets another thread go first. */
#ifndef MODEL_CK_PR_H
#define MODEL_CK_PR_H

#include "../model.h"

#define ck_pr_stall() model_pause()

#endif
