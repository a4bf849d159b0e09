/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A consumer by descriptor on a kernel without membarrier. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "fd.c"
