/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A floor: what the least of promises costs. One producer, one consumer, a ring made beforehand. */
#define ENQUEUE ck_ring_enqueue_spsc_event
#define DEQUEUE ck_ring_dequeue_spsc_event
#include "ring.h"

FAN_PEER(bare_ring_peer, "bare-ring", "a floor: ck_ring of one producer and one consumer, bounded",
         PEER_FIFO | PEER_BOUNDED | PEER_ONE_CONSUMER | PEER_ONE_TO_ONE);
