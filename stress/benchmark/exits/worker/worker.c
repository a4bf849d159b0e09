/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One measurement with one peer, in a process of its own: SIGCHLD, the descriptor table and the
 * children belong to a whole process, so peers would disturb each other in one.
 *
 *     exitbus-exits PEER throughput COUNT WINDOW   children/s, at most WINDOW of them at a time
 *     exitbus-exits PEER latency COUNT             ns from just before _exit to received: p50, p99
 *     exitbus-exits PEER cpu COUNT LIVE            CPU ns per exit, with LIVE other children
 *     exitbus-exits PEER orphans COUNT             CPU ns per orphan, as PID 1 of a namespace
 *     exitbus-exits peers                          the names of the peers that are built in
 *
 * Prints the figures on one line. Exit status 1, and a line on stderr, if the peer fails; 2: usage.
 */
#include "peer.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL
#define NS_PER_US 1000LL

const struct exit_peer *const exit_peers[] = {
    &peer_exitbus_watched,
    &peer_exitbus_polled,
    &peer_exitbus_direct,
    &peer_exitbus_all,
    &peer_exitbus_all_vfork,
    &peer_exitbus_init,
    &peer_bare_vfork,
    &peer_bare_posix_spawn,
    &peer_bare_wait_any,
    &peer_bare_relay,
    &peer_bare_loop,
    &peer_bare_init,
    &peer_libuv,
    &peer_glib,
    &peer_sd_event,
#ifdef BENCH_TOKIO
    &peer_tokio,
#endif
    NULL,
};

static const struct exit_peer *peer;

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void fail(const char *what, int error)
{
    fprintf(stderr, "exits: %s: %s: %s\n", peer->name, what, strerror(-error));
    exit(1);
}

static pid_t spawn(const char *what, bool awaited)
{
    char *argv[] = {TINY_CHILD, (char *)what, NULL};
    pid_t pid = peer->spawn(argv, awaited);
    if (pid <= 0)
        fail("spawn", pid);
    return pid;
}

static pid_t await(void)
{
    pid_t pid = peer->await();
    if (pid <= 0)
        fail("await", pid);
    return pid;
}

/* ------------------------------------------------------------------------------ throughput */

static void throughput(int count, int window)
{
    int64_t begin = clock_ns(CLOCK_MONOTONIC);
    int received = 0;
    for (int spawned = 0; received < count; received++) {
        while (spawned < count && spawned - received < window) {
            spawn("0", true);
            spawned++;
        }
        await();
    }
    printf("%.1f\n", (double)count * NS_PER_S / (double)(clock_ns(CLOCK_MONOTONIC) - begin));
}

/* --------------------------------------------------------------------------------- latency */

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void latency(int count)
{
    int64_t *delays = calloc((size_t)count, sizeof *delays);
    int fds[2];
    if (!delays || pipe(fds) != 0)
        fail("latency", -errno);
    char what[16];
    snprintf(what, sizeof what, "c%d", fds[1]);
    for (int i = 0; i < count; i++) {
        pid_t pid = spawn(what, true);
        if (await() != pid)
            fail("another child came", 0);
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        int64_t told[2]; /* a struct timespec */
        if (read(fds[0], told, sizeof told) != sizeof told)
            fail("the child told no time", -errno);
        delays[i] = now - (told[0] * NS_PER_S + told[1]);
    }
    qsort(delays, (size_t)count, sizeof *delays, compare);
    printf("%lld %lld\n", (long long)delays[count / 2], (long long)delays[count * 99 / 100]);
}

/* ------------------------------------------------------------------------------------- cpu */

/* Of this process, and of all children that have been reaped. */
static int64_t cpu_with_children_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    int64_t children_us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * (NS_PER_S / NS_PER_US) +
                          usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + children_us * NS_PER_US;
}

/* Descriptors for as many pidfds as there will be children, where a peer needs them. */
static void raise_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void cpu(int count, int live)
{
    const struct timespec settle = {.tv_nsec = 100000000};
    pid_t *pids = calloc((size_t)count, sizeof *pids);
    if (!pids)
        fail("cpu", -ENOMEM);
    raise_limit();
    for (int i = 0; i < live; i++)
        spawn("dp", false);
    for (int i = 0; i < count; i++)
        pids[i] = spawn("dp", true);
    nanosleep(&settle, NULL);
    int64_t begin = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < count; i++) {
        kill(pids[i], SIGKILL);
        await();
    }
    int64_t exits_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin;
    begin = cpu_with_children_ns();
    for (int i = 0; i < count; i++) {
        spawn("0", true);
        await();
    }
    int64_t all_ns = cpu_with_children_ns() - begin;
    printf("%.1f %.1f\n", (double)exits_ns / count, (double)all_ns / count);
}

/* ----------------------------------------------------------------------------------- orphans */

/* Make orphans, one at a time: each is born of a child that ends. */
static void make_orphans(int count)
{
    for (int i = 0; i < count; i++) {
        pid_t parent = fork();
        if (parent == 0)
            _exit(fork() < 0);
        int status;
        if (parent < 0 || waitpid(parent, &status, 0) < 0 || status != 0)
            _exit(1);
    }
    _exit(0);
}

static void init(int count)
{
    int result = peer->start();
    pid_t maker = result < 0 ? result : fork();
    if (maker < 0)
        fail("start as PID 1", maker);
    if (maker == 0)
        make_orphans(count);
    int64_t begin = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < count + 1; i++) /* the maker, too */
        await();
    printf("%.1f\n", (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin) / (count + 1));
}

/* The orphans' init is a process of its own, since only a child is in the new namespace. */
static void orphans(int count)
{
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
        fail("a new pid namespace", -errno);
    pid_t pid = fork();
    if (pid == 0) {
        init(count);
        fflush(stdout);
        _exit(0);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        fail("PID 1", -ECHILD);
}

/* ------------------------------------------------------------------------------------ main */

static int usage(void)
{
    fputs("usage: exitbus-exits PEER throughput COUNT WINDOW | latency COUNT | cpu COUNT LIVE\n"
          "       exitbus-exits peers\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "peers") == 0) {
        for (const struct exit_peer *const *each = exit_peers; *each; each++)
            printf("%-20s %s\n", (*each)->name, (*each)->note);
        return 0;
    }
    if (argc < 4 || atoi(argv[3]) <= 0)
        return usage();
    for (const struct exit_peer *const *each = exit_peers; *each && !peer; each++)
        peer = strcmp((*each)->name, argv[1]) == 0 ? *each : NULL;
    if (!peer)
        return usage();
    int count = atoi(argv[3]), extra = argc > 4 ? atoi(argv[4]) : -1;
    bool as_init = strcmp(argv[2], "orphans") == 0;
    int result = as_init ? 0 : peer->start();
    if (result < 0)
        fail("start", result);
    if (as_init)
        orphans(count);
    else if (strcmp(argv[2], "throughput") == 0 && extra > 0)
        throughput(count, extra);
    else if (strcmp(argv[2], "latency") == 0)
        latency(count);
    else if (strcmp(argv[2], "cpu") == 0 && extra >= 0)
        cpu(count, extra);
    else
        return usage();
    fflush(stdout);
    _exit(0); /* children that live die with this thread */
}
