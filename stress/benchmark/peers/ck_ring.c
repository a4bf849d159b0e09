/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ConcurrencyKit's ck_ring for any number of producers and consumers, as all peers are. */
#define ENQUEUE ck_ring_enqueue_mpmc_event
#define DEQUEUE ck_ring_dequeue_mpmc_event
#include "ring.h"

FAN_PEER(ck_ring_peer, "ck_ring", "ConcurrencyKit ck_ring, mpmc (bounded)",
         PEER_FIFO | PEER_BOUNDED);
