/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a test can ask of the library's model. */
#ifndef MODEL_LIBRARY_H
#define MODEL_LIBRARY_H

extern int model_blocks_left; /* then there is no memory; INT_MAX: always some */
#ifndef model_symmetric
#define model_symmetric 0 /* 1: as if the kernel refused membarrier */
#endif

void model_await_readable(int fd);

#endif
