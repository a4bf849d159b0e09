#include <exitbus/exitbus.h>
#include <stdio.h>

int main(void)
{
    char *argv[] = {"sh", "-c", "exit 7", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .flags = EXITBUS_SPAWN_SEARCH_PATH};
    struct exitbus_subscription *sub;
    struct exitbus_event event;
    pid_t pid;
    if (exitbus_spawn(exitbus_default(), &options, &pid, &sub) < 0)
        return 1;
    if (exitbus_receive(sub, &event, -1) == 0)
        printf("%d exited with %d\n", event.pid, event.exit_code);
    return exitbus_unsubscribe(sub);
}
