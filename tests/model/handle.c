/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The end of a process is told to a thread that sleeps and to two that wait at the descriptor, and
 * each gets the whole event. The handle is freed once, behind these and the reaper.
 */
#include "process/process.h"

#include "model_test.h"
#include <poll.h>

static struct exitbus_process *process;

static void check_end(int64_t timeout_ns)
{
    struct exitbus_event event;
    assert(process_wait(process, &event, timeout_ns) == 0);
    assert(event.seq == 1 && event.exit_code == 7 && event.max_rss_kib == 9);
    process_unref(process);
}

static void *sleeper(void *nothing)
{
    check_end(-1);
    return nothing;
}

static void *poller(void *nothing)
{
    struct pollfd polled = {.fd = process_fd(process), .events = POLLIN};
    assert(polled.fd >= 0);
    poll(&polled, 1, -1);
    check_end(0); /* what is readable has an answer */
    return nothing;
}

int main(void)
{
    const struct exitbus_event event = {.seq = 1, .exit_code = 7, .max_rss_kib = 9};
    pthread_t threads[3];
    process = process_create(bus_new(), NULL);
    assert(process);
    fetch_add_relaxed(&process->handles, 2); /* one for each thread; none for this one */
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, i == 0 ? sleeper : poller, NULL);
    process_end(process, &event);
    process_release(process);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
