/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See exits.h. */
#include "exits.h"

#include <stdio.h>

bool command_numbers(const char *command, double *numbers, size_t count)
{
    FILE *output = popen(command, "r");
    if (!output)
        return false;
    size_t read = 0;
    while (read < count && fscanf(output, "%lf", &numbers[read]) == 1)
        read++;
    return pclose(output) == 0 && read == count;
}
