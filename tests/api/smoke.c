/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The shortest way through everything: a child's exit arrives. */
#include "support/harness.h"

#include <exitbus/exitbus.h>

TEST(smoke, spawn_and_receive)
{
    struct exitbus *bus;
    check_ok(exitbus_create(&bus, NULL));
    char *argv[] = {TINY_CHILD, "7", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    struct exitbus_subscription *subscription;
    pid_t pid;
    check_ok(exitbus_spawn(bus, &options, &pid, &subscription));
    struct exitbus_event event;
    check_ok(exitbus_receive(subscription, &event, -1));
    check_equal(event.pid, pid);
    check_equal(event.exit_code, 7);
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_destroy(bus));
}
