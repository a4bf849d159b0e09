/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Children and the plain reaper: see children.h. */
#include "children.h"
#include "calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ------------------------------------------------------------------------------------- start */

/* A child that waits at a gate for its pid to be subscribed to. */
static int gate_open(int gate[2])
{
    return pipe2(gate, O_CLOEXEC) == 0 ? 0 : -errno;
}

static void expect_exits(uint64_t how_many);

static int subscribe_and_open(struct child *child, int gate)
{
    struct subject_topic topic = {.kind = SUBJECT_TOPIC_PID, .pid = child->pid};
    int result;
    do
        result = call_subscribe(&topic, can(SUBJECT_ONE_SHOT) ? SUBJECT_FLAG_ONE_SHOT : 0,
                                &child->subscription);
    while (result == -ENOMEM); /* the child is there: there is no way back */
    if (write(gate, "", 1) != 1)
        result = -errno;
    close(gate);
    return result;
}

/* Past the subject. Returns 0 or a negative errno value. */
static int spawn_at_gate(pid_t *pid, const char *what, int gate)
{
    char *argv[] = {(char *)(uintptr_t)world->options.child, (char *)(uintptr_t)what, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, gate, STDIN_FILENO);
    int result = -posix_spawn(pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return result;
}

static int spawn_gated(struct child *child, const char *what)
{
    char gated[20];
    snprintf(gated, sizeof gated, "r%s", what);
    int gate[2];
    int result = gate_open(gate);
    if (result < 0)
        return result;
    result = spawn_at_gate(&child->pid, gated, gate[0]);
    close(gate[0]);
    if (result < 0) {
        close(gate[1]);
        return result;
    }
    return subscribe_and_open(child, gate[1]);
}

int child_start(struct child *child, const char *what, unsigned orphans)
{
    int result;
    if (world->subject->spawn) {
        char *argv[] = {(char *)(uintptr_t)world->options.child, (char *)(uintptr_t)what, NULL};
        result = call_spawn(argv, &child->pid, &child->subscription);
    } else {
        result = spawn_gated(child, what);
    }
    if (result == 0)
        expect_exits(1 + orphans);
    return result;
}

void child_foreign(void)
{
    char *argv[] = {(char *)(uintptr_t)world->options.child, NULL};
    pid_t pid;
    if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) == 0)
        expect_exits(1);
}

unsigned child_foreign_together(unsigned how_many)
{
    int gate[2];
    if (gate_open(gate) < 0)
        return 0;
    unsigned made = 0;
    pid_t pid;
    while (made < how_many && spawn_at_gate(&pid, "r", gate[0]) == 0)
        made++;
    expect_exits(made);
    close(gate[0]);
    close(gate[1]); /* which all of them read from */
    return made;
}

static int spawn_past(pid_t *pid, const char *what, bool deaf, int input)
{
    char *argv[] = {(char *)(uintptr_t)world->options.child, (char *)(uintptr_t)what, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t blocked;
    sigemptyset(&blocked);
    if (deaf)
        sigaddset(&blocked, SIGTERM);
    posix_spawn_file_actions_init(&actions);
    if (input >= 0)
        posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &blocked);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int result = -posix_spawn(pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (result == 0)
        expect_exits(1);
    return result;
}

int child_past(pid_t *pid, const char *what, bool deaf, int *gate)
{
    if (!gate)
        return spawn_past(pid, what, deaf, -1);
    char gated[20];
    int ends[2];
    snprintf(gated, sizeof gated, "r%s", what);
    int result = gate_open(ends);
    if (result < 0)
        return result;
    result = spawn_past(pid, gated, deaf, ends[0]);
    close(ends[0]);
    if (result < 0)
        close(ends[1]);
    else
        *gate = ends[1];
    return result;
}

void child_let_go(int gate)
{
    /* A byte, since a forked child may have a copy of the gate. The child may be gone. */
    ssize_t written = write(gate, "", 1);
    (void)written;
    close(gate);
}

void child_wish_pid(pid_t pid)
{
    char text[16];
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    int size = snprintf(text, sizeof text, "%d", pid - 1);
    if (fd < 0)
        return;
    ssize_t written = write(fd, text, (size_t)size);
    (void)written;
    close(fd);
}

int child_fork(struct child *child, int (*body)(void *), void *argument)
{
    int gate[2];
    int result = gate_open(gate);
    if (result < 0)
        return result;
    child->pid = fork();
    if (child->pid == 0) {
        char byte;
        close(gate[1]);
        int code = body(argument);
        while (read(gate[0], &byte, 1) < 0 && errno == EINTR)
            continue;
        _exit(code);
    }
    result = child->pid < 0 ? -errno : 0;
    close(gate[0]);
    if (result < 0) {
        close(gate[1]);
        return result;
    }
    expect_exits(1);
    return subscribe_and_open(child, gate[1]);
}

/* ------------------------------------------------------------------------------ plain reaper */

static sem_t started; /* children that have not been reaped */
static _Atomic bool stopping;
static struct worker *reaper;

static void expect_exits(uint64_t how_many)
{
    count(&world->children, how_many);
    for (uint64_t i = 0; !world->subject->reaper_start && i < how_many; i++)
        sem_post(&started);
}

static int status_of(const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED)
        return (info->si_status & 0xff) << 8;
    return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

static void *reaper_body(void *argument)
{
    (void)argument;
    for (;;) {
        while (sem_wait(&started) != 0)
            continue;
        if (flag(&stopping))
            return NULL;
        siginfo_t info;
        while (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
            continue;
        struct subject_event event = {.kind = SUBJECT_EVENT_PID,
                                      .pid = info.si_pid,
                                      .status = status_of(&info),
                                      .collected_ns = now_ns()};
        uint64_t seq;
        while (call_publish(&event, 1, &seq) < 0)
            continue;
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED);
    }
}

int reaper_start(void)
{
    if (world->subject->reaper_start)
        return world->subject->reaper_start(world->bus);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    atomic_store(&stopping, false);
    sem_init(&started, 0, 0);
    reaper = worker_start("reaper", 0, reaper_body, NULL);
    return reaper ? 0 : -EAGAIN;
}

int reaper_stop(void)
{
    if (world->subject->reaper_start)
        return world->subject->reaper_stop(world->bus);
    atomic_store(&stopping, true);
    sem_post(&started);
    worker_join(reaper);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    return 0;
}

/* -------------------------------------------------------------------------------- diagnostics */

/* The state of a process that is a child of this one; 0: it is not. */
static char state_of_child(const char *pid)
{
    char path[64], state;
    int parent;
    snprintf(path, sizeof path, "/proc/%.16s/stat", pid);
    FILE *file = fopen(path, "r");
    bool ours =
        file && fscanf(file, "%*d (%*[^)]) %c %d", &state, &parent) == 2 && parent == getpid();
    if (file)
        fclose(file);
    return ours ? state : 0;
}

unsigned for_each_child(bool (*visit)(pid_t pid, char state))
{
    unsigned count_ = 0;
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
            continue;
        char state = state_of_child(entry->d_name);
        count_ += state && visit(atoi(entry->d_name), state);
    }
    if (directory)
        closedir(directory);
    return count_;
}

static bool is_zombie(pid_t pid, char state)
{
    (void)pid;
    return state == 'Z';
}

unsigned count_zombies(void)
{
    return for_each_child(is_zombie);
}
