/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* tokio::process, by way of the crate in rust/. */
#include "peer.h"

int exits_tokio_start(void);
int exits_tokio_spawn(const char *path, const char *argument, int awaited);
int exits_tokio_await(void);

static int start(void)
{
    return exits_tokio_start();
}

static pid_t spawn(char *const argv[], bool awaited)
{
    return exits_tokio_spawn(argv[0], argv[1], awaited);
}

static pid_t await(void)
{
    return exits_tokio_await();
}

const struct exit_peer peer_tokio = {"tokio", "tokio::process, one-threaded runtime", start, spawn,
                                     await};
