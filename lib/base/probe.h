/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Probes: named places in the library at which a test can stop, fail or delay a thread. A release
 * build has none of them.
 */
#ifndef EXITBUS_PROBE_H
#define EXITBUS_PROBE_H

/*
 * The places, each between two effects on shared memory. In a build with EXITBUS_TEST_HOOKS a test
 * sets a function, which is called at each place and stops the thread, fails it, or yields.
 */
enum probe {
    PROBE_PUBLISH_SLOT_CLAIMED,
    PROBE_PUBLISH_SLOT_FILLED,
    PROBE_PUBLISH_ORDERED,
    PROBE_DELIVER_BEFORE_APPEND,
    PROBE_APPEND_PAYLOAD_WRITTEN,
    PROBE_APPEND_TAG_WRITTEN,
    PROBE_APPEND_HINT_WRITTEN,
    PROBE_APPEND_SEGMENT_LINKED,
    PROBE_APPEND_TAIL_MOVED,
    PROBE_LOG_SEGMENT_DEAD,
    PROBE_LOG_CURSOR_COUNTED,
    PROBE_LOG_TAIL_READ,
    PROBE_DELIVER_BEFORE_WAKE,
    PROBE_WAKE_EPOCH_MOVED,
    PROBE_WAKE_DONE,
    PROBE_FD_STATE_READ,
    PROBE_FD_ANNOUNCED,
    PROBE_FD_WRITTEN,
    PROBE_ORDER_STALLED,
    PROBE_ORDER_UNSTALLING,
    PROBE_PUBLISH_DISTRIBUTED,
    PROBE_PUBLISH_DONE,
    PROBE_CHANNEL_JOINED,
    PROBE_CHANNEL_LISTED,
    PROBE_CHANNEL_ANNOUNCED,
    PROBE_CHANNEL_WAKING,
    PROBE_CHANNEL_LEFT,
    PROBE_SUBSCRIBE_INSERTED,
    PROBE_SUBSCRIBE_ORDER_READ,
    PROBE_SUBSCRIBE_STARTED,
    PROBE_RECEIVE_FOUND_NONE,
    PROBE_RECEIVE_COPIED,
    PROBE_RECEIVE_TAKEN,
    PROBE_RECEIVE_HEAD_MOVED,
    PROBE_RECEIVE_BEFORE_SLEEP,
    PROBE_RECEIVE_WOKEN,
    PROBE_FD_BEFORE_CLEARING,
    PROBE_FD_CLEARING,
    PROBE_FD_ARMED,
    PROBE_FD_TAKEN,
    PROBE_UNSUBSCRIBE_CLOSED,
    PROBE_UNSUBSCRIBE_WOKEN,
    PROBE_UNSUBSCRIBE_REMOVED,
    PROBE_REGISTRY_MARKED,
    PROBE_REGISTRY_UNLINKING,
    PROBE_REAPER_PEEKED,
    PROBE_REAPER_PUBLISHED,
    PROBE_REAPER_REAPED,
    PROBE_OUTCOME_SETTLED,
    PROBE_WATCH_COMMITTING,
    PROBE_WATCH_POLLED,
    PROBE_SPAWN_CLONED,
    PROBE_TRIM_DECIDING,
    PROBE_COUNT
};

#ifdef EXITBUS_TEST_HOOKS
extern void (*exitbus_probe_hook)(enum probe place);
#define probe(place)                                                                               \
    do {                                                                                           \
        void (*hook)(enum probe) = __atomic_load_n(&exitbus_probe_hook, __ATOMIC_ACQUIRE);         \
        if (hook)                                                                                  \
            hook(place);                                                                           \
    } while (0)
#else
#define probe(place) ((void)0)
#endif

#endif
