/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The names of all peers. */
#ifndef BENCH_PEERS_ALL_H
#define BENCH_PEERS_ALL_H

#include "../peers.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct peer exitbus_peer, moodycamel_token_peer, moodycamel_peer, boost_peer, tbb_peer,
    glib_peer, ck_fifo_peer, ck_ring_peer, bare_ring_peer, wfcqueue_peer, lfqueue_peer,
    mutex_deque_peer, shim_peer;
#ifdef BENCH_RUST
extern const struct peer rust_crossbeam_peer, rust_std_peer, rust_tokio_peer, rust_broadcast_peer;
#endif

#ifdef __cplusplus
}
#endif

#endif
