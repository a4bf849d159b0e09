/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Keeps the code of the library mapped until the process ends. */
#ifndef EXITBUS_PIN_H
#define EXITBUS_PIN_H

/*
 * Pin what contains this code, once in each process; later calls do nothing. Context: takes the
 * loader's lock, so no lock of ours is held.
 */
void pin_library(void);

#endif
