/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Readiness: see run.h.
 *
 * How it works
 *   - A command tells that it is ready by a line on a descriptor (--ready-fd), or by READY=1 to a
 *     socket of its own (--notify), which is the protocol of sd_notify(3).
 *   - Once all are ready that is told on: a line to --ready-to, READY=1 to the NOTIFY_SOCKET of
 *     this process. Other assignments are passed on as they come. MAINPID is not, since the main
 *     process of a service is this one, and neither is what needs descriptors.
 *   - The sockets have no path, so that a container without a writable file system has them, too.
 *     A sender must be of the command's process group, or have our user id, or root's.
 */
#include "tools/run/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_MAX 4096
#define READS_MAX 64 /* at a time; a pipe and a socket of the usual sizes hold less */
#define ENVIRONMENT "NOTIFY_SOCKET="

extern char **environ;

static bool is_wanted(const struct run *run)
{
    return run->options.ready_fd >= 0 || run->options.notify;
}

/* ------------------------------------------------------------------------------------- upstream */

/* The address that NOTIFY_SOCKET has: "@" is a NUL. Returns its length, or 0. */
static socklen_t upstream(struct sockaddr_un *address)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof address->sun_path || (*path != '/' && *path != '@'))
        return 0;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, length);
    if (*path == '@')
        address->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static void send_upstream(const char *text)
{
    struct sockaddr_un address;
    socklen_t size = upstream(&address);
    if (size == 0 || !*text)
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 ||
        sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
        say(SAY_WARNING, "NOTIFY_SOCKET %s: %s", getenv("NOTIFY_SOCKET"), strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void be_ready(struct run *run, struct command *command)
{
    if (command->ready)
        return;
    command->ready = true;
    if (is_wanted(run))
        say(SAY_INFO, "%s (%u) is ready", command->argv[0], command->number);
    for (size_t i = 0; i < run->count; i++)
        if (!run->commands[i].ready)
            return;
    if (run->options.ready_to >= 0 && !log_write(run->options.ready_to, "\n", 1))
        say(SAY_WARNING, "--ready-to %d: %s", run->options.ready_to, strerror(errno));
    if (!is_wanted(run))
        return; /* commands have the address of NOTIFY_SOCKET themselves */
    log_word(run, "ready", NULL);
    send_upstream("READY=1");
}

void ready_started(struct run *run, struct command *command)
{
    if (!is_wanted(run))
        be_ready(run, command);
}

/* ----------------------------------------------------------------------------------------- open */

static int open_pipe(struct command *command, int *child_fd)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
        int error = errno;
        close(ends[0]);
        close(ends[1]);
        return -error;
    }
    command->ready_pipe = ends[0];
    *child_fd = ends[1];
    return 0;
}

/* The kernel chooses the name. */
static int open_socket(struct command *command)
{
    const struct sockaddr_un any = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)&any, sizeof any.sun_family) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    command->ready_socket = fd;
    return 0;
}

int ready_open(struct run *run, struct command *command, int *child_fd)
{
    if (run->options.notify && command->ready_socket < 0) { /* it stays over restarts */
        int result = open_socket(command);
        if (result < 0)
            return result;
    }
    return run->options.ready_fd >= 0 ? open_pipe(command, child_fd) : 0;
}

void ready_close(struct command *command)
{
    if (command->ready_pipe >= 0)
        close(command->ready_pipe);
    command->ready_pipe = -1;
}

/* What WATCHDOG_PID says is true of this process, and the command is to answer for it. */
static bool is_replaced(const char *variable)
{
    static const char *const names[] = {ENVIRONMENT, "WATCHDOG_PID="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

char **ready_environment(const struct run *run, const struct command *command)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    size_t count = 0, kept = 1;
    if (!run->options.notify)
        return NULL;
    if (getsockname(command->ready_socket, (struct sockaddr *)&address, &size) < 0)
        return NULL;
    while (environ[count])
        count++;
    size_t pointers = (count + 2) * sizeof(char *);
    char **all = malloc(pointers + sizeof ENVIRONMENT + sizeof address.sun_path + 1);
    if (!all)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!is_replaced(environ[i]))
            all[kept++] = environ[i];
    all[0] = (char *)all + pointers;
    all[kept] = NULL;
    int length = (int)(size - offsetof(struct sockaddr_un, sun_path)) - 1; /* behind the NUL */
    sprintf(all[0], ENVIRONMENT "@%.*s", length, address.sun_path + 1);
    return all;
}

/* ----------------------------------------------------------------------------------------- read */

/* Returns whether there may be more. */
static bool read_pipe(struct run *run, struct command *command)
{
    char text[4096];
    ssize_t length = command->ready_pipe < 0 ? -1 : read(command->ready_pipe, text, sizeof text);
    if (length > 0 && memchr(text, '\n', (size_t)length))
        be_ready(run, command);
    if (length == 0)
        ready_close(command);
    return length > 0;
}

static bool is_passed_on(const char *line)
{
    static const char *const kept[] = {"READY=", "MAINPID", "FDSTORE", "FDNAME", "BARRIER"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (strncmp(line, kept[i], strlen(kept[i])) == 0)
            return false;
    return true;
}

static void read_message(struct run *run, struct command *command, char *message)
{
    char passed[MESSAGE_MAX + 2] = "", *end = passed, *rest;
    for (char *line = strtok_r(message, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strcmp(line, "READY=1") == 0)
            be_ready(run, command);
        else if (is_passed_on(line))
            end = stpcpy(stpcpy(end, line), "\n");
    }
    send_upstream(passed);
}

static bool is_trusted(const struct command *command, struct msghdr *header)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(header);
    struct ucred sender;
    if (!control || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_CREDENTIALS)
        return false;
    memcpy(&sender, CMSG_DATA(control), sizeof sender);
    return sender.uid == 0 || sender.uid == geteuid() ||
           (sender.pid > 0 && command->pid > 0 && getpgid(sender.pid) == command->pid);
}

static bool read_socket(struct run *run, struct command *command)
{
    char message[MESSAGE_MAX + 1];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
    struct iovec part = {message, MESSAGE_MAX};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = sizeof control};
    ssize_t length = recvmsg(command->ready_socket, &header, MSG_CMSG_CLOEXEC); /* -1: none */
    if (length < 0)
        return false;
    if (header.msg_flags & MSG_TRUNC)
        return true;
    message[length] = '\0';
    if (is_trusted(command, &header))
        read_message(run, command, message);
    else
        say(SAY_WARNING, "%s (%u): a message of a stranger is dropped", command->argv[0],
            command->number);
    return true;
}

void ready_read(struct run *run, struct command *command)
{
    for (int i = 0; i < READS_MAX; i++)
        if (!read_pipe(run, command) && !read_socket(run, command))
            return;
}
