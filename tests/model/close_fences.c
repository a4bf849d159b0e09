/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unsubscribe against a sleeping receiver on a kernel without membarrier: it wakes all the same. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "close.c"
