/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unsubscribe while another waits at the descriptor, on a kernel without membarrier. */
#include <stdbool.h>

extern const bool model_without_membarrier;
const bool model_without_membarrier = true;

#include "close_fd.c"
