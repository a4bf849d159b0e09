/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The subscriber lists: see registry.h. The list is Harris's, with insertion only at the head and
 * RCU instead of hazard pointers: a node's memory stays while anybody may hold it, so following a
 * marked node's `next` is safe, and no address comes back (no ABA) within a read-side section.
 *
 * What hands on what: the head of a list is only changed by read-modify-writes, so whoever reads it
 * with acquire knows of all nodes that were inserted up to then, each with release. A node's `next`
 * only ever leads to nodes that were inserted before it. So nothing else on a list has to release
 * or acquire anything: marks and unlinked nodes are only told apart, and a CAS or a fetch_or works
 * on the latest value whatever its order.
 */
#include "bus/registry.h"

#include <errno.h>

int registry_init(struct registry *registry, struct memory *memory)
{
    *registry = (struct registry){0};
    size_t size = REGISTRY_BUCKETS * sizeof(registry_list);
    registry->directory = memory_map(memory, size, CACHE_LINE);
    if (!registry->directory)
        return -ENOMEM;
    if (!memory->own_allocator) /* fresh pages are zero, and stay untouched */
        memset((void *)registry->directory, 0, size);
    return 0;
}

void registry_destroy(struct registry *registry, struct memory *memory)
{
    memory_unmap(memory, (void *)registry->directory, REGISTRY_BUCKETS * sizeof(registry_list));
}

registry_list *registry_find(struct registry *registry, enum exitbus_topic_kind kind, pid_t pid,
                             uint64_t hash)
{
    switch (kind) {
    case EXITBUS_TOPIC_ALL:
        return &registry->all;
    case EXITBUS_TOPIC_ANY_PID:
        return &registry->any_pid;
    case EXITBUS_TOPIC_ANY_EXEC:
        return &registry->any_exec;
    case EXITBUS_TOPIC_PID:
        return &registry->directory[(size_t)pid % REGISTRY_BUCKETS];
    default:
        return &registry->directory[hash % REGISTRY_BUCKETS];
    }
}

void registry_announce(struct registry *registry, enum exitbus_topic_kind kind)
{
    _Atomic bool *announced = kind == EXITBUS_TOPIC_PID         ? &registry->pids
                              : kind == EXITBUS_TOPIC_CONTAINER ? &registry->containers
                              : kind == EXITBUS_TOPIC_EXEC      ? &registry->execs
                                                                : NULL;
    /* Who must see it is told of it by the order word, as of the node itself. Acquire and release:
     * also if it was another subscriber who has set it. */
    if (announced && !load_acquire(announced))
        store_release(announced, true);
}

void registry_insert(registry_list *list, struct registry_node *node)
{
    uintptr_t first = load_relaxed(list);
    do
        store_relaxed(&node->next, first);
    /* Release: pairs with the walkers' acquire, for everything in the node. */
    while (!cas_weak_release(list, &first, (uintptr_t)node));
}

/* Unlink every marked node, from the head to the end. Starts over when a link changed under it. */
static void unlink_marked(registry_list *list)
{
again:;
    _Atomic uintptr_t *link = list;
    /* Acquire: pairs with registry_insert, as for the walkers. */
    uintptr_t here = load_acquire(link);
    while (here) {
        struct registry_node *node = (struct registry_node *)here;
        uintptr_t next = load_relaxed(&node->next);
        if (next & REGISTRY_MARK) {
            probe(PROBE_REGISTRY_UNLINKING);
            if (mutant(REGISTRY_UNLINK_BY_STORE)) {
                store_release(link, next & ~REGISTRY_MARK);
                here = next & ~REGISTRY_MARK;
                continue;
            }
            /* Fails if the node before was marked, or another was linked in or out here. */
            if (!cas_relaxed(link, &here, next & ~REGISTRY_MARK))
                goto again;
            here = next & ~REGISTRY_MARK;
        } else {
            link = &node->next;
            here = next;
        }
    }
}

bool registry_remove(registry_list *list, struct registry_node *node)
{
    /* From here on walkers skip it, and its `next` never changes again. */
    bool first = !(fetch_or_relaxed(&node->next, REGISTRY_MARK) & REGISTRY_MARK);
    probe(PROBE_REGISTRY_MARKED);
    unlink_marked(list);
    return first;
}
