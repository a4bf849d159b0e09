/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A consumer by descriptor on a kernel without membarrier. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "fd.c"
