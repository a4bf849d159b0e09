/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A process with limits: no threads, no memory, no membarrier, no MADV_WIPEONFORK; threads in their
 * last destructors; and what the library's own thread is like. Errors where they can be returned,
 * and never an abort or an endless loop. (G8)
 */
#include "base/barrier.h"
#include "memory/reclaim.h"
#include "support/children.h"
#include "support/events.h"
#include "support/harness.h"
#include "support/threads.h"
#include "base/sys.h"

#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define SECOND 1000000000LL

/* Address-space limits and fork with threads are not for sanitizers. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
/* ThreadSanitizer starts no threads in a forked child. */
#if defined(__SANITIZE_THREAD__)
#define STARTS_NO_THREADS 1
#else
#define STARTS_NO_THREADS 0
#endif

/* Run `body` in a forked child, which changes its process for good; its wait status. */
static int in_child(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        body();
        _exit(0);
    }
    must(pid > 0);
    int status;
    must_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Publish, receive, give back: all that needs the worker. */
static void use(struct exitbus *bus)
{
    struct exitbus_event event;
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_pid(5));
    must_equal(exitbus_publish_pid(bus, 5, 3), 0);
    must_equal(exitbus_receive(subscription, &event, SECOND), 0);
    must_equal(event.exit_code, 3);
    must_equal(exitbus_receive(subscription, &event, 1000000), -ETIMEDOUT);
    must_equal(exitbus_unsubscribe(subscription), 0);
}

/* ------------------------------------------------------------------------------------ threads */

static void create_without_threads(void)
{
    struct rlimit limit, none;
    must_equal(getrlimit(RLIMIT_NPROC, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    must_equal(setrlimit(RLIMIT_NPROC, &none), 0);
    if (getuid() == 0) /* for whom there is no such limit */
        must_equal(setuid(65534), 0);
    struct exitbus *bus = NULL;
    for (int i = 0; i < 3; i++)
        must_equal(exitbus_create(&bus, NULL), -EAGAIN);
    must(bus == NULL);
    must(exitbus_default() == NULL && errno == EAGAIN);
    must_equal(exitbus_thread_prepare(), 0);
    must_equal(setrlimit(RLIMIT_NPROC, &limit), 0); /* nothing has changed: it works now */
    must_equal(exitbus_create(&bus, NULL), 0);
    use(bus);
    must_equal(exitbus_destroy(bus), 0);
}

TEST(process_limits, create_without_threads)
{
    if (!STARTS_NO_THREADS)
        check_equal(in_child(create_without_threads), 0);
}

static pid_t worker_thread(void)
{
    char path[64], name[32];
    pid_t found = 0;
    DIR *tasks = opendir("/proc/self/task");
    must(tasks);
    for (struct dirent *entry; !found && (entry = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/self/task/%d/comm", atoi(entry->d_name));
        FILE *file = fopen(path, "r");
        if (file && fgets(name, sizeof name, file) && strcmp(name, "exitbus-reclaim\n") == 0)
            found = atoi(entry->d_name);
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return found;
}

static void *create_while_pinned(void *bus)
{
    static const struct sched_param idle = {0};
    cpu_set_t first;
    must_equal(sched_getaffinity(0, sizeof first, &first), 0);
    for (size_t cpu = 0, kept = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &first) && kept++ > 0)
            CPU_CLR(cpu, &first);
    must_equal(sched_setaffinity(0, sizeof first, &first), 0);
    must_equal(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &idle), 0);
    must_equal(exitbus_create(bus, NULL), 0);
    return NULL;
}

/* The worker takes nothing over from the thread that happens to make the first bus. */
TEST(process_limits, the_worker_is_an_ordinary_thread)
{
    struct exitbus *bus;
    cpu_set_t all, its;
    char path[64], line[128];
    check_ok(sched_getaffinity(getpid(), sizeof all, &all));
    thread_join(thread_start(create_while_pinned, &bus));
    use(bus);
    check_ok(exitbus_destroy(bus)); /* so it runs */
    pid_t worker = worker_thread();
    check(worker > 0);
    check_equal(syscall(SYS_sched_getscheduler, worker), SCHED_OTHER);
    check_ok(sched_getaffinity(worker, sizeof its, &its));
    check(CPU_EQUAL(&all, &its));
    snprintf(path, sizeof path, "/proc/self/task/%d/status", worker);
    FILE *status = fopen(path, "r");
    check(status);
    unsigned long long blocked = 0;
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
            break;
    fclose(status);
    check(blocked >> (SIGCHLD - 1) & 1 && blocked >> (SIGTERM - 1) & 1);
}

/* ------------------------------------------------------------------------------------- worker */

static _Atomic int naps;
static _Atomic pid_t napper;

static int count_naps(long number)
{
    if (number == SYS_ppoll && gettid() == atomic_load(&napper))
        atomic_fetch_add(&naps, 1);
    return 0;
}

static struct reclaim_head heads[1000];
static _Atomic unsigned called;

static void expect_next(struct rcu_head *rcu)
{
    struct reclaim_head *head = reclaim_callback_begin(rcu);
    must(head == &heads[atomic_fetch_add(&called, 1)]);
}

TEST(process_limits, callbacks_come_in_order_after_the_sections)
{
    check_ok(reclaim_init());
    reclaim_wait();
    atomic_store(&napper, worker_thread());
    __atomic_store_n(&exitbus_test_syscall, count_naps, __ATOMIC_RELEASE);
    reclaim_enter();
    for (size_t i = 0; i < 1000; i++)
        reclaim_defer(&heads[i], expect_next);
    await(atomic_load(&naps) >= 3 || atomic_load(&called) > 0); /* it waits for this section */
    check_equal(atomic_load(&called), 0);
    reclaim_leave();
    reclaim_wait();
    check_equal(atomic_load(&called), 1000);
    __atomic_store_n(&exitbus_test_syscall, NULL, __ATOMIC_RELEASE);
}

static void *create_soon(void *go)
{
    struct exitbus *bus;
    await(atomic_load((_Atomic bool *)go));
    must_equal(exitbus_create(&bus, NULL), 0);
    use(bus);
    must_equal(exitbus_destroy(bus), 0);
    return NULL;
}

static void *prepare_soon(void *go)
{
    await(atomic_load((_Atomic bool *)go));
    for (int i = 0; i < 100; i++)
        must_equal(exitbus_thread_prepare(), 0);
    return NULL;
}

TEST(process_limits, create_races_prepare)
{
    static _Atomic bool go;
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = thread_start(i % 2 ? create_soon : prepare_soon, &go);
    atomic_store(&go, true);
    for (int i = 0; i < 8; i++)
        thread_join(threads[i]);
}

/* ------------------------------------------------------------------------------------- memory */

enum { CROWD = 200 };

static struct exitbus *crowd_bus;
static pthread_barrier_t crowd_ready, crowd_go, crowd_end;
static _Atomic unsigned published, refused;

static void *first_call_without_memory(void *number)
{
    pthread_barrier_wait(&crowd_ready);
    pthread_barrier_wait(&crowd_go);
    uintptr_t n = (uintptr_t)number;
    int result = n % 2 ? exitbus_thread_prepare() : 0;
    must(result == 0 || result == -ENOMEM);
    result = exitbus_publish_pid(crowd_bus, 5, 0);
    must(result == 0 || result == -ENOMEM || result == -EAGAIN);
    atomic_fetch_add(result == 0 ? &published : &refused, 1);
    pthread_barrier_wait(&crowd_ready);
    pthread_barrier_wait(&crowd_end);
    must_equal(exitbus_thread_prepare(), 0); /* there is memory again */
    must_equal(exitbus_publish_pid(crowd_bus, 6, 0), 0);
    return NULL;
}

static bool memory_can_be_had(void)
{
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return false;
    munmap(page, 4096);
    return true;
}

static void prepare_without_memory(void)
{
    pthread_t threads[CROWD];
    pthread_attr_t attributes;
    struct exitbus_event event;
    struct rlimit limit, none;
    must_equal(exitbus_create(&crowd_bus, NULL), 0);
    struct exitbus_subscription *early = subscribe(crowd_bus, exitbus_topic_pid(5));
    struct exitbus_subscription *late = subscribe(crowd_bus, exitbus_topic_pid(6));
    pthread_barrier_init(&crowd_ready, NULL, CROWD + 1);
    pthread_barrier_init(&crowd_go, NULL, CROWD + 1);
    pthread_barrier_init(&crowd_end, NULL, CROWD + 1);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    for (uintptr_t i = 0; i < CROWD; i++)
        must_equal(pthread_create(&threads[i], &attributes, first_call_without_memory, (void *)i),
                   0);
    pthread_barrier_wait(&crowd_ready);
    must_equal(getrlimit(RLIMIT_AS, &limit), 0);
    none = limit;
    none.rlim_cur = 1;
    must_equal(setrlimit(RLIMIT_AS, &none), 0);
    must(!memory_can_be_had());
    pthread_barrier_wait(&crowd_go);
    pthread_barrier_wait(&crowd_ready);
    must_equal(setrlimit(RLIMIT_AS, &limit), 0);
    pthread_barrier_wait(&crowd_end);
    for (int i = 0; i < CROWD; i++)
        thread_join(threads[i]);
    must_equal(published + refused, CROWD);
    for (unsigned i = 0; i < published; i++)
        must_equal(exitbus_receive(early, &event, 0), 0);
    must_equal(exitbus_receive(early, &event, 0), -EAGAIN);
    for (unsigned i = 0; i < CROWD; i++)
        must_equal(exitbus_receive(late, &event, 0), 0);
    must_equal(exitbus_unsubscribe(early), 0);
    must_equal(exitbus_unsubscribe(late), 0);
    must_equal(exitbus_destroy(crowd_bus), 0);
}

TEST(process_limits, prepare_without_memory)
{
    if (!SANITIZED)
        check_equal(in_child(prepare_without_memory), 0);
}

/* -------------------------------------------------------------------------------- membarrier */

static void install_filter(struct sock_filter *code, unsigned short length, bool all_threads)
{
    struct sock_fprog program = {length, code};
    must_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    must_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                       all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program),
               0);
}

static void refuse_membarrier(bool all_threads)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    install_filter(code, sizeof code / sizeof code[0], all_threads);
}

static void *receive_seven(void *subscription)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(subscription, &event, -1), 0);
    must_equal(event.pid, 7);
    return NULL;
}

static _Atomic bool host_ends;

/* A thread of a host that uses liburcu itself: with it registered, liburcu would call membarrier.
 */
static void *be_host_of_liburcu(void *inside)
{
    urcu_bp_read_lock();
    urcu_bp_read_unlock();
    atomic_store((_Atomic bool *)inside, true);
    await(atomic_load(&host_ends));
    return NULL;
}

static void membarrier_refused_later(bool all_threads)
{
    static _Atomic bool registered;
    struct exitbus_event event;
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *seven = subscribe(bus, exitbus_topic_pid(7));
    pthread_t host = thread_start(be_host_of_liburcu, &registered);
    await(atomic_load(&registered));
    use(bus);
    pthread_t sleeper = thread_start(receive_seven, seven);
    struct exitbus_stats stats;
    do
        must_equal(exitbus_stats(bus, &stats), 0);
    while (stats.sleeping_receivers == 0);
    refuse_membarrier(all_threads);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    must_equal(exitbus_receive(all, &event, 1000000), -ETIMEDOUT);
    must_equal(exitbus_publish_pid(bus, 7, 7), 0);
    thread_join(sleeper);
    must_equal(exitbus_receive(all, &event, -1), 0);
    for (int i = 0; i < 100; i++)
        use(bus);
    must_equal(exitbus_unsubscribe(all), 0);
    must_equal(exitbus_unsubscribe(seven), 0);
    must_equal(exitbus_destroy(bus), 0); /* grace periods end, and liburcu does not abort */
    atomic_store(&host_ends, true);
    thread_join(host);
}

static void membarrier_refused_to_this_thread(void)
{
    membarrier_refused_later(false);
}

static void membarrier_refused_to_all(void)
{
    membarrier_refused_later(true);
}

TEST(process_limits, membarrier_refused_later)
{
    if (!STARTS_NO_THREADS)
        check_equal(in_child(membarrier_refused_to_this_thread), 0);
    if (!STARTS_NO_THREADS)
        check_equal(in_child(membarrier_refused_to_all), 0);
}

/* Found when liburcu was loaded, and refused before the first bus is made. */
static void membarrier_refused_early(void)
{
    static _Atomic bool registered;
    pthread_t host = thread_start(be_host_of_liburcu, &registered);
    await(atomic_load(&registered));
    refuse_membarrier(true);
    struct exitbus *bus = bus_new();
    use(bus);
    must_equal(exitbus_destroy(bus), 0);
    atomic_store(&host_ends, true);
    thread_join(host);
}

TEST(process_limits, membarrier_refused_from_the_start)
{
    if (!STARTS_NO_THREADS)
        check_equal(in_child(membarrier_refused_early), 0);
}

static _Atomic unsigned membarriers;

static int no_membarrier(long number)
{
    if (number != SYS_membarrier)
        return 0;
    atomic_fetch_add(&membarriers, 1);
    return -EPERM;
}

/* The light side passes fences from the first refusal on, and nothing asks again. */
TEST(process_limits, both_sides_fence_from_then_on)
{
    check_ok(reclaim_init());
    reclaim_wait();
    bool was = atomic_load(&barrier_asymmetric);
    __atomic_store_n(&exitbus_test_syscall, no_membarrier, __ATOMIC_RELEASE);
    check(barrier_try() == !was); /* not before the light sides can be taken to have seen it */
    check(!atomic_load(&barrier_asymmetric));
    barrier_heavy();
    check(barrier_try());
    for (int i = 0; i < 10; i++)
        barrier_heavy();
    check(atomic_load(&membarriers) <= 1);
    __atomic_store_n(&exitbus_test_syscall, NULL, __ATOMIC_RELEASE);
}

/* --------------------------------------------------------------------------- MADV_WIPEONFORK */

static void refuse_wipe_on_fork(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    install_filter(code, sizeof code / sizeof code[0], false);
}

static struct exitbus *parents_bus;

static void be_forked_child(void)
{
    must_equal(exitbus_publish_pid(parents_bus, 5, 0), -ESTALE);
    struct exitbus *own = bus_new();
    must_equal(exitbus_publish_pid(parents_bus, 5, 0), -ESTALE);
    use(own);
    must_equal(exitbus_destroy(own), 0);
}

static void no_wipeonfork(void)
{
    refuse_wipe_on_fork();
    parents_bus = bus_new();
    use(parents_bus);
    for (int i = 0; i < 3; i++)
        must_equal(in_child(be_forked_child), 0);
    use(parents_bus);
    must_equal(exitbus_destroy(parents_bus), 0);
}

TEST(process_limits, no_wipeonfork)
{
    if (!STARTS_NO_THREADS)
        check_equal(in_child(no_wipeonfork), 0);
}

/* ----------------------------------------------------------------------- threads that end */

/* ThreadSanitizer ends its own part of a thread in the last one. */
enum { ROUNDS = STARTS_NO_THREADS ? 3 : 4, THREADS = 1000 };

static pthread_key_t last_key;
static struct exitbus *last_bus;
static _Thread_local unsigned destructor_round;

/* Works in the last of glibc's rounds of destructors, as libraries do that must come last. */
static void work_in_the_last_round(void *subscription)
{
    if (++destructor_round < ROUNDS) {
        pthread_setspecific(last_key, subscription);
        return;
    }
    must_equal(exitbus_publish_pid(last_bus, 1, 0), 0);
    if (subscription != &last_key)
        must_equal(exitbus_unsubscribe(subscription), 0);
}

static void *subscribe_and_end(void *unused)
{
    (void)unused;
    pthread_setspecific(last_key, subscribe(last_bus, exitbus_topic_pid(3)));
    return NULL;
}

static void *end_at_once(void *unused)
{
    (void)unused;
    pthread_setspecific(last_key, &last_key);
    return NULL;
}

static void *highest_number(void *unused)
{
    (void)unused;
    reclaim_enter();
    uint32_t span = epoch_span();
    reclaim_leave();
    return (void *)(uintptr_t)span;
}

/* One after the other, so that as few records do as there are threads at a time. */
static uintptr_t live_and_end(void *(*body)(void *))
{
    void *highest;
    for (unsigned i = 0; i < scaled(THREADS); i++)
        thread_join(thread_start(body, NULL));
    must_equal(pthread_join(thread_start(highest_number, NULL), &highest), 0);
    return (uintptr_t)highest;
}

TEST(process_limits, last_round_destructors)
{
    last_bus = bus_new();
    must_equal(pthread_key_create(&last_key, work_in_the_last_round), 0);
    check(live_and_end(subscribe_and_end) <= 4);
    check_ok(exitbus_destroy(last_bus));
}

/* Such a thread that was never in the library before leaves its record to be found. */
TEST(process_limits, first_call_in_the_last_round)
{
    if (STARTS_NO_THREADS)
        return; /* our destructor would run in ThreadSanitizer's last round */
    last_bus = bus_new();
    must_equal(pthread_key_create(&last_key, work_in_the_last_round), 0);
    check(live_and_end(end_at_once) <= 64);
    check_ok(exitbus_destroy(last_bus));
}
