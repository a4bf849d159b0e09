/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same by a thread that has no record of its own: no grace period while it is inside. */
#define SHARED_RECORD 1
#include "epoch.c"
