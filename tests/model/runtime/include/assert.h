/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stands before the system's: a failed assertion is a violation, with its trace. */
#include "../model.h"
#undef assert
#define assert(condition) ((condition) ? (void)0 : model_violation(#condition, __FILE__, __LINE__))
