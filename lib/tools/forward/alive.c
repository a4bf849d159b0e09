/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tools/forward/alive.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns a line of a file of /proc, which may hold any bytes; or -errno. */
static ssize_t read_stat(pid_t pid, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    size_t got = fread(text, 1, size - 1, file);
    fclose(file);
    text[got] = '\0';
    return (ssize_t)got;
}

int alive_details(pid_t pid, struct exitbus_event_details *details)
{
    char text[1024], state;
    uint64_t ticks;
    ssize_t got = read_stat(pid, text, sizeof text);
    memset(details, 0, sizeof *details);
    if (got < 0)
        return got == -ENOENT ? -ESRCH : (int)got;
    char *comm = memchr(text, '(', (size_t)got), *end = memrchr(text, ')', (size_t)got);
    /* State, 18 fields that are passed over, and the start. */
    if (!comm || !end || end < comm ||
        sscanf(end + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
               "%" SCNu64,
               &state, &ticks) != 2)
        return -EBADMSG;
    if (state == 'Z' || state == 'X')
        return -ESRCH;
    size_t length = (size_t)(end - comm - 1);
    if (length >= sizeof details->comm)
        length = sizeof details->comm - 1;
    memcpy(details->comm, comm + 1, length);
    details->start_ns = ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
    return 0;
}

static void tell_children(const char *path, alive_tell *tell, void *context)
{
    struct exitbus_event_details details;
    int pid;
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    while (fscanf(file, "%d", &pid) == 1)
        if (alive_details(pid, &details) == 0)
            tell(context, pid, &details);
    fclose(file);
}

void alive_children(alive_tell *tell, void *context)
{
    char path[320];
    struct dirent *entry;
    DIR *threads = opendir("/proc/self/task");
    while (threads && (entry = readdir(threads))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", entry->d_name);
        tell_children(path, tell, context);
    }
    if (threads)
        closedir(threads);
}
