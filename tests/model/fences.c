/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A sleeper and a publisher on a kernel without membarrier: both sides have their fence. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "sleep.c"
