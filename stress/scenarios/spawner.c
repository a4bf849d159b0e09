/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Real children, started and reaped through the library: see scenarios.h. Every one's exit must
 * come once, on its own subscription, with the status it died with.
 */
#include "../checks/latency.h"
#include "../checks/verdict.h"
#include "../engine/world.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

/* A child whose exit has not come after this long is lost. */
#define LOST_NS 60000000000LL

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int receive_exit(struct exitbus_subscription *subscription, struct random *random,
                        struct exitbus_event *event)
{
    if (random_below(random, 4) == 0) { /* by descriptor */
        struct pollfd poll_fd = {.fd = exitbus_subscription_fd(subscription), .events = POLLIN};
        int ready, result;
        do {
            ready = poll(&poll_fd, 1, (int)(LOST_NS / 1000000)); /* SIGCHLD may interrupt it */
            result = exitbus_receive(subscription, event, 0);
        } while (result == -EAGAIN && ready != 0);
        return result;
    }
    return exitbus_receive(subscription, event, LOST_NS);
}

static void check_exit(pid_t pid, int status, const struct exitbus_event *event)
{
    int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    bool right = event->kind == EXITBUS_EVENT_PID && event->pid == pid &&
                 (event->status & ~0x80) == status && event->exit_code == exit_code &&
                 event->monotonic_ns != 0 && event->realtime_ns != 0;
    if (!right)
        verdict_violated(G1, "child %d ended with status %#x; the event says pid %d, status %#x",
                         pid, (unsigned)status, event->pid, (unsigned)event->status);
    verdict_held(G1, 1);
}

static void one_child(struct random *random)
{
    bool killed = random_below(random, 8) == 0;
    int code = (int)random_below(random, 256);
    int signal = random_below(random, 2) ? SIGKILL : SIGTERM;
    char what[8];
    snprintf(what, sizeof what, killed ? "p" : "%d", code);
    char *argv[] = {(char *)world.options.child, what, NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    struct exitbus_subscription *subscription;
    pid_t pid;
    int result = exitbus_spawn(world.bus, &options, &pid, &subscription);
    if (result < 0) {
        verdict_violated(G8, "spawn: %s", exitbus_strerror(result));
        return;
    }
    count(&world.spawned, 1);
    uint64_t killed_ns = 0;
    if (killed) {
        killed_ns = now_ns();
        kill(pid, signal);
    }
    struct exitbus_event event;
    result = receive_exit(subscription, random, &event);
    uint64_t received_ns = now_ns();
    if (result < 0) {
        verdict_violated(G1, "the exit of child %d never came: %s", pid, exitbus_strerror(result));
    } else {
        check_exit(pid, killed ? signal : code << 8, &event);
        latency_add(LATENCY_COLLECTED, received_ns - event.monotonic_ns);
        if (killed)
            latency_add(LATENCY_KILLED, received_ns - killed_ns);
        count(&world.exits_delivered, 1);
        if (exitbus_receive(subscription, &event, 0) != -ESHUTDOWN)
            verdict_violated(G1, "a one-shot subscription to child %d has more than one event",
                             pid);
    }
    exitbus_unsubscribe(subscription);
}

/* An exec that fails is an error of the call, and leaves nothing behind. */
static void no_child(void)
{
    char *argv[] = {"/nonexistent/program", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    struct exitbus_subscription *subscription = NULL;
    pid_t pid = -1;
    int result = exitbus_spawn(world.bus, &options, &pid, &subscription);
    if (result != -ENOENT || pid != -1 || subscription)
        verdict_violated(G8, "spawning a program that is not there says %d", result);
    verdict_held(G8, 1);
}

void *scenario_spawner(void *argument)
{
    struct random random = random_for('x', (uintptr_t)argument);
    while (!flag(&world.stop_churn)) {
        if (random_below(&random, 50) == 0)
            no_child();
        else
            one_child(&random);
    }
    return NULL;
}
