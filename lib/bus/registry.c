/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The subscriber lists: see registry.h. The list is Harris's, with insertion only at the head, and
 * with RCU instead of hazard pointers.
 *
 * Why it is right
 *  1. A node's memory stays for as long as a reader may hold it. So following the `next` of a
 *     marked node is safe, and no address comes back within a section (no ABA).
 *  2. Only read-modify-writes change the head of a list, and an insert is one with release. So a
 *     thread that reads the head with acquire sees all nodes inserted up to then.
 *  3. A node's `next` leads only to nodes that were inserted before that node. So 2 covers the
 *     whole walk, and no other access to a list needs an order.
 *  4. Marks and removals only decide whether a node is skipped. A CAS and a fetch_or work on the
 *     newest value, whatever their order is.
 */
#include "bus/registry.h"
#include "base/sys.h"

#include <errno.h>

/* The directory, and behind it the lists by ids, those of members, and those of channels. */
#define LISTS_BYTES ((REGISTRY_LISTS + REGISTRY_CONTAINER_LISTS) * sizeof(registry_list))

_Static_assert(REGISTRY_LISTS % REGISTRY_REGION == 0, "regions end where the lists do");
_Static_assert(REGISTRY_MEMBER_LISTS % REGISTRY_REGION == 0, "members fill whole regions");

int registry_init(struct registry *registry, struct memory *memory)
{
    *registry = (struct registry){0};
    registry->directory = memory_map(memory, LISTS_BYTES, CACHE_LINE);
    if (!registry->directory)
        return -ENOMEM;
    if (!memory->own_allocator) /* mmap's pages are zero, and stay untouched */
        memset((void *)registry->directory, 0, LISTS_BYTES);
    registry->ids = registry->directory + REGISTRY_BUCKETS;
    registry->members = registry->ids + REGISTRY_ID_BUCKETS;
    registry->channels = registry->members + REGISTRY_MEMBER_LISTS;
    sys_random(&registry->key, sizeof registry->key);
    return 0;
}

void registry_destroy(struct registry *registry, struct memory *memory)
{
    memory_unmap(memory, (void *)registry->directory, LISTS_BYTES);
}

registry_list *registry_members(struct registry *registry, const void *subscription)
{
    /* Blocks lie two lines apart. Neighbours have neighbouring lists, which share cache lines; what
     * lies further away has a region of its own. The factor is 2^64 divided by the golden ratio. */
    size_t block = (uintptr_t)subscription / (2 * CACHE_LINE);
    uint64_t mixed = block / REGISTRY_REGION * 0x9e3779b97f4a7c15u;
    size_t region = (mixed >> 32) % (REGISTRY_MEMBER_LISTS / REGISTRY_REGION);
    return &registry->members[region * REGISTRY_REGION + block % REGISTRY_REGION];
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
        return &registry->ids[hash % REGISTRY_ID_BUCKETS];
    }
}

void registry_announce(struct registry *registry, enum exitbus_topic_kind kind)
{
    _Atomic bool *announced = kind == EXITBUS_TOPIC_PID         ? &registry->pids
                              : kind == EXITBUS_TOPIC_CONTAINER ? &registry->containers
                              : kind == EXITBUS_TOPIC_EXEC      ? &registry->execs
                                                                : NULL;
    /* Acquire and release, with each other: another subscriber may have set the flag. A publisher
     * that must see it acquires it through the order word, like the node itself. */
    if (announced && !load_acquire(announced))
        store_release(announced, true);
}

void registry_use(struct registry *registry, const registry_list *list)
{
    if (list < registry->directory || list >= registry->directory + REGISTRY_LISTS)
        return; /* of a broad topic */
    _Atomic bool *used = &registry->used[(size_t)(list - registry->directory) / REGISTRY_REGION];
    /* Relaxed: what walks over all, and must see a node, is behind a fence of the subscriber's. */
    if (!load_relaxed(used))
        store_relaxed(used, true);
}

void registry_insert(registry_list *list, struct registry_node *node)
{
    uintptr_t first = load_relaxed(list);
    do
        store_relaxed(&node->next, first);
    /* Release; pairs with registry_first(), for everything in the node. */
    while (!cas_weak_release(list, &first, (uintptr_t)node));
}

bool registry_insert_at(registry_list *list, struct registry_node *node, uintptr_t head)
{
    store_relaxed(&node->next, head);
    /* Release; pairs with registry_first(), as in registry_insert(). */
    return cas_release(list, &head, (uintptr_t)node);
}

bool registry_mark(struct registry_node *node)
{
    /* From here on walkers skip the node, and its `next` does not change any more. */
    bool first = !(fetch_or_relaxed(&node->next, REGISTRY_MARK) & REGISTRY_MARK);
    probe(PROBE_REGISTRY_MARKED);
    return first;
}

/* From the head to the end. Starts over if a link changes meanwhile. */
void registry_unlink_marked(registry_list *list)
{
again:;
    _Atomic uintptr_t *link = list;
    /* Acquire; pairs with registry_insert(). */
    uintptr_t here = load_acquire(link);
    while (here) {
        struct registry_node *node = (struct registry_node *)here;
        uintptr_t next = load_relaxed(&node->next);
        if (next & REGISTRY_MARK) {
            probe(PROBE_REGISTRY_UNLINKING);
            /* Fails if the node before was marked, or if this link was changed meanwhile. */
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
    bool first = registry_mark(node);
    registry_unlink_marked(list);
    return first;
}

static void visit_lists(const registry_list *lists, size_t count,
                        void (*visit)(struct registry_node *node, void *context), void *context)
{
    for (size_t i = 0; i < count; i++)
        for (struct registry_node *node = registry_first(&lists[i]); node;
             node = registry_next(node))
            visit(node, context);
}

void registry_visit(const struct registry *registry,
                    void (*visit)(struct registry_node *node, void *context), void *context)
{
    visit_lists(&registry->all, 1, visit, context);
    visit_lists(&registry->any_pid, 1, visit, context);
    visit_lists(&registry->any_exec, 1, visit, context);
    for (size_t i = 0; i < REGISTRY_REGIONS; i++)
        if (load_relaxed(&registry->used[i]))
            visit_lists(registry->directory + i * REGISTRY_REGION, REGISTRY_REGION, visit, context);
}
