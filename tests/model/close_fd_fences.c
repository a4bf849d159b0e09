/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Unsubscribe while another waits at the descriptor, on a kernel without membarrier. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "close_fd.c"
