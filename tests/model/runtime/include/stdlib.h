/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: an invariant that is broken is a violation, with its trace. */
#ifndef MODEL_STDLIB_H
#define MODEL_STDLIB_H

#include_next <stdlib.h>

#include "../model.h"

#define abort() model_violation("an invariant is broken", __FILE__, __LINE__)

#endif
