/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A way to start children and to learn of their exits, as the workloads of this directory see it.
 * Each measurement runs in a process of its own (worker.c), so a peer may take SIGCHLD, wait for
 * any child, and leave behind what it likes.
 */
#ifndef EXITS_PEER_H
#define EXITS_PEER_H

#include <stdbool.h>
#include <sys/types.h>

struct exit_peer {
    const char *name;
    /* What a reader should know of it. */
    const char *note;
    /* 0 or a negative errno. */
    int (*start)(void);
    /* Start argv[0], which stays watched; its pid or a negative errno. The exit of a child that is
     * `awaited` is given back by await(); one that is not lives until the process ends. */
    pid_t (*spawn)(char *const argv[], bool awaited);
    /* Block until one more exit of an awaited child has been received, and reaped or about to be;
     * its pid. Peers that tell which child they wait for take the oldest. */
    pid_t (*await)(void);
};

extern const struct exit_peer peer_exitbus_watched, peer_exitbus_polled, peer_exitbus_direct,
    peer_exitbus_all, peer_exitbus_all_vfork, peer_exitbus_init, peer_bare_vfork,
    peer_bare_posix_spawn, peer_bare_wait_any, peer_bare_relay, peer_bare_loop, peer_bare_init,
    peer_libuv, peer_glib, peer_sd_event, peer_tokio;

/* NULL-terminated. */
extern const struct exit_peer *const exit_peers[];

/* vfork and exec, nothing else: the cheapest start there is. A pid or a negative errno. */
pid_t spawn_by_vfork(char *const argv[]);

/* Pids in the order in which they came, for peers that must remember. */
void pids_push(pid_t pid);
/* 0: none. */
pid_t pids_pop(void);

#endif
