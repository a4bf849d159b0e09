/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The surroundings of a code block in the documents that is no program by itself. The block is put
 * in the place of FRAGMENT, among declarations of the names that the text uses. A block that has a
 * main() is compiled as it is printed.
 */
#include <errno.h>
#include <exitbus/exitbus.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void handle(const struct exitbus_event *event);
void *my_allocate(void *context, size_t size, size_t alignment);
void my_release(void *context, void *address, size_t size);
pid_t start_process(const char *name);
void note_exit(pid_t pid, uint64_t start_ns, const struct exitbus_event *event);
void fragment(struct exitbus *bus, struct exitbus_subscription *sub);

void fragment(struct exitbus *bus, struct exitbus_subscription *sub)
{
    char *argv[] = {"true", NULL};
    struct exitbus_subscription *subscription;
    struct exitbus_reaper *reaper;
    struct exitbus_process *process;
    struct exitbus_group *group;
    struct exitbus_task *task;
    struct exitbus_exec *exec, *leader;
    struct exitbus_event event;
    struct rusage usage;
    pid_t pid;
    int status, pidfd = -1, cgroup_fd = -1, record_fd = -1;
    (void)argv, (void)subscription, (void)bus, (void)sub, (void)reaper, (void)event, (void)usage;
    (void)pid, (void)status, (void)process, (void)pidfd, (void)group;
    (void)cgroup_fd, (void)task, (void)exec, (void)leader, (void)record_fd;
    {
FRAGMENT
    }
}
