/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: pages are the model's, so that it sees who touches them. */
#ifndef MODEL_SYS_MMAN_H
#define MODEL_SYS_MMAN_H

#include_next <sys/mman.h>

#include "../../model.h"

#define mmap(address, size, protection, flags, fd, offset) model_map(size)
#define munmap(address, size) ((void)(address), (void)(size), 0)
#define madvise(address, size, advice) ((void)(address), (void)(size), 0)

#endif
