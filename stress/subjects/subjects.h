/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The subjects that are built in. */
#ifndef STRESS_SUBJECTS_H
#define STRESS_SUBJECTS_H

#include "../subject.h"

extern const struct subject subject_mutex, subject_bounded, subject_ck_fifo, subject_glib;

#endif
