/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The lists of subscriptions, found in O(1) by topic.
 *
 * How it works
 *   - Each broad topic (all, any pid, any exec) has a channel (channel.h), and a list of its
 *     one-shots. So has each container that is subscribed to; its channel is in one of many short
 *     lists. Topics of one pid have a directory of short lists, and those with ids another.
 *   - Subscriptions of a channel, the members, are in short lists of their own, by address.
 *     Publishers never walk those: they are for what is done to all subscriptions (core.c).
 *   - A list is singly linked and lock-free. A node enters at the head by CAS. A thread that
 *     removes it marks the node's own `next`, then unlinks it, and other marked nodes on the way.
 *   - The directory has a fixed size. It is mapped at the bus's creation, and touched only where it
 *     is used. Each region of it has a flag, so that a walk over all lists skips what is untouched.
 *     Pids index it directly; the kernel has at most 2^22 of them. Ids are hashed with a key of the
 *     bus's own, so that nobody outside can choose ids that share a list.
 *
 * Why it is right
 *  1. A reader sees every node that stays in its list throughout the reader's section.
 *  2. Insert and remove allocate nothing, so they can't fail (G8). No call waits for a resize, and
 *     so for no other thread (G4, G5).
 *
 * It relies on RCU: all calls that take a list are made in a section. See registry.c.
 */
#ifndef EXITBUS_REGISTRY_H
#define EXITBUS_REGISTRY_H

#include "base/atomic.h"
#include "event/topic.h"
#include "memory/memory.h"

#ifndef REGISTRY_BUCKETS
#define REGISTRY_BUCKETS ((size_t)1 << 16)
#endif
#ifndef REGISTRY_ID_BUCKETS
#define REGISTRY_ID_BUCKETS (REGISTRY_BUCKETS / 2)
#endif
#ifndef REGISTRY_CONTAINER_LISTS
#define REGISTRY_CONTAINER_LISTS (REGISTRY_ID_BUCKETS / 4)
#endif
#ifndef REGISTRY_MEMBER_LISTS
#define REGISTRY_MEMBER_LISTS ((size_t)1 << 16)
#endif
/* Lists that share a flag. */
#ifndef REGISTRY_REGION
#define REGISTRY_REGION ((size_t)1 << 9)
#endif
/* Lists of subscriptions: by pid, by id, and of members. */
#define REGISTRY_LISTS (REGISTRY_BUCKETS + REGISTRY_ID_BUCKETS + REGISTRY_MEMBER_LISTS)
#define REGISTRY_REGIONS (REGISTRY_LISTS / REGISTRY_REGION)
#define REGISTRY_MARK ((uintptr_t)1)

struct registry_node {
    _Atomic uintptr_t next; /* address of the next node; with the mark: this node has left */
};

typedef _Atomic uintptr_t registry_list;

struct channel;

struct registry {
    /* The publishers' line. */
    _Alignas(CACHE_LINE) registry_list all;
    registry_list any_pid;
    registry_list any_exec;
    /* NULL: there is none. Written by subscribers. */
    _Atomic(struct channel *) all_channel;
    _Atomic(struct channel *) any_pid_channel;
    _Atomic(struct channel *) any_exec_channel;
    registry_list *directory;
    /* Whether there was a subscription of the kind; by subscribers; never cleared. So a publish
     * need not look into an untouched directory, and nothing goes on writing this line, which
     * publishers read. */
    _Atomic bool pids;
    _Atomic bool containers;
    _Atomic bool execs;
    _Alignas(CACHE_LINE) struct topic_key key; /* constant, like the next three */
    registry_list *ids;                        /* as the directory, by the hash of ids */
    registry_list *channels;                   /* lists of containers' channels, by the hash */
    registry_list *members;                    /* lists of channels' subscriptions */
    _Atomic bool used[REGISTRY_REGIONS];       /* by subscribers; never cleared */
};

/* Make an empty registry. Returns 0 or -ENOMEM. */
int registry_init(struct registry *registry, struct memory *memory);
void registry_destroy(struct registry *registry, struct memory *memory);

/* Returns the list for subscriptions of a topic. `hash` is that of a topic with ids. */
registry_list *registry_find(struct registry *registry, enum exitbus_topic_kind kind, pid_t pid,
                             uint64_t hash);

/* Returns the list for channels of containers that have this hash. */
static inline registry_list *registry_channels(struct registry *registry, uint64_t hash)
{
    return &registry->channels[hash % REGISTRY_CONTAINER_LISTS];
}

/* Returns the list that a channel's subscription is in. */
registry_list *registry_members(struct registry *registry, const void *subscription);

/* Announce that there will be a subscription of this kind. Context: before it is inserted. */
void registry_announce(struct registry *registry, enum exitbus_topic_kind kind);

/* Returns whether the kind that has this flag was announced. */
static inline bool registry_has(const _Atomic bool *announced)
{
    return load_relaxed(announced);
}

/* Note that there will be a node in a list of subscriptions. Context: before it is inserted. */
void registry_use(struct registry *registry, const registry_list *list);

void registry_insert(registry_list *list, struct registry_node *node);

/*
 * The same, if nothing has come to the list since its head was read as `head`. Returns whether it
 * was inserted.
 */
bool registry_insert_at(registry_list *list, struct registry_node *node, uintptr_t head);

/*
 * Take a node out: a reader that begins after the return does not meet it.
 * Returns true for one caller only. Context: may be called more than once, by any threads;
 * lock-free, O(length of the list).
 */
bool registry_remove(registry_list *list, struct registry_node *node);

/*
 * The same in two steps, for a thread that takes many out: mark each, then unlink all that are
 * marked by one walk. Context: as registry_remove().
 */
bool registry_mark(struct registry_node *node);
void registry_unlink_marked(registry_list *list);

/* Call `visit` for each subscription's node. Context: in a section. */
void registry_visit(const struct registry *registry,
                    void (*visit)(struct registry_node *node, void *context), void *context);

/* Returns the first node from `link` on that is still in its list; NULL: none. */
static inline struct registry_node *registry_skip(uintptr_t link)
{
    for (;;) {
        struct registry_node *node = (struct registry_node *)(link & ~REGISTRY_MARK);
        if (!node)
            return NULL;
        link = load_relaxed(&node->next);
        if (likely(!(link & REGISTRY_MARK)))
            return node;
    }
}

static inline struct registry_node *registry_first(const registry_list *list)
{
    /* Acquire; pairs with registry_insert(), for this node and all behind it: see registry.c, 2. */
    return registry_skip(load_acquire(list));
}

static inline struct registry_node *registry_next(const struct registry_node *node)
{
    return registry_skip(load_relaxed(&node->next));
}

#endif
