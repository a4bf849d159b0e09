/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subject: exitbus itself, with everything it promises. The numbers of containers and execs stand
 * for ids of all lengths, so that events of all widths go through the queues.
 */
#include "../subject.h"

#include <errno.h>
#include <exitbus/exitbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64
#define IDS 4

/* Suffixes of one text: the first container has the longest id there is, the last exec is "". */
static const char id_text[EXITBUS_ID_MAX + 1] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba987654321";
static const size_t container_sizes[IDS] = {EXITBUS_ID_MAX, 64, 12, 1};
static const size_t exec_sizes[IDS] = {EXITBUS_ID_MAX, 40, 7, 0};

/* Of tasks: "task-0" …, and of their execs: "", "exec-1" … Made before the first use. */
#define TASK_PREFIX "task-"
#define EXEC_PREFIX "exec-"
static char task_ids[SUBJECT_TASKS][8], task_exec_ids[SUBJECT_TASK_EXECS + 1][8];
#define GROUP_NAME "group"

static void make_task_ids(void)
{
    for (unsigned i = 0; i < SUBJECT_TASKS; i++)
        snprintf(task_ids[i], sizeof task_ids[i], TASK_PREFIX "%u", i);
    for (unsigned i = 1; i <= SUBJECT_TASK_EXECS; i++)
        snprintf(task_exec_ids[i], sizeof task_exec_ids[i], EXEC_PREFIX "%u", i);
}

static const char *container_id(unsigned number)
{
    if (number >= SUBJECT_TASK)
        return task_ids[(number - SUBJECT_TASK) % SUBJECT_TASKS];
    return id_text + EXITBUS_ID_MAX - container_sizes[number % IDS];
}

static const char *exec_id(unsigned number)
{
    return id_text + EXITBUS_ID_MAX - exec_sizes[number % IDS];
}

struct bus {
    struct exitbus *bus;
    struct exitbus_reaper *reaper;
    const struct subject_host *host;
};

static void *host_allocate(void *context, size_t size, size_t alignment)
{
    return ((const struct subject_host *)context)->allocate(size, alignment);
}

static void host_release(void *context, void *memory, size_t size)
{
    ((const struct subject_host *)context)->release(memory, size);
}

static struct bus the_bus; /* there is one at a time */

static int create(const struct subject_host *host, void **bus)
{
    struct exitbus_allocator allocator = {host_allocate, host_release, (void *)(uintptr_t)host};
    struct exitbus_options options = {.allocator = &allocator};
    the_bus = (struct bus){.host = host};
    make_task_ids();
    *bus = &the_bus;
    return exitbus_create(&the_bus.bus, &options);
}

static int destroy(void *bus)
{
    return exitbus_destroy(((struct bus *)bus)->bus);
}

/* ------------------------------------------------------------------------------------ events */

static void to_exitbus(const struct subject_event *from, struct exitbus_event *to)
{
    to->seq = 0;
    to->pid = from->pid;
    to->kind = from->kind;
    to->flags = 0;
    to->status = from->status;
    to->exit_code = (int32_t)from->producer;
    to->monotonic_ns = from->collected_ns;
    to->realtime_ns = from->begin_ns;
    to->user_us = from->number;
    to->system_us = from->pattern;
    to->max_rss_kib = from->checksum;
    to->container_id[0] = to->exec_id[0] = '\0';
    if (from->kind == SUBJECT_EVENT_EXEC) {
        strcpy(to->container_id, container_id(from->container));
        strcpy(to->exec_id, exec_id(from->exec));
    }
}

static uint8_t number_of(const char *id, const char *(*id_of)(unsigned))
{
    for (unsigned i = 0; i < IDS; i++)
        if (strcmp(id, id_of(i)) == 0)
            return (uint8_t)i;
    return UINT8_MAX; /* garbled: the checksum will not match */
}

static void names_from_exitbus(const struct exitbus_event *from, struct subject_event *to)
{
    bool of_a_task = strncmp(from->container_id, TASK_PREFIX, strlen(TASK_PREFIX)) == 0;
    if (from->kind == EXITBUS_EVENT_PID || from->kind == EXITBUS_EVENT_EMPTY)
        return;
    if (of_a_task) {
        const char *number = from->container_id + strlen(TASK_PREFIX);
        to->container = (uint8_t)(SUBJECT_TASK + atoi(number));
        to->exec = from->exec_id[0] ? (uint8_t)atoi(from->exec_id + strlen(EXEC_PREFIX)) : 0;
    } else {
        to->container = number_of(from->container_id, container_id);
        to->exec = number_of(from->exec_id, exec_id);
    }
}

static void from_exitbus(const struct exitbus_event *from, struct subject_event *to)
{
    *to = (struct subject_event){.seq = from->seq,
                                 .pid = from->pid,
                                 .kind = from->kind,
                                 .reserved = from->flags,
                                 .status = from->status,
                                 .producer = (uint32_t)from->exit_code,
                                 .number = from->user_us,
                                 .begin_ns = from->realtime_ns,
                                 .collected_ns = from->monotonic_ns,
                                 .pattern = from->system_us,
                                 .checksum = from->max_rss_kib};
    names_from_exitbus(from, to);
}

/* ------------------------------------------------------------------------------------- calls */

static int publish(void *bus, const struct subject_event *events, size_t count, uint64_t *first_seq)
{
    struct exitbus *exitbus = ((struct bus *)bus)->bus;
    struct exitbus_event buffer[BATCH];
    for (size_t i = 0; i < count; i++)
        to_exitbus(&events[i], &buffer[i]);
    return count == 1 ? exitbus_publish(exitbus, buffer, first_seq)
                      : exitbus_publish_batch(exitbus, buffer, count, first_seq);
}

static int subscribe(void *bus, const struct subject_topic *topic, uint32_t flags,
                     void **subscription)
{
    struct exitbus_topic exitbus_topic = {.kind = (enum exitbus_topic_kind)topic->kind,
                                          .pid = topic->pid,
                                          .container_id = container_id(topic->container),
                                          .exec_id = exec_id(topic->exec)};
    return exitbus_subscribe(((struct bus *)bus)->bus, exitbus_topic,
                             flags & SUBJECT_FLAG_ONE_SHOT ? EXITBUS_SUBSCRIBE_ONE_SHOT : 0,
                             (struct exitbus_subscription **)subscription);
}

static int unsubscribe(void *subscription)
{
    return exitbus_unsubscribe(subscription);
}

static ssize_t receive(void *subscription, struct subject_event *events, size_t capacity,
                       int64_t timeout_ns)
{
    struct exitbus_event buffer[BATCH];
    if (capacity > BATCH)
        capacity = BATCH;
    ssize_t count = exitbus_receive_batch(subscription, buffer, capacity, timeout_ns);
    for (ssize_t i = 0; i < count; i++)
        from_exitbus(&buffer[i], &events[i]);
    return count;
}

static int ref(void *subscription)
{
    return exitbus_subscription_ref(subscription);
}

static int unref(void *subscription)
{
    return exitbus_subscription_unref(subscription);
}

static int fd(void *subscription)
{
    return exitbus_subscription_fd(subscription);
}

static ssize_t pending(void *subscription)
{
    return exitbus_subscription_pending(subscription);
}

static int reaper_start(void *bus)
{
    struct bus *b = bus;
    struct exitbus_reaper_options all = {.mode = EXITBUS_REAPER_ALL,
                                         .flags = EXITBUS_REAPER_SUBREAPER};
    int result = exitbus_reaper_start(b->bus, &all, &b->reaper);
    if (result == -EINVAL) { /* qemu's user mode has no subreapers */
        all.flags = 0;
        result = exitbus_reaper_start(b->bus, &all, &b->reaper);
    }
    return result;
}

static int reaper_stop(void *bus)
{
    return exitbus_reaper_stop(((struct bus *)bus)->reaper);
}

static int spawn(void *bus, char *const argv[], pid_t *pid, void **subscription)
{
    struct exitbus_spawn_options options = {.argv = argv};
    return exitbus_spawn(((struct bus *)bus)->bus, &options, pid,
                         (struct exitbus_subscription **)subscription);
}

/* ----------------------------------------------------------------- tasks, handles and groups */

static int task_create(void *bus, uint8_t container, void **task)
{
    return exitbus_task_create(((struct bus *)bus)->bus, container_id(container), NULL,
                               (struct exitbus_task **)task);
}

static int task_release(void *task)
{
    return exitbus_task_unref(task);
}

static int exec_reserve(void *task, uint8_t exec, void **handle)
{
    return exitbus_exec_reserve(task, task_exec_ids[exec], (struct exitbus_exec **)handle);
}

static int exec_started(void *handle, pid_t pid)
{
    return exitbus_exec_started(handle, pid, -1);
}

static int exec_cancel(void *handle)
{
    return exitbus_exec_cancel(handle);
}

static int exec_wait(void *handle, int *status, int64_t timeout_ns)
{
    struct exitbus_event event;
    int result = exitbus_exec_wait(handle, &event, timeout_ns);
    if (result == 0)
        *status = event.status;
    return result;
}

static int exec_release(void *handle)
{
    return exitbus_exec_unref(handle);
}

static int process_adopt(void *bus, pid_t pid, void **process)
{
    return exitbus_process_adopt(((struct bus *)bus)->bus, pid, 0,
                                 (struct exitbus_process **)process);
}

static int process_signal(void *process, int signal)
{
    return exitbus_process_signal(process, signal, 0);
}

static int process_wait(void *process, int *status, int64_t timeout_ns)
{
    struct exitbus_event event;
    int result = exitbus_process_wait(process, &event, timeout_ns);
    if (result == 0)
        *status = event.status;
    return result;
}

static int process_release(void *process)
{
    return exitbus_process_unref(process);
}

static int group_create(void *bus, void **group)
{
    struct exitbus_group_options set = {.kind = EXITBUS_GROUP_SET, .name = GROUP_NAME};
    return exitbus_group_create(((struct bus *)bus)->bus, &set, (struct exitbus_group **)group);
}

static int group_add(void *group, void *process)
{
    return exitbus_group_add(group, process);
}

static int group_end(void *group, int signal, int64_t grace_ns)
{
    return exitbus_group_end(group, signal, grace_ns);
}

static int group_wait(void *group, int64_t timeout_ns)
{
    struct exitbus_event event;
    return exitbus_group_wait(group, &event, timeout_ns);
}

static int group_release(void *group)
{
    return exitbus_group_unref(group);
}

static int stats(void *bus, struct subject_stats *stats_)
{
    struct exitbus_stats s;
    int result = exitbus_stats(((struct bus *)bus)->bus, &s);
    if (result == 0)
        *stats_ = (struct subject_stats){
            .subscriptions = s.subscriptions, .helped = s.helped, .bytes = s.bytes};
    return result;
}

/* ----------------------------------------------------------------------- wrong and forked use */

static int check(long result, long wanted, const char *what, const char **complaint)
{
    *complaint = what;
    return result == wanted;
}

static int misuse(void *bus_, unsigned number, const char **complaint)
{
    struct exitbus *bus = ((struct bus *)bus_)->bus;
    struct exitbus_subscription *none = NULL;
    struct exitbus_event event;
    struct exitbus_reaper *reaper;
    struct exitbus_reaper_options all = {.mode = EXITBUS_REAPER_ALL};
    struct exitbus_spawn_options nothing = {0};
    char long_id[EXITBUS_ID_MAX + 2];
    pid_t pid;
    memset(long_id, 'x', sizeof long_id);
    long_id[EXITBUS_ID_MAX + 1] = '\0';
    switch (number) {
    case 0:
        return check(exitbus_publish(bus, NULL, NULL), -EINVAL, "publish of NULL", complaint);
    case 1:
        return check(exitbus_publish_pid(bus, 0, 0), -EINVAL, "publish of pid 0", complaint);
    case 2:
        return check(exitbus_publish_exec(bus, long_id, "e", 0), -EINVAL, "a long container id",
                     complaint);
    case 3:
        return check(exitbus_publish_exec(bus, "c", long_id, 0), -EINVAL, "a long exec id",
                     complaint);
    case 4:
        return check(exitbus_publish_exec(bus, "c", NULL, 0), -EINVAL, "a NULL exec id", complaint);
    case 5:
        return check(exitbus_publish_wait(bus, 1, 0x137f, NULL), -EINVAL, "a stopped child",
                     complaint);
    case 6:
        return check(exitbus_subscribe(bus, exitbus_topic_pid(-1), 0, &none), -EINVAL,
                     "a topic of pid -1", complaint) &&
               !none;
    case 7:
        return check(exitbus_subscribe(bus, exitbus_topic_all(), 0x80, &none), -EINVAL,
                     "an unknown flag", complaint) &&
               !none;
    case 8:
        return check(exitbus_receive(NULL, &event, 0), -EINVAL, "receive on NULL", complaint);
    case 9:
        return check(exitbus_unsubscribe(NULL), 0, "unsubscribe of NULL", complaint);
    case 10:
        return !the_bus.reaper || check(exitbus_reaper_start(bus, &all, &reaper), -EBUSY,
                                        "a second ALL reaper", complaint);
    case 11:
        return check(exitbus_spawn(bus, &nothing, &pid, &none), -EINVAL, "a spawn of nothing",
                     complaint) &&
               !none;
    default:
        return -ENOENT;
    }
}

static int forked(void *bus_, void *subscription)
{
    struct exitbus *bus = ((struct bus *)bus_)->bus;
    struct exitbus_event event;
    struct exitbus_stats s;
    struct exitbus_subscription *other;
    return exitbus_publish_pid(bus, 1, 0) == -ESTALE &&
           exitbus_receive(subscription, &event, -1) == -ESTALE &&
           exitbus_subscribe(bus, exitbus_topic_all(), 0, &other) == -ESTALE &&
           exitbus_stats(bus, &s) == -ESTALE && exitbus_unsubscribe(subscription) == -ESTALE;
}

#ifdef EXITBUS_TEST_HOOKS
#include "base/compiler.h"
#include "base/probe.h"

static void (*step_function)(unsigned);

static void step(enum probe where)
{
    step_function((unsigned)where);
}

static void set_step(void (*function)(unsigned))
{
    step_function = function;
    __atomic_store_n(&exitbus_probe_hook, function ? step : NULL, __ATOMIC_RELEASE);
}
#define SET_STEP set_step
#else
#define SET_STEP NULL
#endif

const struct subject exitbus_stress_subject = {
    SUBJECT_HEAD("exitbus", "this library: lock-free, one total order, helping"),
    .claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER | SUBJECT_G3 | SUBJECT_G4 | SUBJECT_G5 | SUBJECT_G6 |
              SUBJECT_G7 | SUBJECT_G8 | SUBJECT_G9 | SUBJECT_REST | SUBJECT_LOOPS | SUBJECT_G10 |
              SUBJECT_G11 | SUBJECT_G12 | SUBJECT_G14,
    .features = SUBJECT_WAITS | SUBJECT_SHARED | SUBJECT_ONE_SHOT,
    .topics = SUBJECT_TOPICS_ALL,
    .batch_max = EXITBUS_BATCH_MAX,
    .create = create,
    .destroy = destroy,
    .publish = publish,
    .subscribe = subscribe,
    .unsubscribe = unsubscribe,
    .receive = receive,
    .ref = ref,
    .unref = unref,
    .fd = fd,
    .pending = pending,
    .reaper_start = reaper_start,
    .reaper_stop = reaper_stop,
    .spawn = spawn,
    .stats = stats,
    .misuse = misuse,
    .forked = forked,
    .set_step = SET_STEP,
    .task_create = task_create,
    .task_release = task_release,
    .exec_reserve = exec_reserve,
    .exec_started = exec_started,
    .exec_cancel = exec_cancel,
    .exec_wait = exec_wait,
    .exec_release = exec_release,
    .process_adopt = process_adopt,
    .process_signal = process_signal,
    .process_wait = process_wait,
    .process_release = process_release,
    .group_create = group_create,
    .group_add = group_add,
    .group_end = group_end,
    .group_wait = group_wait,
    .group_release = group_release,
};
