/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus-forward: events from a source to a spool, and from the spool to an output. Either half
 * may be left out. The source has a thread of its own; this one sends, and waits for signals.
 */
#include "tools/forward/child.h"
#include "tools/forward/lines.h"
#include "tools/forward/options.h"
#include "tools/forward/sender.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 2000

struct forwarder {
    struct options options;
    struct sender sender;
    struct lines lines;
    struct child child;
    struct output *output;
    int signals; /* signalfd */
    int changes; /* inotify of the spool */
    int source;  /* readable when the source has ended; -1: it has, or there is none */
    int64_t deadline_ms;
    bool stopping;
    int exit_code;
};

static void die(const char *what, int result)
{
    fprintf(stderr, "exitbus-forward: %s: %s\n", what,
            result == -EBUSY ? "another process has it" : strerror(-result));
    exit(1);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------------------------ source */

static void start_source(struct forwarder *forwarder)
{
    const struct options *options = &forwarder->options;
    struct exitbus_forward_options spool = {
        .flags = options->flags, .spool = options->spool, .max_bytes = options->max_bytes};
    forwarder->source = -1;
    if (options->command) {
        int result = child_start(&forwarder->child, options->command, &spool);
        if (result < 0)
            die(forwarder->child.why, result);
        forwarder->source = child_fd(&forwarder->child);
    }
    if (options->lines) {
        forwarder->lines.path = options->lines;
        forwarder->lines.once = options->once;
        int result =
            lines_start(&forwarder->lines, options->spool, options->flags, options->max_bytes);
        if (result < 0)
            die(options->lines, result);
        forwarder->source = forwarder->lines.ended;
    }
}

/* What the source has told is in the spool then. */
static void end_source(struct forwarder *forwarder)
{
    int result = 0;
    if (forwarder->source < 0)
        return;
    forwarder->source = -1;
    if (forwarder->options.command)
        result = child_finish(&forwarder->child, &forwarder->exit_code);
    else
        result = lines_stop(&forwarder->lines);
    if (result < 0)
        fprintf(stderr, "exitbus-forward: some events had no room in the spool: %s\n",
                strerror(-result));
    if (forwarder->lines.error < 0) {
        fprintf(stderr, "exitbus-forward: %s: %s\n", forwarder->options.lines,
                strerror(-forwarder->lines.error));
        forwarder->exit_code = 1;
    }
    if (forwarder->lines.too_long > 0)
        fprintf(stderr, "exitbus-forward: %" PRIu64 " lines were too long\n",
                forwarder->lines.too_long);
    if (forwarder->options.linger_ms >= 0)
        forwarder->deadline_ms = now_ms() + forwarder->options.linger_ms;
}

/* A signal ends the forwarder; a command gets it first, and the forwarder ends with it. What a
 * terminal has sent reaches the command by itself. */
static void take_signal(struct forwarder *forwarder)
{
    struct signalfd_siginfo info;
    if (read(forwarder->signals, &info, sizeof info) != sizeof info)
        return;
    if (!forwarder->options.command || forwarder->source < 0)
        forwarder->stopping = true;
    else if (info.ssi_code != SI_KERNEL)
        child_signal(&forwarder->child, (int)info.ssi_signo);
}

/* ------------------------------------------------------------------------------------ sending */

/* Sleep until there is something to do, at most so long; -1: for ever. */
static void sleep_for(struct forwarder *forwarder, bool wake_by_spool, int64_t timeout_ms)
{
    char changes[4096];
    if (forwarder->deadline_ms >= 0) {
        int64_t left = forwarder->deadline_ms - now_ms();
        left = left < 0 ? 0 : left;
        timeout_ms = timeout_ms < 0 || timeout_ms > left ? left : timeout_ms;
    }
    struct pollfd ready[3] = {{.fd = forwarder->signals, .events = POLLIN},
                              {.fd = forwarder->source, .events = POLLIN},
                              {.fd = wake_by_spool ? forwarder->changes : -1, .events = POLLIN}};
    poll(ready, 3, (int)timeout_ms);
    if (ready[0].revents)
        take_signal(forwarder);
    if (ready[1].revents)
        end_source(forwarder);
    if (ready[2].revents)
        while (read(forwarder->changes, changes, sizeof changes) > 0)
            ;
}

static bool is_over(const struct forwarder *forwarder, bool is_empty)
{
    bool ends = forwarder->options.once || forwarder->options.command || forwarder->options.lines;
    if (forwarder->stopping)
        return true;
    if (forwarder->source >= 0 || !ends)
        return false;
    return is_empty || (forwarder->deadline_ms >= 0 && now_ms() >= forwarder->deadline_ms);
}

static void report(struct forwarder *forwarder, int result, const char **said)
{
    if (result < 0 && !*said)
        fprintf(stderr, "exitbus-forward: %s: %s; trying again\n", forwarder->options.output.target,
                forwarder->sender.why);
    if (result > 0 && *said)
        fprintf(stderr, "exitbus-forward: %s: goes on\n", forwarder->options.output.target);
    *said = result < 0 ? forwarder->sender.why : NULL;
}

/* Send until it is over. */
static void send_all(struct forwarder *forwarder)
{
    int64_t retry_ms = RETRY_MIN_MS;
    const char *said = NULL;
    int result = 0;
    do {
        bool source_had_ended = forwarder->source < 0;
        result = sender_step(&forwarder->sender);
        if (result != 0)
            report(forwarder, result, &said);
        if (result >= 0)
            retry_ms = RETRY_MIN_MS;
        if (result == -EPIPE) { /* the reader of our lines has ended */
            forwarder->exit_code = 1;
            return;
        }
        if (is_over(forwarder, result == 0 && source_had_ended))
            return;
        sleep_for(forwarder, result == 0, result > 0 ? 0 : result < 0 ? retry_ms : -1);
        if (result < 0)
            retry_ms = retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : retry_ms * 2;
    } while (!forwarder->stopping);
}

static void write_only(struct forwarder *forwarder)
{
    while (!is_over(forwarder, true))
        sleep_for(forwarder, false, -1);
}

/* ------------------------------------------------------------------------------- begin and end */

/* Blocked in all threads: this one takes them by a descriptor. */
static void take_signals(struct forwarder *forwarder)
{
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGTERM);
    sigaddset(&taken, SIGINT);
    sigaddset(&taken, SIGHUP);
    sigprocmask(SIG_BLOCK, &taken, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* the write says so */
    forwarder->signals = signalfd(-1, &taken, SFD_CLOEXEC);
    if (forwarder->signals < 0)
        die("signalfd", -errno);
}

static void open_sender(struct forwarder *forwarder)
{
    const struct options *options = &forwarder->options;
    forwarder->output = output_open(&options->output);
    if (!forwarder->output && errno == EINVAL)
        fprintf(stderr, "exitbus-forward: there is no output %s\n", options->output.target);
    if (!forwarder->output)
        die(options->output.target, -errno);
    message_origin_set(&forwarder->sender.origin, options->machine, options->host);
    int result = sender_open(&forwarder->sender, options->spool, options->name, forwarder->output);
    if (result < 0)
        die(options->spool, result);
    forwarder->changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (forwarder->changes < 0 ||
        inotify_add_watch(forwarder->changes, options->spool, IN_MODIFY | IN_CREATE) < 0)
        die("inotify", -errno);
}

static void print_stats(const struct forwarder *forwarder)
{
    const struct sender *sender = &forwarder->sender;
    fprintf(stderr,
            "exitbus-forward: delivered %" PRIu64 ", repeated %" PRIu64 ", lost %" PRIu64
            ", unreadable %" PRIu64 ", damaged bytes %" PRIu64 "\n",
            sender->delivered, sender->repeated, sender->lost, sender->unreadable,
            sender->reader.damaged);
}

int main(int argc, char **argv)
{
    static struct forwarder forwarder = {.deadline_ms = -1};
    options_parse(argc, argv, &forwarder.options);
    bool sends = forwarder.options.output.target != NULL;
    take_signals(&forwarder);
    if (sends)
        open_sender(&forwarder);
    start_source(&forwarder);
    if (forwarder.source < 0 && forwarder.options.linger_ms >= 0)
        forwarder.deadline_ms = now_ms() + forwarder.options.linger_ms;
    if (sends)
        send_all(&forwarder);
    else
        write_only(&forwarder);
    end_source(&forwarder);
    if (forwarder.options.stats)
        print_stats(&forwarder);
    if (forwarder.output) {
        forwarder.output->close(forwarder.output);
        sender_close(&forwarder.sender);
    }
    return forwarder.exit_code;
}
