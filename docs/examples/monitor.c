/*
 * A shim's monitor: everything that exits in this process, whoever started it, and execs that a
 * runtime reports; printed from an epoll loop. Ends after three events.
 */
#include <exitbus/exitbus.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

static int print_pending(struct exitbus_subscription *sub)
{
    struct exitbus_event event;
    int count = 0;
    while (exitbus_receive(sub, &event, 0) == 0) {
        if (event.kind == EXITBUS_EVENT_PID)
            printf("pid %d: %d\n", event.pid, event.exit_code);
        else
            printf("exec %s/%s: %d\n", event.container_id, event.exec_id, event.exit_code);
        count++;
    }
    return count;
}

int main(void)
{
    struct exitbus *bus;
    struct exitbus_subscription *sub;
    struct exitbus_reaper *reaper;
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL};
    int error = exitbus_create(&bus, NULL);
    if (!error)
        error = exitbus_subscribe(bus, exitbus_topic_all(), 0, &sub);
    if (!error)
        error = exitbus_reaper_start(bus, &options, &reaper);
    if (error) {
        fprintf(stderr, "monitor: %s\n", exitbus_strerror(error));
        return 1;
    }

    struct epoll_event wanted = {.events = EPOLLIN};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(loop, EPOLL_CTL_ADD, exitbus_subscription_fd(sub), &wanted);

    for (int code = 1; code <= 2; code++)
        if (fork() == 0)
            _exit(code);
    exitbus_publish_exec(bus, "web", "healthcheck", 0);

    for (int seen = 0; seen < 3; seen += print_pending(sub)) {
        struct epoll_event ready;
        epoll_wait(loop, &ready, 1, -1);
    }
    close(loop);
    exitbus_reaper_stop(reaper);
    exitbus_unsubscribe(sub);
    return exitbus_destroy(bus);
}
