/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: a failed assertion is a violation, with its trace. */
#include "../model.h"
#undef assert
#define assert(condition) ((condition) ? (void)0 : model_violation(#condition, __FILE__, __LINE__))
