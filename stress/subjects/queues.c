/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subjects `ck_fifo` and `glib`: a fast queue for each subscription, and a list of them under a
 * readers' lock. Publishers hand their event to one queue after the other, each in its own time:
 * nothing gives two of them one order everywhere. That is what helping buys.
 *
 * ck_fifo_mpmc leaves it to its user when a taken entry may be freed: liburcu's grace periods.
 */
#define URCU_API_MAP
#include <urcu-bp.h>

#include "subjects.h"

#include <ck_fifo.h>
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>

struct queues;

struct queue {
    struct queues *bus;
    struct queue *next, *previous; /* under the bus's lock */
    struct subject_topic topic;
    _Atomic unsigned references;
    _Atomic bool closed;
    ck_fifo_mpmc_t fifo;
    GAsyncQueue *queue; /* glib: in place of fifo */
};

struct entry {
    struct subject_event event;
    ck_fifo_mpmc_entry_t link;
    struct rcu_head rcu; /* of the link that the entry carried, once it is garbage */
};

struct queues {
    pthread_rwlock_t lock;
    struct queue *first;
    uint64_t subscriptions;
    bool glib;
};

static struct entry *entry_of(ck_fifo_mpmc_entry_t *link)
{
    return (struct entry *)(void *)((char *)link - offsetof(struct entry, link));
}

static void entry_free(struct rcu_head *rcu)
{
    free((char *)rcu - offsetof(struct entry, rcu));
}

static int create(bool glib, void **bus)
{
    struct queues *queues = calloc(1, sizeof *queues);
    if (!queues)
        return -ENOMEM;
    pthread_rwlockattr_t writers_first; /* or publishers would keep subscribers out for ever */
    pthread_rwlockattr_init(&writers_first);
    pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&queues->lock, &writers_first);
    pthread_rwlockattr_destroy(&writers_first);
    queues->glib = glib;
    *bus = queues;
    return 0;
}

static int create_ck_fifo(const struct subject_host *host, void **bus)
{
    (void)host;
    return create(false, bus);
}

static int create_glib(const struct subject_host *host, void **bus)
{
    (void)host;
    return create(true, bus);
}

static int destroy(void *bus)
{
    rcu_barrier();
    pthread_rwlock_destroy(&((struct queues *)bus)->lock);
    free(bus);
    return 0;
}

static int hand_over(struct queue *queue, const struct subject_event *event)
{
    struct entry *entry = malloc(sizeof *entry);
    if (!entry)
        return -ENOMEM;
    entry->event = *event;
    if (queue->bus->glib) {
        g_async_queue_push(queue->queue, entry);
    } else {
        rcu_read_lock();
        ck_fifo_mpmc_enqueue(&queue->fifo, &entry->link, entry);
        rcu_read_unlock();
    }
    return 0;
}

static int publish(void *bus, const struct subject_event *events, size_t count, uint64_t *first_seq)
{
    struct queues *queues = bus;
    int result = 0;
    *first_seq = 0;
    pthread_rwlock_rdlock(&queues->lock);
    for (struct queue *queue = queues->first; queue; queue = queue->next)
        for (size_t i = 0; i < count && result == 0; i++)
            if (subject_matches(&queue->topic, &events[i]))
                result = hand_over(queue, &events[i]);
    pthread_rwlock_unlock(&queues->lock);
    return result;
}

static int subscribe(void *bus, const struct subject_topic *topic, uint32_t flags,
                     void **subscription)
{
    (void)flags;
    struct queues *queues = bus;
    struct queue *queue = calloc(1, sizeof *queue);
    struct entry *stub = queues->glib ? NULL : malloc(sizeof *stub);
    if (!queue || (!queues->glib && !stub)) {
        free(queue);
        free(stub);
        return -ENOMEM;
    }
    queue->bus = queues;
    queue->topic = *topic;
    queue->references = 1;
    if (queues->glib)
        queue->queue = g_async_queue_new_full(free);
    else
        ck_fifo_mpmc_init(&queue->fifo, &stub->link);
    pthread_rwlock_wrlock(&queues->lock);
    queue->next = queues->first;
    if (queue->next)
        queue->next->previous = queue;
    queues->first = queue;
    queues->subscriptions++;
    pthread_rwlock_unlock(&queues->lock);
    *subscription = queue;
    return 0;
}

/* ----------------------------------------------------------------------------------- receive */

static bool take_ck_fifo(struct queue *queue, struct subject_event *event)
{
    struct entry *entry;
    ck_fifo_mpmc_entry_t *garbage;
    rcu_read_lock();
    bool got = ck_fifo_mpmc_dequeue(&queue->fifo, &entry, &garbage);
    if (got) {
        *event = entry->event;
        call_rcu(&entry_of(garbage)->rcu, entry_free); /* the entry itself is the new stub */
    }
    rcu_read_unlock();
    return got;
}

static bool take_glib(struct queue *queue, struct subject_event *event, int64_t timeout_ns)
{
    struct entry *entry =
        timeout_ns == 0 ? g_async_queue_try_pop(queue->queue)
                        : g_async_queue_timeout_pop(queue->queue, (guint64)(timeout_ns / 1000));
    if (!entry)
        return false;
    *event = entry->event;
    free(entry);
    return true;
}

static ssize_t receive(void *subscription, struct subject_event *events, size_t capacity,
                       int64_t timeout_ns)
{
    struct queue *queue = subscription;
    size_t count = 0;
    while (count < capacity && !queue->closed) {
        bool got = queue->bus->glib ? take_glib(queue, &events[count], count == 0 ? timeout_ns : 0)
                                    : take_ck_fifo(queue, &events[count]);
        if (!got)
            break;
        count++;
    }
    if (count > 0)
        return (ssize_t)count;
    return queue->closed ? -ESHUTDOWN : -EAGAIN;
}

static int ref(void *subscription)
{
    ((struct queue *)subscription)->references++;
    return 0;
}

static int unref(void *subscription)
{
    struct queue *queue = subscription;
    if (--queue->references > 0)
        return 0;
    if (queue->bus->glib) {
        g_async_queue_unref(queue->queue);
    } else {
        struct subject_event ignored;
        ck_fifo_mpmc_entry_t *stub;
        while (take_ck_fifo(queue, &ignored))
            continue;
        ck_fifo_mpmc_deinit(&queue->fifo, &stub);
        call_rcu(&entry_of(stub)->rcu, entry_free);
    }
    free(queue);
    return 0;
}

static int unsubscribe(void *subscription)
{
    struct queue *queue = subscription;
    struct queues *queues = queue->bus;
    pthread_rwlock_wrlock(&queues->lock);
    if (queue->previous)
        queue->previous->next = queue->next;
    else
        queues->first = queue->next;
    if (queue->next)
        queue->next->previous = queue->previous;
    queues->subscriptions--;
    pthread_rwlock_unlock(&queues->lock);
    queue->closed = true;
    return unref(queue);
}

static int stats(void *bus, struct subject_stats *result)
{
    struct queues *queues = bus;
    pthread_rwlock_rdlock(&queues->lock);
    *result = (struct subject_stats){.subscriptions = queues->subscriptions};
    pthread_rwlock_unlock(&queues->lock);
    return 0;
}

#define QUEUES_FUNCTIONS                                                                           \
    .topics = SUBJECT_TOPICS_ALL, .batch_max = 1, .destroy = destroy, .publish = publish,          \
    .subscribe = subscribe, .unsubscribe = unsubscribe, .receive = receive, .ref = ref,            \
    .unref = unref, .stats = stats

const struct subject subject_ck_fifo = {
    SUBJECT_HEAD("ck_fifo", "a ck_fifo_mpmc for each subscription, no order between publishers"),
    .claims = SUBJECT_G1 | SUBJECT_PRODUCER_FIFO,
    .features = SUBJECT_SHARED,
    .create = create_ck_fifo,
    QUEUES_FUNCTIONS,
};

const struct subject subject_glib = {
    SUBJECT_HEAD("glib", "a GAsyncQueue for each subscription, no order between publishers"),
    .claims = SUBJECT_G1 | SUBJECT_PRODUCER_FIFO,
    .features = SUBJECT_SHARED,
    .create = create_glib,
    QUEUES_FUNCTIONS,
};
