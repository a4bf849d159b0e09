/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same by threads that have no number, and share slots. */
#define NUMBERLESS 1
#include "slot.c"
