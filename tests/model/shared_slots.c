/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The same by threads that have no number, and share slots. */
#define NUMBERLESS 1
#include "slot.c"
