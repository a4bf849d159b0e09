/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sections and grace periods on a kernel without membarrier: both sides have their fence. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "epoch.c"
