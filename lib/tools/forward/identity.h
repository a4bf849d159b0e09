/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Names for where an event comes from, 16 bytes each. */
#ifndef TOOLS_FORWARD_IDENTITY_H
#define TOOLS_FORWARD_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

/* The boot of this machine, from /proc. Returns 0 or -errno. */
int identity_boot(uint8_t boot[16]);
/* A new name for a bus. Returns 0 or -errno. */
int identity_random(uint8_t instance[16]);
/* The name of a file, the same for every process, and another for a file that takes its place.
 * Returns 0 or -errno. */
int identity_file(int fd, uint8_t instance[16]);
/* Make the name of a file into one for what it has after a cut. Returns 0 or -errno. */
int identity_generation(uint8_t instance[16]);
/* Is `instance` such a name, of the file that has the name `file`? */
bool identity_is_generation(const uint8_t instance[16], const uint8_t file[16]);
/* Lower-case hex. */
void identity_text(const uint8_t bytes[16], char text[33]);

#endif
