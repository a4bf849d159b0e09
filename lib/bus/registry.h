/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The RCU-protected subscriber lists, found in O(1) by topic: one list for each of the broad topics
 * (all, any pid, any exec) and a directory of short lists for single pids, containers and execs.
 *
 * Each list is singly linked and lock-free: nodes enter at the head by CAS; leaving sets a mark in
 * the node's own `next`, then unlinks it (and any other marked node on the way). A reader inside a
 * read-side section sees every node that stays throughout. All calls must be made inside one.
 *
 * The directory has a fixed size, is mapped and not touched until used, and never allocates: no
 * insert can fail, none waits for a resize, and so for no other thread (G4, G5, G8). Pids index it
 * directly, and the kernel has at most 2^22 of them. Uses: topic, memory.
 */
#ifndef EXITBUS_REGISTRY_H
#define EXITBUS_REGISTRY_H

#include "base/atomic.h"
#include "event/topic.h"
#include "memory/memory.h"

#ifndef REGISTRY_BUCKETS
#define REGISTRY_BUCKETS ((size_t)1 << 16)
#endif
#define REGISTRY_MARK ((uintptr_t)1)

struct registry_node {
    _Atomic uintptr_t next; /* address of the next node; the mark: this one has left */
};

typedef _Atomic uintptr_t registry_list;

struct registry {
    _Alignas(CACHE_LINE) registry_list all;
    registry_list any_pid;
    registry_list any_exec;
    registry_list *directory;
    /* Have there been single-topic subscriptions? Spares a publish the look into an untouched
     * directory. Never taken back: publishers read this line, so nothing goes on writing it. */
    _Atomic bool pids;
    _Atomic bool containers;
    _Atomic bool execs;
};

/* 0 or -ENOMEM. */
int registry_init(struct registry *registry, struct memory *memory);
void registry_destroy(struct registry *registry, struct memory *memory);

/* The list on which subscriptions of a topic are; `hash` for topics with ids. */
registry_list *registry_find(struct registry *registry, enum exitbus_topic_kind kind, pid_t pid,
                             uint64_t hash);

/* There is going to be a subscription of this kind: before it is inserted. */
void registry_announce(struct registry *registry, enum exitbus_topic_kind kind);

/* Has there been a subscription of the kind whose note this is? */
static inline bool registry_has(const _Atomic bool *announced)
{
    return load_relaxed(announced);
}

void registry_insert(registry_list *list, struct registry_node *node);

/*
 * Take a node out: when this returns, no reader that begins afterwards meets it. May be called more
 * than once, by any threads; true for one of them. Lock-free, O(length of the list).
 */
bool registry_remove(registry_list *list, struct registry_node *node);

/* Walk a list: the first node that is still in it, and the one after a node. NULL at the end. */
static inline struct registry_node *registry_skip(uintptr_t link)
{
    for (;;) {
        struct registry_node *node = (struct registry_node *)(link & ~REGISTRY_MARK);
        if (!node)
            return NULL;
        link = load_relaxed(&node->next);
        if (likely(!(link & REGISTRY_MARK)))
            return node;
        if (mutant(REGISTRY_STOPS_AT_MARK))
            return NULL;
    }
}

static inline struct registry_node *registry_first(const registry_list *list)
{
    /* Acquire: pairs with registry_insert, for this node and all behind it (see registry.c). */
    return registry_skip(load_acquire(list));
}

static inline struct registry_node *registry_next(const struct registry_node *node)
{
    return registry_skip(load_relaxed(&node->next));
}

#endif
