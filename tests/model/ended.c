/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same by a thread that ends in the middle of a section: its record is left for it. */
#define ENDS 1
#include "epoch.c"
