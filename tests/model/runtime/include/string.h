/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: memset stores where the explorer sees it. */
#ifndef MODEL_STRING_H
#define MODEL_STRING_H

#include_next <string.h>

#include "../model.h"

#define memset(address, byte, size) model_memset(address, byte, size)

#endif
