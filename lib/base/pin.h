/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Keeps the code of the library mapped. */
#ifndef EXITBUS_PIN_H
#define EXITBUS_PIN_H

/* Once in each process; may be repeated. Context: takes the loader's lock, so none of ours is held. */
void pin_library(void);

#endif
