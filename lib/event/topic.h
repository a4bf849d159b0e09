/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a subscription matches, as a key that compares fast. A subscription has a copy of its
 * topic's ids, with their hash, which is computed once.
 */
#ifndef EXITBUS_TOPIC_H
#define EXITBUS_TOPIC_H

#include "event/event.h"

/* The ids of a topic that has some. Constant once they are copied. */
struct topic_ids {
    uint64_t hash;
    uint8_t container_id_size;
    uint8_t exec_id_size;
    char bytes[2 * EXITBUS_ID_MAX]; /* container id, then exec id, without NULs */
};

/* What a bus hashes ids with: random, so that no other process can tell which ids collide. */
struct topic_key {
    uint64_t words[2];
};

/* Check a topic. *has_ids says whether its kind has ids. Returns 0 or -EINVAL. */
int topic_check(const struct exitbus_topic *topic, bool *has_ids);

/* Copy the ids of a topic that has passed topic_check() with ids. */
void topic_copy_ids(const struct exitbus_topic *topic, const struct topic_key *key,
                    struct topic_ids *ids);

/* Return the hash of a container's id, and the hash of one exec in that container. */
uint64_t topic_hash_container(const struct topic_key *key, const char *container_id, size_t size);
uint64_t topic_hash_exec(const struct topic_key *key, uint64_t container_hash, const char *exec_id,
                         size_t size);

static inline bool topic_same_container(const struct topic_ids *ids, const struct topic_ids *other)
{
    return ids->hash == other->hash && ids->container_id_size == other->container_id_size &&
           memcmp(ids->bytes, other->bytes, other->container_id_size) == 0;
}

static inline bool topic_matches_container(const struct topic_ids *ids,
                                           const struct record_key *key)
{
    return ids->container_id_size == key->container_id_size &&
           memcmp(ids->bytes, key->container_id, key->container_id_size) == 0;
}

static inline bool topic_matches_exec(const struct topic_ids *ids, const struct record_key *key)
{
    return topic_matches_container(ids, key) && ids->exec_id_size == key->exec_id_size &&
           memcmp(ids->bytes + ids->container_id_size, key->exec_id, key->exec_id_size) == 0;
}

#endif
