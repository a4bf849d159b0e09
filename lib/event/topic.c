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

/* ------------------------------------------------------------------------------------ SipHash */

static inline uint64_t rotate(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

/*
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"). A host whose ids come
 * from others must not let them choose ids that share a bucket.
 */
static uint64_t sip_hash(uint64_t k0, uint64_t k1, const char *bytes, size_t size)
{
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
                     k1 ^ 0x7465646279746573};
    uint64_t last = (uint64_t)size << 56;
    for (; size >= sizeof last; bytes += sizeof last, size -= sizeof last) {
        uint64_t word; /* in the machine's byte order: the hash never leaves the process */
        memcpy(&word, bytes, sizeof word);
        sip_word(v, word);
    }
    for (size_t i = 0; i < size; i++)
        last |= (uint64_t)(uint8_t)bytes[i] << 8 * i;
    sip_word(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t topic_hash_container(const struct topic_key *key, const char *container_id, size_t size)
{
    return sip_hash(key->words[0], key->words[1], container_id, size);
}

uint64_t topic_hash_exec(const struct topic_key *key, uint64_t container_hash, const char *exec_id,
                         size_t size)
{
    /* The complement keeps ("c", "") apart from the container "c" itself. */
    return sip_hash(key->words[0], key->words[1] ^ ~container_hash, exec_id, size);
}

/* --------------------------------------------------------------------------------------- topics */

void topic_copy_ids(const struct exitbus_topic *topic, const struct topic_key *key,
                    struct topic_ids *ids)
{
    size_t container_size = strlen(topic->container_id);
    memcpy(ids->bytes, topic->container_id, container_size);
    ids->container_id_size = (uint8_t)container_size;
    ids->exec_id_size = 0;
    ids->hash = topic_hash_container(key, topic->container_id, container_size);
    if (topic->kind == EXITBUS_TOPIC_EXEC) {
        size_t exec_size = strlen(topic->exec_id);
        memcpy(ids->bytes + container_size, topic->exec_id, exec_size);
        ids->exec_id_size = (uint8_t)exec_size;
        ids->hash = topic_hash_exec(key, ids->hash, topic->exec_id, exec_size);
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
