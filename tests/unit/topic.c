/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Topics: which are valid, how their ids are kept and hashed, and what matches them. */
#include "event/topic.h"
#include "bus/bus.h"
#include "support/events.h"
#include "support/harness.h"

static int checked(struct exitbus_topic topic, bool ids_expected)
{
    bool has_ids = !ids_expected;
    int result = topic_check(&topic, &has_ids);
    if (result == 0)
        check_equal(has_ids, ids_expected);
    return result;
}

TEST(topic, constructors)
{
    check_equal(exitbus_topic_all().kind, EXITBUS_TOPIC_ALL);
    check_equal(exitbus_topic_any_pid().kind, EXITBUS_TOPIC_ANY_PID);
    check_equal(exitbus_topic_any_exec().kind, EXITBUS_TOPIC_ANY_EXEC);
    struct exitbus_topic pid = exitbus_topic_pid(42);
    check(pid.kind == EXITBUS_TOPIC_PID && pid.pid == 42);
    struct exitbus_topic container = exitbus_topic_container("c");
    check(container.kind == EXITBUS_TOPIC_CONTAINER && strcmp(container.container_id, "c") == 0);
    struct exitbus_topic exec = exitbus_topic_exec("c", "e");
    check(exec.kind == EXITBUS_TOPIC_EXEC && strcmp(exec.container_id, "c") == 0);
    check_equal(strcmp(exec.exec_id, "e"), 0);
}

TEST(topic, valid_ones_pass)
{
    check_equal(checked(exitbus_topic_all(), false), 0);
    check_equal(checked(exitbus_topic_any_pid(), false), 0);
    check_equal(checked(exitbus_topic_any_exec(), false), 0);
    check_equal(checked(exitbus_topic_pid(1), false), 0);
    check_equal(checked(exitbus_topic_pid(INT32_MAX), false), 0);
    check_equal(checked(exitbus_topic_container("c"), true), 0);
    check_equal(checked(exitbus_topic_exec("c", ""), true), 0);
    check_equal(checked(exitbus_topic_exec("c", "e"), true), 0);
}

TEST(topic, fields_that_the_kind_does_not_name_are_ignored)
{
    struct exitbus_topic topic = {.pid = -1, .container_id = NULL, .exec_id = NULL};
    topic.kind = EXITBUS_TOPIC_ALL;
    check_equal(checked(topic, false), 0);
    topic.kind = EXITBUS_TOPIC_ANY_PID;
    check_equal(checked(topic, false), 0);
    topic.kind = EXITBUS_TOPIC_ANY_EXEC;
    check_equal(checked(topic, false), 0);
    topic.kind = EXITBUS_TOPIC_CONTAINER;
    topic.container_id = "c";
    check_equal(checked(topic, true), 0);
}

TEST(topic, invalid_ones_are_refused)
{
    char longest[EXITBUS_ID_MAX + 1], too_long[EXITBUS_ID_MAX + 2];
    id_fill(longest, EXITBUS_ID_MAX, 'a');
    id_fill(too_long, EXITBUS_ID_MAX + 1, 'a');
    check_equal(checked(exitbus_topic_pid(0), false), -EINVAL);
    check_equal(checked(exitbus_topic_pid(-1), false), -EINVAL);
    check_equal(checked(exitbus_topic_container(NULL), true), -EINVAL);
    check_equal(checked(exitbus_topic_container(""), true), -EINVAL);
    check_equal(checked(exitbus_topic_container(longest), true), 0);
    check_equal(checked(exitbus_topic_container(too_long), true), -EINVAL);
    check_equal(checked(exitbus_topic_exec(NULL, "e"), true), -EINVAL);
    check_equal(checked(exitbus_topic_exec("", "e"), true), -EINVAL);
    check_equal(checked(exitbus_topic_exec("c", NULL), true), -EINVAL);
    check_equal(checked(exitbus_topic_exec(longest, longest), true), 0);
    check_equal(checked(exitbus_topic_exec(too_long, "e"), true), -EINVAL);
    check_equal(checked(exitbus_topic_exec("c", too_long), true), -EINVAL);
    const int kinds[] = {0, 7, -1, 255};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct exitbus_topic topic = {.kind = (enum exitbus_topic_kind)kinds[i]};
        check_equal(checked(topic, false), -EINVAL);
    }
}

static const struct topic_key key_of_tests = {{0x0706050403020100, 0x0f0e0d0c0b0a0908}};

static struct topic_ids ids_of(struct exitbus_topic topic)
{
    struct topic_ids ids;
    memset(&ids, 0xcc, sizeof ids);
    topic_copy_ids(&topic, &key_of_tests, &ids);
    return ids;
}

TEST(topic, ids_are_copied)
{
    char container[] = "container", exec[] = "exec";
    struct topic_ids ids = ids_of(exitbus_topic_exec(container, exec));
    memset(container, 'x', sizeof container - 1);
    memset(exec, 'x', sizeof exec - 1);
    check_equal(ids.container_id_size, 9);
    check_equal(ids.exec_id_size, 4);
    check_equal(memcmp(ids.bytes, "containerexec", 13), 0);
    ids = ids_of(exitbus_topic_container("container"));
    check_equal(ids.container_id_size, 9);
    check_equal(ids.exec_id_size, 0);
}

TEST(topic, longest_ids_fit)
{
    char container[EXITBUS_ID_MAX + 1], exec[EXITBUS_ID_MAX + 1];
    id_fill(container, EXITBUS_ID_MAX, 'a');
    id_fill(exec, EXITBUS_ID_MAX, 'A');
    struct topic_ids ids = ids_of(exitbus_topic_exec(container, exec));
    check_equal(memcmp(ids.bytes, container, EXITBUS_ID_MAX), 0);
    check_equal(memcmp(ids.bytes + EXITBUS_ID_MAX, exec, EXITBUS_ID_MAX), 0);
}

TEST(topic, hash_of_a_topic_is_the_hash_of_its_events)
{
    uint64_t container = topic_hash_container(&key_of_tests, "container", 9);
    check(ids_of(exitbus_topic_container("container")).hash == container);
    check(ids_of(exitbus_topic_exec("container", "e")).hash ==
          topic_hash_exec(&key_of_tests, container, "e", 1));
    check(ids_of(exitbus_topic_exec("container", "")).hash ==
          topic_hash_exec(&key_of_tests, container, "", 0));
    /* The container's own exit and all of the container are different topics. */
    check(topic_hash_exec(&key_of_tests, container, "", 0) != container);
}

/* Both ways of matching, by the ids alone. */
static unsigned matches(struct exitbus_topic topic, const char *container_id, const char *exec_id)
{
    struct exitbus_event event = exec_event(container_id, exec_id);
    struct record record;
    event_encode(&event, &record);
    struct record_key key = record_key(&record);
    struct topic_ids ids = ids_of(topic);
    return (topic_matches_container(&ids, &key) ? 1u : 0) |
           (topic_matches_exec(&ids, &key) ? 2u : 0);
}

TEST(topic, ids_match_whole)
{
    check_equal(matches(exitbus_topic_exec("con", "exec"), "con", "exec"), 3);
    check_equal(matches(exitbus_topic_exec("con", "exec"), "con", "exe"), 1);
    check_equal(matches(exitbus_topic_exec("con", "exec"), "con", "exec2"), 1);
    check_equal(matches(exitbus_topic_exec("con", "exec"), "con", "Exec"), 1);
    check_equal(matches(exitbus_topic_exec("con", "exec"), "con", ""), 1);
    check_equal(matches(exitbus_topic_exec("con", "exec"), "cone", "xec"), 0);
    check_equal(matches(exitbus_topic_exec("con", "exec"), "co", "nexec"), 0);
    check_equal(matches(exitbus_topic_exec("con", ""), "con", ""), 3);
    check_equal(matches(exitbus_topic_exec("con", ""), "con", "e"), 1);
    check_equal(matches(exitbus_topic_container("con"), "con", "e"), 1);
    check_equal(matches(exitbus_topic_container("con"), "cont", "e"), 0);
    check_equal(matches(exitbus_topic_container("con"), "co", "n"), 0);
    check_equal(matches(exitbus_topic_container("con"), "Con", "e"), 0);
}

/* Ids as container engines make them: 64 hexadecimal digits, of which few may differ. */
TEST(topic, hashes_spread_over_the_directory)
{
    static uint8_t used[REGISTRY_BUCKETS];
    uint8_t most = 0;
    for (unsigned i = 0; i < REGISTRY_BUCKETS / 4; i++) {
        char id[65];
        snprintf(id, sizeof id, "%064x", i);
        uint8_t now = ++used[topic_hash_container(&key_of_tests, id, 64) % REGISTRY_BUCKETS];
        most = now > most ? now : most;
    }
    /* A random function would give 5 to 7. */
    check(most <= 8);
}

static unsigned differing_bits(uint64_t a, uint64_t b)
{
    return (unsigned)__builtin_popcountll(a ^ b);
}

/* Each bit of the key, and of an id, changes about half of the bits. */
TEST(topic, hashes_depend_on_every_bit)
{
    char id[] = "0123456789abcdefghi";
    size_t size = sizeof id - 1;
    uint64_t hash = topic_hash_container(&key_of_tests, id, size);
    for (unsigned bit = 0; bit < 128; bit++) {
        struct topic_key other = key_of_tests;
        other.words[bit / 64] ^= (uint64_t)1 << bit % 64;
        unsigned changed = differing_bits(hash, topic_hash_container(&other, id, size));
        check(changed > 12 && changed < 52);
    }
    for (unsigned bit = 0; bit < 8 * size; bit++) {
        id[bit / 8] = (char)(id[bit / 8] ^ 1 << bit % 8);
        unsigned changed = differing_bits(hash, topic_hash_container(&key_of_tests, id, size));
        check(changed > 12 && changed < 52);
        id[bit / 8] = (char)(id[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t less = 0; less < size; less++) /* zero bytes are not the same as none */
        check(topic_hash_container(&key_of_tests, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", less) !=
              topic_hash_container(&key_of_tests, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                                   less + 1));
}

/* Ids that share a list in one bus do not in another: nobody can choose them beforehand. */
TEST(topic, each_bus_has_a_key)
{
    struct exitbus *first = bus_new(), *second = bus_new();
    check(memcmp(&first->core.registry.key, &second->core.registry.key, sizeof(struct topic_key)) !=
          0);
    struct topic_key none = {{0, 0}};
    check(memcmp(&first->core.registry.key, &none, sizeof none) != 0);
    check_ok(exitbus_destroy(first));
    check_ok(exitbus_destroy(second));
}
