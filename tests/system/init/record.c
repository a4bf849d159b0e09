/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints a record of exits, one a line: pid, exit code, name. */
#include <exitbus/exitbus.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct exitbus_event event;
    struct exitbus_event_details details;
    uint64_t offset = 0;
    int result = 0, fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    while ((result = exitbus_record_read(fd, &offset, &event)) == 0)
        printf("%d %d %s\n", event.pid, event.exit_code,
               exitbus_event_details(&event, &details) == 0 ? details.comm : "-");
    return result == -ENODATA ? 0 : 1;
}
