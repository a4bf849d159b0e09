/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus in both modes, each child with a one-shot subscription of its own as exitbus_spawn()
 * makes it; with children that other code has started, which an ALL reaper sees as well; and
 * without a second thread: the one that waits for its child drives a POLLED reaper, as an event
 * loop does, or collects it by a direct wait.
 */
#include "peer.h"

#include <exitbus/exitbus.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>

/* More than any workload has in flight. */
#define WAITING_MAX 4096

static struct exitbus *bus;
static struct exitbus_reaper *reaper;
static struct exitbus_subscription *any_pid;
static struct exitbus_subscription *waiting[WAITING_MAX];
static struct exitbus_process *processes[WAITING_MAX];
static size_t first, last;

/* What the latest exit came through. It is given back at the next start or wait, since no peer's
 * time of a receipt has what comes behind it. */
static struct exitbus_subscription *spent_subscription;
static struct exitbus_process *spent_process;

static void release_spent(void)
{
    exitbus_unsubscribe(spent_subscription);
    exitbus_process_unref(spent_process);
    spent_subscription = NULL;
    spent_process = NULL;
}

static int start_mode(enum exitbus_reaper_mode mode, uint32_t flags)
{
    const struct exitbus_reaper_options options = {.mode = mode, .flags = flags};
    bus = exitbus_default();
    return bus ? exitbus_reaper_start(bus, &options, &reaper) : -1;
}

static int start_watched(void)
{
    return start_mode(EXITBUS_REAPER_WATCHED, 0);
}

/* The bus starts a reaper of its own for what it needs one for. */
static int start_none(void)
{
    bus = exitbus_default();
    return bus ? 0 : -1;
}

static int start_polled(void)
{
    return start_mode(EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
}

static int start_all(void)
{
    return start_mode(EXITBUS_REAPER_ALL, 0);
}

static int start_all_any_pid(void)
{
    int result = start_all();
    return result < 0 ? result : exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &any_pid);
}

static int start_init(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    int result = start_mode(EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED | EXITBUS_REAPER_SIGNALFD);
    return result < 0 ? result : exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &any_pid);
}

static pid_t spawn(char *const argv[], bool awaited)
{
    const struct exitbus_spawn_options options = {.argv = argv};
    struct exitbus_subscription *subscription;
    pid_t pid;
    release_spent();
    int result = exitbus_spawn(bus, &options, &pid, &subscription);
    if (result < 0)
        return result;
    if (awaited)
        waiting[last++ % WAITING_MAX] = subscription;
    return pid;
}

static pid_t spawn_direct(char *const argv[], bool awaited)
{
    const struct exitbus_spawn_options options = {.argv = argv, .flags = EXITBUS_SPAWN_DIRECT};
    struct exitbus_process *process;
    release_spent();
    int result = exitbus_process_spawn(bus, &options, &process);
    if (result < 0)
        return result;
    if (awaited)
        processes[last++ % WAITING_MAX] = process;
    return exitbus_process_pid(process);
}

static pid_t await_direct(void)
{
    struct exitbus_event event;
    release_spent();
    spent_process = processes[first++ % WAITING_MAX];
    int result = exitbus_process_wait(spent_process, &event, -1);
    return result < 0 ? result : event.pid;
}

static pid_t spawn_foreign(char *const argv[], bool awaited)
{
    (void)awaited;
    return spawn_by_vfork(argv);
}

static pid_t receive(struct exitbus_subscription *subscription)
{
    struct exitbus_event event;
    int result = exitbus_receive(subscription, &event, -1);
    return result < 0 ? result : event.pid;
}

static pid_t await_oldest(void)
{
    release_spent();
    spent_subscription = waiting[first++ % WAITING_MAX];
    return receive(spent_subscription);
}

/* Exits that one poll has collected are there for the next calls. */
static pid_t poll_and_receive(struct exitbus_subscription *subscription)
{
    struct pollfd ready = {.fd = exitbus_reaper_fd(reaper), .events = POLLIN};
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(subscription, &event, 0)) == -EAGAIN) {
        poll(&ready, 1, -1);
        exitbus_reaper_poll(reaper);
    }
    return result < 0 ? result : event.pid;
}

static pid_t await_polled(void)
{
    release_spent();
    spent_subscription = waiting[first++ % WAITING_MAX];
    return poll_and_receive(spent_subscription);
}

static pid_t await_any_polled(void)
{
    return poll_and_receive(any_pid);
}

static pid_t await_any(void)
{
    return receive(any_pid);
}

const struct exit_peer peer_exitbus_watched = {"exitbus", "exitbus_spawn; WATCHED reaper",
                                               start_watched, spawn, await_oldest};
const struct exit_peer peer_exitbus_polled = {"exitbus-polled",
                                              "exitbus_spawn; WATCHED reaper without a thread",
                                              start_polled, spawn, await_polled};
const struct exit_peer peer_exitbus_direct = {
    "exitbus-direct", "exitbus_process_spawn; the thread that waits collects", start_none,
    spawn_direct, await_direct};
const struct exit_peer peer_exitbus_all = {"exitbus-all", "exitbus_spawn; ALL reaper", start_all,
                                           spawn, await_oldest};
const struct exit_peer peer_exitbus_all_vfork = {"exitbus-all+vfork", "vfork and exec; ALL reaper",
                                                 start_all_any_pid, spawn_foreign, await_any};
const struct exit_peer peer_exitbus_init = {"exitbus-init",
                                            "vfork and exec; ALL reaper without a thread, signalfd",
                                            start_init, spawn_foreign, await_any_polled};
