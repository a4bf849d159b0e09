/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A sleeper and a publisher on a kernel without membarrier: both sides have their fence. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "sleep.c"
