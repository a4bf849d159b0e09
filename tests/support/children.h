/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Children in tests: by plain fork, as other code would start them, and by exitbus_spawn. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include "events.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static inline struct exitbus_reaper *reaper_of(struct exitbus *bus, enum exitbus_reaper_mode mode,
                                               uint32_t flags)
{
    struct exitbus_reaper_options options = {.mode = mode, .flags = flags};
    struct exitbus_reaper *reaper;
    must_equal(exitbus_reaper_start(bus, &options, &reaper), 0);
    return reaper;
}

/* Exits with a code once told to. */
struct child {
    pid_t pid;
    int go;
};

/* It keeps no descriptor open, so that the end of one child is not put off by another. */
static inline struct child child_fork(int code)
{
    int fds[2];
    must_equal(pipe(fds), 0);
    struct child child = {fork(), fds[1]};
    if (child.pid == 0) {
        char byte;
        dup2(fds[0], STDIN_FILENO);
        for (int fd = 3; fd < 256; fd++)
            close(fd);
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        _exit(got >= 0 ? code : 255);
    }
    must(child.pid > 0);
    close(fds[0]);
    return child;
}

static inline void child_end(struct child child)
{
    close(child.go);
}

/* Exited, and not reaped: seen without taking it. */
static inline bool is_zombie(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == pid;
}

static inline bool is_gone(pid_t pid)
{
    return kill(pid, 0) != 0 && errno == ESRCH;
}

static inline bool no_children(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG | (int)__WALL) != 0 &&
           errno == ECHILD;
}

static inline struct exitbus_event receive_pid(struct exitbus_subscription *subscription, pid_t pid)
{
    struct exitbus_event event;
    must_equal(exitbus_receive_pid(subscription, pid, &event, &(uint64_t){0}, -1), 0);
    return event;
}

/* The tiny child, told what to do by its argument. */
static inline pid_t spawn_tiny(struct exitbus *bus, const char *what,
                               struct exitbus_subscription **subscription)
{
    char *argv[] = {TINY_CHILD, (char *)what, NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    pid_t pid;
    must_equal(exitbus_spawn(bus, &options, &pid, subscription), 0);
    return pid;
}

/* Run body in a forked child; how it ended, 0 if it returned. */
static inline int in_a_child(void (*body)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        body();
        _exit(0);
    }
    int status;
    must_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static inline unsigned open_fds(void)
{
    unsigned count = 0;
    DIR *fds = opendir("/proc/self/fd");
    must(fds != NULL);
    while (readdir(fds))
        count++;
    closedir(fds);
    return count;
}

/* Returns a descriptor from `fd` on that is a pidfd of the child; -1: there is none. */
static inline int find_pidfd_from(int fd, pid_t pid)
{
    for (; fd < 1024; fd++) {
        char path[64], line[128], wanted[32];
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        snprintf(wanted, sizeof wanted, "Pid:\t%d\n", pid);
        FILE *info = fopen(path, "re");
        bool found = false;
        while (info && fgets(line, sizeof line, info))
            found = found || strcmp(line, wanted) == 0;
        if (info)
            fclose(info);
        if (found)
            return fd;
    }
    return -1;
}

static inline int find_pidfd(pid_t pid)
{
    return find_pidfd_from(3, pid);
}

/* The next process or thread has this pid, in a pid namespace of which this process is the init. */
static inline void next_pid_is(pid_t pid)
{
    char text[16];
    int size = snprintf(text, sizeof text, "%d", pid - 1);
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    must(fd >= 0);
    must_equal(write(fd, text, (size_t)size), size);
    close(fd);
}

static inline struct child child_with_pid(pid_t pid, int code)
{
    for (;;) {
        next_pid_is(pid);
        struct child child = child_fork(code);
        if (child.pid == pid)
            return child;
        child_end(child);            /* the library has started a thread in between */
        waitpid(child.pid, NULL, 0); /* or the reaper takes it */
    }
}

/* Run in a pid namespace of its own, or not at all. */
static inline void in_a_namespace(void (*body)(void))
{
    if (unshare(CLONE_NEWPID) != 0)
        fprintf(stderr, "skipped: a new pid namespace takes privileges (%s)\n", strerror(errno));
    else
        must_equal(in_a_child(body), 0);
}

#endif
