/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The subjects that are built in. */
#ifndef STRESS_SUBJECTS_H
#define STRESS_SUBJECTS_H

#include "../subject.h"

extern const struct subject subject_mutex, subject_bounded, subject_ck_fifo, subject_glib;

#endif
