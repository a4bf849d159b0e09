/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All peers: see peers.h. Those from Rust are there where they could be built. */
#include "bench.h"
#include "peers/all.h"

#include <stdlib.h>
#include <string.h>

const struct peer *const peers[] = {
    &exitbus_peer,
    &moodycamel_token_peer,
    &moodycamel_peer,
    &boost_peer,
    &tbb_peer,
    &glib_peer,
    &ck_fifo_peer,
    &ck_ring_peer,
    &bare_ring_peer,
    &wfcqueue_peer,
    &lfqueue_peer,
    &mutex_deque_peer,
    &shim_peer,
#ifdef BENCH_RUST
    &rust_crossbeam_peer,
    &rust_std_peer,
    &rust_tokio_peer,
    &rust_broadcast_peer,
#endif
};
const size_t peer_count = sizeof peers / sizeof *peers;

bool peer_keeps_fifo(const char *name)
{
    for (size_t i = 0; i < peer_count; i++)
        if (strcmp(peers[i]->name, name) == 0)
            return peers[i]->features & PEER_FIFO;
    return false;
}

void *peer_memory(size_t size)
{
    size_t whole = (size + 2 * CACHE_LINE - 1) / (2 * CACHE_LINE) * (2 * CACHE_LINE);
    void *memory = aligned_alloc(2 * CACHE_LINE, whole);
    if (!memory)
        bench_die("out of memory");
    return memset(memory, 0, whole);
}
