/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Topics: see topic.h. Also their public constructors. */
#include "event/topic.h"

#include <errno.h>

int topic_check(const struct exitbus_topic *topic, bool *has_ids)
{
    *has_ids = false;
    switch (topic->kind) {
    case EXITBUS_TOPIC_ALL:
    case EXITBUS_TOPIC_ANY_PID:
    case EXITBUS_TOPIC_ANY_EXEC:
        return 0;
    case EXITBUS_TOPIC_PID:
        return topic->pid > 0 ? 0 : -EINVAL;
    case EXITBUS_TOPIC_CONTAINER:
        *has_ids = true;
        return event_id_size(topic->container_id) > 0 ? 0 : -EINVAL;
    case EXITBUS_TOPIC_EXEC:
        *has_ids = true;
        if (event_id_size(topic->container_id) <= 0 || event_id_size(topic->exec_id) < 0)
            return -EINVAL;
        return 0;
    default:
        return -EINVAL;
    }
}

/* FNV-1a; then a finaliser, because the low bits choose the bucket. */
static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001b3ULL;
    return hash;
}

static uint64_t hash_finish(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0x9e3779b97f4a7c15ULL;
    return hash ^ (hash >> 29);
}

uint64_t topic_hash_container(const char *container_id, size_t size)
{
    return hash_finish(hash_bytes(0xcbf29ce484222325ULL, container_id, size));
}

uint64_t topic_hash_exec(uint64_t container_hash, const char *exec_id, size_t size)
{
    /* The complement keeps ("c", "") apart from the container "c" itself. */
    return hash_finish(hash_bytes(~container_hash, exec_id, size));
}

void topic_copy_ids(const struct exitbus_topic *topic, struct topic_ids *ids)
{
    size_t container_size = strlen(topic->container_id);
    memcpy(ids->bytes, topic->container_id, container_size);
    ids->container_id_size = (uint8_t)container_size;
    ids->exec_id_size = 0;
    ids->hash = topic_hash_container(topic->container_id, container_size);
    if (topic->kind == EXITBUS_TOPIC_EXEC) {
        size_t exec_size = strlen(topic->exec_id);
        memcpy(ids->bytes + container_size, topic->exec_id, exec_size);
        ids->exec_id_size = (uint8_t)exec_size;
        ids->hash = topic_hash_exec(ids->hash, topic->exec_id, exec_size);
    }
}

struct exitbus_topic exitbus_topic_all(void)
{
    return (struct exitbus_topic){.kind = EXITBUS_TOPIC_ALL};
}

struct exitbus_topic exitbus_topic_any_pid(void)
{
    return (struct exitbus_topic){.kind = EXITBUS_TOPIC_ANY_PID};
}

struct exitbus_topic exitbus_topic_pid(pid_t pid)
{
    return (struct exitbus_topic){.kind = EXITBUS_TOPIC_PID, .pid = pid};
}

struct exitbus_topic exitbus_topic_any_exec(void)
{
    return (struct exitbus_topic){.kind = EXITBUS_TOPIC_ANY_EXEC};
}

struct exitbus_topic exitbus_topic_container(const char *container_id)
{
    return (struct exitbus_topic){.kind = EXITBUS_TOPIC_CONTAINER, .container_id = container_id};
}

struct exitbus_topic exitbus_topic_exec(const char *container_id, const char *exec_id)
{
    return (struct exitbus_topic){
        .kind = EXITBUS_TOPIC_EXEC, .container_id = container_id, .exec_id = exec_id};
}
