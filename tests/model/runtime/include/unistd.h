/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: whoever pauses sleeps for ever. */
#ifndef MODEL_UNISTD_H
#define MODEL_UNISTD_H

#include_next <unistd.h>

#include "../model.h"

#define pause() (model_sleep(""), 0)

#endif
