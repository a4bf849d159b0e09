/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Deliberate defects, by which exitbus-stress --mutants shows that it can see them. A defect is a
 * `mutant(NAME)` in the sources: 0 in every build of the library but the one that is made for that
 * defect alone (EXITBUS_MUTANT=MUTANT_NAME).
 *
 * DEFECT(name, guarantee that it breaks, "sources that contain it", "what it does")
 * UNSEEN(…): one that a stress does not show within its time, or no x86 processor at all, since its
 * loads and stores keep their order anyway: not run, but there for tests of their own and for the
 * model checker.
 */
#ifndef EXITBUS_MUTANTS_H
#define EXITBUS_MUTANTS_H

/* clang-format off */
#define EXITBUS_MUTANTS(DEFECT, UNSEEN) \
    DEFECT(ORDER_TURN_TOO_SOON, G1, "order.c", "opens a turn while the last is not done") \
    DEFECT(ORDER_DONE_FIRST, G2, "order.c", "notes that the turn is finished before the distribution") \
    DEFECT(ORDER_COPY_UNCHECKED, G1, "order.c", "a helper does not look whether its copy is whole") \
    DEFECT(ORDER_LOST_HELPER, G1, "order.c", "a helper closes the turn without distributing") \
    DEFECT(ORDER_SLOT_UNSETTLED, G1, "order.c", "a slot is written while a turn is open with it") \
    DEFECT(ORDER_BATCH_ONE_SEQ, G2, "order.c", "a batch takes one place for all its events") \
    DEFECT(ORDER_OOM_DROPS, G1, "order.c", "an event that lacks memory for one queue is given up") \
    DEFECT(ORDER_OOM_TWICE, G8, "order.c", "a publish fails with its event ordered all the same") \
    UNSEEN(ORDER_STALL_UNTOLD, G1, "order.c", "sleepers are not told of an event that lacks memory") \
    UNSEEN(ORDER_STALL_COVERED, G1, "order.c", "a late note covers that of a later event") \
    DEFECT(QUEUE_NO_LOOK_BACK, G1, "append.c deliver.c take.c", "the missing look at the previous cell") \
    UNSEEN(QUEUE_HINT_STAYS, G1, "append.c deliver.c take.c", "a segment that comes back is entered at its last life's hint") \
    DEFECT(QUEUE_NO_BASE, G1, "append.c", "the missing look at the tag that ended the last segment") \
    DEFECT(QUEUE_TAG_FIRST, G1, "append.c deliver.c take.c", "the tag is written before the payload") \
    DEFECT(QUEUE_NO_SECOND_LOOK, G1, "take.c", "no second look at a gap") \
    DEFECT(QUEUE_LEFTOVERS, G1, "take.c", "a recycled segment's old tags pass for events") \
    DEFECT(QUEUE_TAKE_BY_STORE, G1, "take.c", "a receive moves the head by a store, not by a CAS") \
    DEFECT(QUEUE_BATCH_PAST_END, G1, "take.c", "a batch claims one event past the end") \
    DEFECT(QUEUE_TAIL_STAYS, G6, "append.c deliver.c take.c", "the tail is left on a retired segment") \
    DEFECT(QUEUE_NEVER_RETIRED, G7, "take.c", "drained segments are never given back") \
    DEFECT(QUEUE_NO_GRACE, G6, "take.c", "drained segments are used again without a grace period") \
    DEFECT(QUEUE_CLOSE_NOT, G3, "take.c", "closing leaves the head as it is") \
    DEFECT(START_FROM_EVENT, G1, "deliver.c", "start is taken from the event that is helped") \
    DEFECT(START_LATE, G1, "subscription.c", "start lies one event too late") \
    DEFECT(CLOSE_IN_GRACE, G3, "subscription.c", "closes after leaving the registry, in the grace period's callback") \
    DEFECT(CLOSE_AFTER_WAKE, G3, "subscription.c", "wakes the receivers, and closes then") \
    DEFECT(ONE_SHOT_TWICE, G1, "deliver.c take.c", "a one-shot takes events without closing") \
    DEFECT(SUBSCRIPTION_NO_GRACE, G6, "subscription.c", "a subscription is freed without a grace period") \
    DEFECT(SUBSCRIPTION_LEAKS, G6, "receive.c", "a receiver that has slept keeps its reference") \
    DEFECT(TOPIC_BY_BUCKET, G1, "deliver.c", "pids that share a bucket are not told apart") \
    DEFECT(WAKE_NEVER, G1, "wakeup.c", "a publish wakes no sleeper") \
    DEFECT(WAKE_CHECK_FIRST, G1, "deliver.c", "looks for sleepers before the event is stored") \
    DEFECT(WAKE_EPOCH_LATE, G1, "receive.c", "a sleeper looks at its queue, and announces itself then") \
    DEFECT(WAKE_FD_NEVER, G1, "wakeup.c", "the descriptor is never signalled") \
    DEFECT(WAKE_FD_NO_LOOK, G1, "event_fd.c", "the descriptor is cleared without another look") \
    UNSEEN(WAKE_FD_NO_FENCE, G1, "event_fd.c", "a publisher looks at the descriptor's state without a fence") \
    UNSEEN(WAKE_FD_KNOWN_EARLY, G1, "event_fd.c", "the descriptor is cleared before all publishers see it") \
    UNSEEN(WAKE_FD_NOTE_UNCHECKED, G1, "event_fd.c", "a publisher notes its token though a receiver has looked since") \
    UNSEEN(WAKE_FD_SAME_VERSION, G1, "event_fd.c", "a receiver looks without a new version") \
    UNSEEN(WAKE_FD_NOT_ANNOUNCED, G1, "event_fd.c", "a receiver says that there is nothing without having announced itself") \
    UNSEEN(WAKE_FD_TAKE_UNCOUNTED, G1, "event_fd.c", "a receiver takes a token without being counted") \
    UNSEEN(WAKE_FD_ONE_TOKEN, G1, "event_fd.c", "a publisher does not count the receivers that take") \
    UNSEEN(WAKE_FD_CLOSE_TAKABLE, G3, "event_fd.c", "the token of a close can be taken") \
    UNSEEN(WAKE_FD_CLOSED_IN_USE, G6, "event_fd.c", "the descriptor is closed while a publisher writes") \
    DEFECT(WAKE_CLOSE_SILENT, G3, "wakeup.c", "closing wakes nobody") \
    DEFECT(WAKE_ALWAYS, REST, "event_count.c", "sleepers wake at intervals") \
    DEFECT(REGISTRY_UNLINK_BY_STORE, G1, "registry.c", "leaving overwrites what entered meanwhile") \
    DEFECT(REGISTRY_STOPS_AT_MARK, G1, "core.c deliver.c registry.c", "a walk ends at a subscription that has left") \
    DEFECT(MEMORY_TRIMS_IN_USE, G6, "trim.c", "memory in use is given back to the kernel") \
    DEFECT(MEMORY_NEVER_TRIMMED, G7, "trim.c", "no memory is given back before destroy") \
    UNSEEN(EPOCH_NO_BARRIER, G6, "epoch.h", "a section does not tell of itself before it reads") \
    UNSEEN(WEAK_EPOCH_ENTER, G6, "epoch.h", "the begin of a section is stored relaxed") \
    UNSEEN(WEAK_EPOCH, G6, "epoch.h", "the end of a section is stored relaxed") \
    UNSEEN(RECLAIM_NO_GRACE, G6, "reclaim.c", "the worker frees without a grace period") \
    UNSEEN(BARRIER_STAYS_LIGHT, G1, "barrier.c", "membarrier is refused, and publishers go on without fences") \
    DEFECT(EPOCH_NOBODY_NOTED, G6, "epoch.c", "a polled grace period waits for nobody") \
    DEFECT(REAPER_REAPS_FIRST, G8, "collect.c", "reaps, and publishes then") \
    DEFECT(REAPER_DRAINS_ONE, G1, "reaper_loop.c", "one child for each SIGCHLD") \
    DEFECT(REAPER_TWICE, G1, "collect.c", "publishes one exit in sixteen twice") \
    UNSEEN(WATCH_NOT_DOUBTED, G1, "collect.c", "watches that come while their child is reaped stay") \
    UNSEEN(REAPER_LEAVES_SPAWNED, G1, "reaper.c", "a reaper that is stopped leaves spawn's children behind") \
    UNSEEN(REAPER_BY_BIRTH, G2, "reaper_loop.c", "watched children are collected as waitid names them") \
    UNSEEN(REAPER_NO_EDGE, G1, "reaper_loop.c", "a pass that stops early makes no edge") \
    UNSEEN(SIGCHLD_KEPT, G8, "reaper_loop.c", "the reaper's thread keeps the host's signal for itself") \
    DEFECT(SPAWN_SUBSCRIBES_LATE, G1, "spawn_child.c spawn_forked.c", "subscribes when the child runs already") \
    UNSEEN(SPAWN_INNER_PID, G1, "spawn_child.c", "subscribes to the pid that the child has for itself") \
    UNSEEN(SPAWN_MASK_INHERITED, REST, "spawn_signals.c", "the child has the signal mask of the calling thread") \
    DEFECT(FORK_UNNOTICED, G9, "fork_guard.c", "a forked child is not noticed") \
    UNSEEN(WEAK_TAG, G1, "append.c deliver.c take.c", "the tag is stored relaxed") \
    UNSEEN(WEAK_HINT, G1, "append.c deliver.c take.c", "the hint is stored relaxed") \
    UNSEEN(WEAK_TURN, G1, "order.c", "the turn is opened relaxed") \
    UNSEEN(WEAK_DONE, G1, "order.c", "the note that a turn is finished is relaxed")
/* clang-format on */

#define EXITBUS_MUTANT_NAME(name, guarantee, sources, what) MUTANT_##name,
enum mutant { MUTANT_NONE, EXITBUS_MUTANTS(EXITBUS_MUTANT_NAME, EXITBUS_MUTANT_NAME) MUTANTS_END };

#endif
