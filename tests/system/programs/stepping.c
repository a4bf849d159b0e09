/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The proof of G4 by a debugger: a publisher is stopped after each machine instruction of publish
 * in turn, for as long as it takes all others to publish, subscribe, receive (try, blocking, by fd)
 * and unsubscribe. Then its event is at one place in the order, in every queue that it belongs to,
 * or it was never ordered and is nowhere; and once the publisher goes on nothing comes twice.
 *
 * This process is the tracer. For each variant it forks a process with the bus in it (the library
 * as shipped, without hooks), whose threads are: the director (main), which sets a scene, judges it
 * and sets the next; the victim, which publishes; a publisher and a subscriber, who work while the
 * victim is stopped; and, in some variants, a receiver that is asleep or polls a descriptor. Only
 * the victim is traced. The first call of a variant is single-stepped from end to end and recorded;
 * after that the victim gets to instruction k by a hardware breakpoint (its own, so the others
 * don't run into it), or, if its path was another this time, by k single steps. Some virtual
 * machines have no hardware breakpoints: there it goes by single steps, and only to the
 * instructions whose effect another thread can see.
 *
 * Exit status: 0 passed, 1 failed, 77 skipped, since the kernel refuses ptrace or the machine can't
 * step through its atomics (a load-exclusive never succeeds under single steps).
 */
#include <exitbus/exitbus.h>
#include <stdio.h>

#define EXIT_SKIPPED 77

#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

int main(void)
{
    puts("stepping: skipped: only for x86-64, and not under sanitizers, whose runtimes take locks");
    return EXIT_SKIPPED;
}

#else

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* One stop, with all that the others do meanwhile, takes about a millisecond. */
#define SAFETY_S 30
#define TRACE_MAX 20000
#define LOG_MAX 256
#define BREAKPOINT_ATTEMPTS 3

#define WIDE_ID 60 /* bytes in each id: hashing longer ones only repeats the same instructions */
#define VICTIM_PID 4001
#define VICTIM_CODE 100 /* exit codes: these are the victim's events, in the order of its batch */
#define WARM_CODE 90
#define FILL_CODE 91
#define OTHER_CODE 92
#define LAST_CODE 93

struct variant {
    const char *name;
    unsigned events; /* in the victim's publish; the last of several is wide */
    bool wide;       /* with ids, in four cells */
    bool sleeper;    /* a subscription with a thread asleep on it */
    bool poller;     /* a subscription whose descriptor is armed and polled */
    bool fresh_bus;  /* in each scene, so that publish finds no memory in the pool */
    unsigned fill;   /* matching events before: 1 fills a queue's first segment */
};

static const struct variant variants[] = {
    {.name = "narrow", .events = 1},
    {.name = "sleeping receiver", .events = 1, .sleeper = true},
    {.name = "armed eventfd", .events = 1, .poller = true},
    {.name = "new segment", .events = 1, .fill = 1},
    {.name = "memory to be mapped", .events = 1, .fill = 1, .fresh_bus = true},
    {.name = "wide", .events = 1, .wide = true, .sleeper = true},
    {.name = "batch", .events = 2, .sleeper = true, .poller = true},
};

/* What tracer and director share. The numbers are scenes, counted from 1; each is a futex. */
struct stage {
    _Atomic uint32_t victim; /* its thread id */
    _Atomic uint32_t traced; /* tracer: the victim may send itself the signal */
    _Atomic uint32_t set;    /* director: the victim is on its way into publish */
    _Atomic uint32_t halted; /* tracer: it is stopped */
    _Atomic uint32_t judged; /* director: the others are through; the victim may go on */
    _Atomic uint32_t ended;  /* director: so is everybody */
    _Atomic uint32_t failed;
    bool was_ordered; /* in this scene, while the victim was stopped */
    char complaint[300];
};

static struct stage *stage;

static long futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void stage_set(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store(word, value);
    futex(word, FUTEX_WAKE, INT_MAX);
}

/* ================================ the process with the bus ================================== */

static const struct variant *variant;
static struct exitbus *bus;

/* In any thread: say what is wrong, to the tracer, and end the process. */
static _Noreturn __attribute__((format(printf, 1, 2))) void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(stage->complaint, sizeof stage->complaint, format, arguments);
    va_end(arguments);
    stage_set(&stage->failed, 1);
    _exit(1);
}

#define ok(call)                                                                                   \
    do {                                                                                           \
        long result_ = (long)(call);                                                               \
        if (result_ < 0)                                                                           \
            complain("line %d: %s: %s", __LINE__, #call, exitbus_strerror((int)result_));          \
    } while (0)

#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            complain("line %d: not so: %s", __LINE__, #condition);                                 \
    } while (0)

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        continue;
}

/* Condition without an end: the tracer's safety timeout is the end. */
#define await(condition)                                                                           \
    do {                                                                                           \
        while (!(condition))                                                                       \
            sched_yield();                                                                         \
    } while (0)

static struct exitbus_event pid_event(pid_t pid, int code)
{
    return (struct exitbus_event){.kind = EXITBUS_EVENT_PID, .pid = pid, .exit_code = code};
}

static struct exitbus_event exec_event(char letter, size_t size, int code)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EXEC, .exit_code = code};
    memset(event.container_id, letter, size);
    memset(event.exec_id, letter, size);
    return event;
}

/* ---------------------------------------------------------------------------- receiving ends */

/* Somebody who receives, and what has come. */
struct reader {
    struct exitbus_subscription *subscription;
    struct exitbus_event log[LOG_MAX];
    _Atomic unsigned count;
    _Atomic int tid;
    _Atomic bool drained; /* the poller has armed its descriptor */
    sem_t start, done;
};

static struct reader witness, sleeper, poller;

static int read_one(struct reader *reader, int64_t timeout)
{
    unsigned count = atomic_load(&reader->count);
    must(count < LOG_MAX);
    int result = exitbus_receive(reader->subscription, &reader->log[count], timeout);
    if (result == 0)
        atomic_store(&reader->count, count + 1);
    return result;
}

static void *sleep_and_read(void *argument)
{
    struct reader *reader = argument;
    atomic_store(&reader->tid, (int)syscall(SYS_gettid));
    for (;;) {
        wait_for(&reader->start);
        int result;
        while ((result = read_one(reader, -1)) == 0)
            continue;
        must(result == -ESHUTDOWN);
        ok(exitbus_subscription_unref(reader->subscription));
        sem_post(&reader->done);
    }
    return NULL;
}

static void *poll_and_read(void *argument)
{
    struct reader *reader = argument;
    for (;;) {
        wait_for(&reader->start);
        struct pollfd polled = {.fd = exitbus_subscription_fd(reader->subscription),
                                .events = POLLIN};
        ok(polled.fd);
        int result = read_one(reader, 0);
        while (result != -ESHUTDOWN) {
            if (result == -EAGAIN) {
                atomic_store(&reader->drained, true);
                must(poll(&polled, 1, -1) == 1);
            } else {
                ok(result);
            }
            result = read_one(reader, 0);
        }
        ok(exitbus_subscription_unref(reader->subscription));
        sem_post(&reader->done);
    }
    return NULL;
}

static bool thread_sleeps(int tid)
{
    char path[64], text[200];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must(fd >= 0);
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    must(size > 0);
    text[size] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[2] == 'S';
}

static uint64_t sleeping_receivers(void)
{
    struct exitbus_stats stats;
    ok(exitbus_stats(bus, &stats));
    return stats.sleeping_receivers;
}

static void begin_reading(struct reader *reader)
{
    ok(exitbus_subscription_ref(reader->subscription));
    sem_post(&reader->start);
}

static void end_reading(struct reader *reader, bool has_thread)
{
    ok(exitbus_unsubscribe(reader->subscription));
    if (has_thread)
        wait_for(&reader->done);
    atomic_store(&reader->count, 0);
}

/* ------------------------------------------------------- those who work while it is stopped */

struct worker {
    void (*work)(void);
    sem_t start, done;
};

static void work_publish(void)
{
    struct exitbus_event events[] = {pid_event(1, OTHER_CODE), exec_event('o', 40, OTHER_CODE)};
    ok(exitbus_publish(bus, &events[0], NULL));
    ok(exitbus_publish(bus, &events[1], NULL));
    ok(exitbus_publish_batch(bus, events, 2, NULL));
    ok(exitbus_publish_pid(bus, 2, OTHER_CODE));
}

static void receive_own(struct exitbus_subscription *subscription, pid_t pid, int64_t timeout)
{
    struct exitbus_event event;
    do
        ok(exitbus_receive(subscription, &event, timeout));
    while (event.pid != pid);
}

static void work_subscribe(void)
{
    const pid_t own = 77;
    struct exitbus_subscription *all, *exact, *once;
    struct exitbus_event event;
    ok(exitbus_subscribe(bus, exitbus_topic_all(), 0, &all));
    ok(exitbus_subscribe(bus, exitbus_topic_pid(own), 0, &exact));
    ok(exitbus_subscribe(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_ONE_SHOT, &once));
    struct pollfd polled = {.fd = exitbus_subscription_fd(exact), .events = POLLIN};
    ok(polled.fd);
    must(exitbus_receive(exact, &event, 0) == -EAGAIN);
    ok(exitbus_publish_pid(bus, own, OTHER_CODE));
    must(poll(&polled, 1, -1) == 1);
    receive_own(exact, own, 0);
    receive_own(all, own, -1);
    ok(exitbus_receive(once, &event, -1));
    ok(exitbus_unsubscribe(once));
    ok(exitbus_unsubscribe(exact));
    ok(exitbus_unsubscribe(all));
}

static struct worker workers[] = {{.work = work_publish}, {.work = work_subscribe}};
#define WORKERS (sizeof workers / sizeof workers[0])

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    for (;;) {
        wait_for(&worker->start);
        worker->work();
        sem_post(&worker->done);
    }
    return NULL;
}

static void let_others_work(void)
{
    for (size_t i = 0; i < WORKERS; i++)
        sem_post(&workers[i].start);
    for (size_t i = 0; i < WORKERS; i++)
        wait_for(&workers[i].done);
}

/* ------------------------------------------------------------------------------- the victim */

static sem_t victim_start, victim_ready, victim_go, victim_done;
static int victim_result;
static uint64_t victim_seq;
static struct exitbus_event victim_events[2];

/* Where tracer and victim agree that the call begins: the entry of this function. */
static const void *entry_of_call(const struct variant *of)
{
    return of->events > 1 ? (const void *)(uintptr_t)exitbus_publish_batch
                          : (const void *)(uintptr_t)exitbus_publish;
}

static void *victim_main(void *unused)
{
    (void)unused;
    pid_t process = getpid(), thread = (pid_t)syscall(SYS_gettid);
    stage_set(&stage->victim, (uint32_t)thread);
    for (;;) {
        wait_for(&victim_start);
        /* It has used the bus before: in the same way, but nobody subscribes yet. */
        for (unsigned i = 0; i < variant->events; i++)
            victim_events[i].exit_code = WARM_CODE;
        ok(exitbus_publish_batch(bus, victim_events, variant->events, NULL));
        for (unsigned i = 0; i < variant->events; i++)
            victim_events[i].exit_code = VICTIM_CODE + (int)i;
        sem_post(&victim_ready);
        wait_for(&victim_go);
        syscall(SYS_tgkill, process, thread, SIGTRAP); /* the tracer takes over here */
        if (variant->events > 1)
            victim_result = exitbus_publish_batch(bus, victim_events, variant->events, &victim_seq);
        else
            victim_result = exitbus_publish(bus, victim_events, &victim_seq);
        sem_post(&victim_done);
    }
    return NULL;
}

static void make_victim_events(void)
{
    if (variant->wide || variant->events > 1)
        victim_events[variant->events - 1] = exec_event('v', WIDE_ID, 0);
    if (!variant->wide)
        victim_events[0] = pid_event(VICTIM_PID, 0);
}

/* --------------------------------------------------------------------------- setting, judging */

/* The sleeper and the poller wait for the victim's events only: nobody else's can wake them. */
static struct exitbus_topic victim_topic(void)
{
    if (variant->wide)
        return exitbus_topic_exec(victim_events[0].container_id, victim_events[0].exec_id);
    return exitbus_topic_pid(VICTIM_PID);
}

static void fill_queues(void)
{
    for (unsigned i = 0; i < variant->fill; i++) {
        struct exitbus_event event = victim_events[0];
        event.exit_code = FILL_CODE;
        ok(exitbus_publish(bus, &event, NULL));
    }
}

static void set_scene(void)
{
    if (!bus || variant->fresh_bus)
        ok(exitbus_create(&bus, NULL)); /* left to the end of the process */
    sem_post(&victim_start);
    wait_for(&victim_ready);
    ok(exitbus_subscribe(bus, exitbus_topic_all(), 0, &witness.subscription));
    if (variant->sleeper) {
        ok(exitbus_subscribe(bus, victim_topic(), 0, &sleeper.subscription));
        begin_reading(&sleeper);
    }
    if (variant->poller) {
        ok(exitbus_subscribe(bus, victim_topic(), 0, &poller.subscription));
        atomic_store(&poller.drained, false);
        begin_reading(&poller);
    }
    fill_queues();
    if (variant->sleeper) {
        await(atomic_load(&sleeper.count) == variant->fill);
        await(sleeping_receivers() == 1 && thread_sleeps(atomic_load(&sleeper.tid)));
    }
    if (variant->poller)
        await(atomic_load(&poller.count) == variant->fill && atomic_load(&poller.drained));
}

static unsigned matching(unsigned fill, bool ordered)
{
    return fill + (ordered ? 1 : 0); /* of a batch, one event is for the topic of the readers */
}

/* A reader of the victim's topic has the same event at the same place as the witness. */
static void compare(const struct reader *reader, bool ordered, const struct exitbus_event *seen)
{
    unsigned expected = matching(variant->fill, ordered);
    if (ordered) /* if it must come from here, then without anybody's publishing for this topic */
        await(atomic_load(&reader->count) >= expected);
    must(atomic_load(&reader->count) == expected);
    if (ordered) {
        must(reader->log[expected - 1].seq == seen->seq);
        must(memcmp(&reader->log[expected - 1], seen,
                    offsetof(struct exitbus_event, container_id)) == 0);
        must(strcmp(reader->log[expected - 1].exec_id, seen->exec_id) == 0);
    }
}

/*
 * Take what the witness has, and look for the victim's events: all of them, next to each other,
 * once, or none. True if they are there.
 */
static bool judge(void)
{
    while (read_one(&witness, 0) == 0)
        continue;
    unsigned count = atomic_load(&witness.count), found = 0;
    const struct exitbus_event *first = NULL;
    for (unsigned i = 0; i < count; i++) {
        const struct exitbus_event *event = &witness.log[i];
        must(event->seq == witness.log[0].seq + i);
        if (event->exit_code < VICTIM_CODE)
            continue;
        must(event->exit_code == VICTIM_CODE + (int)found);
        const struct exitbus_event *sent = &victim_events[found++];
        must(event->pid == sent->pid && event->kind == sent->kind);
        must(strcmp(event->container_id, sent->container_id) == 0);
        must(strcmp(event->exec_id, sent->exec_id) == 0);
        if (!first)
            first = event;
        must(event == first + (found - 1));
    }
    must(found == 0 || found == variant->events);
    if (variant->sleeper)
        compare(&sleeper, found > 0, first);
    if (variant->poller)
        compare(&poller, found > 0, first);
    if (found > 0 && atomic_load(&stage->judged) == atomic_load(&stage->set))
        must(first->seq == victim_seq); /* the victim has returned */
    return found > 0;
}

/* The victim is stopped. */
static void judge_stopped(void)
{
    let_others_work();
    stage->was_ordered = judge();
    unsigned others = 0;
    for (unsigned i = 0; i < atomic_load(&witness.count); i++)
        others += witness.log[i].exit_code == OTHER_CODE;
    must(others == 6);
}

static void finish_scene(void)
{
    wait_for(&victim_done);
    ok(victim_result);
    must(judge());
    ok(exitbus_publish_pid(bus, 3, LAST_CODE));
    must(judge());
    end_reading(&witness, false);
    if (variant->sleeper)
        end_reading(&sleeper, true);
    if (variant->poller)
        end_reading(&poller, true);
}

static void start_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, body, argument) == 0);
}

static _Noreturn void direct(void)
{
    sem_t *semaphores[] = {&victim_start,  &victim_ready, &victim_go,    &victim_done,
                           &sleeper.start, &sleeper.done, &poller.start, &poller.done};
    for (size_t i = 0; i < sizeof semaphores / sizeof semaphores[0]; i++)
        sem_init(semaphores[i], 0, 0);
    make_victim_events();
    start_thread(victim_main, NULL);
    start_thread(sleep_and_read, &sleeper);
    start_thread(poll_and_read, &poller);
    for (size_t i = 0; i < WORKERS; i++) {
        sem_init(&workers[i].start, 0, 0);
        sem_init(&workers[i].done, 0, 0);
        start_thread(worker_main, &workers[i]);
    }
    while (atomic_load(&stage->traced) == 0)
        futex(&stage->traced, FUTEX_WAIT, 0);
    for (uint32_t scene = 1;; scene++) {
        set_scene();
        stage_set(&stage->set, scene);
        sem_post(&victim_go);
        while (atomic_load(&stage->halted) < scene)
            futex(&stage->halted, FUTEX_WAIT, scene - 1);
        judge_stopped();
        stage_set(&stage->judged, scene);
        finish_scene();
        stage_set(&stage->ended, scene);
    }
}

/* ======================================= the tracer ========================================= */

static volatile sig_atomic_t expired;

static void on_alarm(int signal)
{
    (void)signal;
    expired = 1;
}

/* Every blocking call of the tracer ends with EINTR once this has run out; again and again, in case
 * it was not in one. */
static void safety_begin(void)
{
    struct itimerval timer = {.it_value = {.tv_sec = SAFETY_S}, .it_interval = {.tv_sec = 1}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static struct {
    pid_t process, thread;
    uint64_t trace[TRACE_MAX]; /* address of each instruction of the call */
    unsigned length;
    uint64_t return_address;
    uint32_t scene;
    bool breakpoints; /* kernel and machine let us have them */
} victim;

/* The function of this program that holds an address, from the symbols in its file. */
static bool own_symbol(uint64_t address, char *text, size_t size)
{
    Dl_info info;
    if (!dladdr((const void *)(uintptr_t)entry_of_call(&variants[0]), &info))
        return false;
    uint64_t base = (uint64_t)(uintptr_t)info.dli_fbase;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        return false;
    const char *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        return false;
    const Elf64_Ehdr *header = (const void *)file;
    const Elf64_Shdr *sections = (const void *)(file + header->e_shoff);
    if (header->e_type == ET_EXEC)
        base = 0;
    for (unsigned s = 0; s < header->e_shnum; s++) {
        if (sections[s].sh_type != SHT_SYMTAB)
            continue;
        const Elf64_Sym *symbols = (const void *)(file + sections[s].sh_offset);
        const char *names = file + sections[sections[s].sh_link].sh_offset;
        for (size_t i = 0; i < sections[s].sh_size / sizeof *symbols; i++) {
            uint64_t start = base + symbols[i].st_value;
            if (ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC && address >= start &&
                address < start + symbols[i].st_size) {
                snprintf(text, size, "%s+%#lx", names + symbols[i].st_name,
                         (unsigned long)(address - start));
                return true;
            }
        }
    }
    return false;
}

static void name_address(uint64_t address, char *text, size_t size)
{
    Dl_info info;
    if (own_symbol(address, text, size))
        return;
    if (dladdr((const void *)(uintptr_t)address, &info) && info.dli_fname)
        snprintf(text, size, "%s in %s", info.dli_sname ? info.dli_sname : "?", info.dli_fname);
    else
        snprintf(text, size, "outside of any file (the vDSO?)");
}

static uint64_t victim_register(size_t offset)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, victim.thread, offset, NULL);
}

static uint64_t victim_pc(void)
{
    return victim_register(offsetof(struct user, regs.rip));
}

static _Noreturn void give_up(const char *what, unsigned k)
{
    char place[200] = "";
    uint64_t pc = victim_pc();
    name_address(pc, place, sizeof place);
    printf("stepping: FAILED: %s: %s%s%s\n"
           "  the victim was stopped after %u instructions of publish, at %#lx, %s\n",
           variant->name, what, atomic_load(&stage->failed) ? ": " : "", stage->complaint, k,
           (unsigned long)pc, place);
    kill(victim.process, SIGKILL);
    exit(1);
}

/* Wait until the director has come as far as this scene. */
static void await_stage(_Atomic uint32_t *word, uint32_t value, const char *what, unsigned k)
{
    uint32_t now;
    while ((now = atomic_load(word)) < value) {
        if (atomic_load(&stage->failed))
            give_up("wrong", k);
        if (expired || waitpid(victim.process, NULL, WNOHANG | __WALL) == victim.process)
            give_up(what, k);
        /* In slices, since a complaint wakes another word. */
        const struct timespec slice = {.tv_nsec = 100000000};
        syscall(SYS_futex, word, FUTEX_WAIT, now, &slice, NULL, 0);
    }
}

/* Wait for the victim's next stop, which must be a trap. */
static void await_trap(unsigned k)
{
    int status;
    while (waitpid(victim.thread, &status, __WALL) != victim.thread)
        if (expired || errno != EINTR)
            give_up("the victim does not stop", k);
    if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP)
        return;
    char what[80];
    snprintf(what, sizeof what, "the victim has ended or got a signal (wait status %#x)",
             (unsigned)status);
    give_up(what, k);
}

static bool in_vdso(uint64_t pc)
{
    uint64_t base = getauxval(AT_SYSINFO_EHDR);
    if (base == 0 || pc < base)
        return false;
    const Elf64_Ehdr *header = (const void *)(uintptr_t)base;
    const Elf64_Phdr *segments = (const void *)(uintptr_t)(base + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && pc - base < segments[i].p_memsz)
            return true;
    return false;
}

/*
 * The victim has called into the vDSO: let it return. The kernel's code there reads the clock
 * again whenever the kernel has written it meanwhile; by single steps, on a slow machine, for ever.
 * Others see none of it. Nobody else comes to this place meanwhile, so the instruction there can be
 * one that traps.
 */
static void leave_vdso(unsigned k)
{
    uint64_t stack = victim_register(offsetof(struct user, regs.rsp));
    long place = ptrace(PTRACE_PEEKDATA, victim.thread, stack, NULL);
    long code = ptrace(PTRACE_PEEKTEXT, victim.thread, place, NULL);
    if (ptrace(PTRACE_POKETEXT, victim.thread, place, (code & ~0xffL) | 0xcc) != 0 ||
        ptrace(PTRACE_CONT, victim.thread, NULL, NULL) != 0)
        give_up("no way out of the vDSO", k);
    await_trap(k);
    if (ptrace(PTRACE_POKETEXT, victim.thread, place, code) != 0 ||
        ptrace(PTRACE_POKEUSER, victim.thread, offsetof(struct user, regs.rip), place) != 0)
        give_up("no way back from the vDSO", k);
}

/* One instruction further, where those of the vDSO are part of the call to it. */
static void step(unsigned k)
{
    if (ptrace(PTRACE_SINGLESTEP, victim.thread, NULL, NULL) != 0)
        give_up("PTRACE_SINGLESTEP failed", k);
    await_trap(k);
    if (in_vdso(victim_pc()))
        leave_vdso(k);
}

/* From the signal that the victim sends itself to the first instruction of the call. */
static void go_to_entry(void)
{
    uint64_t entry = (uint64_t)(uintptr_t)entry_of_call(variant);
    victim.scene++;
    expired = 0;
    safety_begin();
    await_stage(&stage->set, victim.scene, "the scene does not get set", 0);
    await_trap(0);
    while (victim_pc() != entry)
        step(0);
    uint64_t stack = victim_register(offsetof(struct user, regs.rsp));
    victim.return_address = (uint64_t)ptrace(PTRACE_PEEKDATA, victim.thread, stack, NULL);
}

/* The victim is where it should be: let the others work, then let it go on. */
static bool hold_and_let_go(unsigned k)
{
    stage_set(&stage->halted, victim.scene);
    await_stage(&stage->judged, victim.scene, "HANG of the others", k);
    bool ordered = stage->was_ordered;
    if (ptrace(PTRACE_CONT, victim.thread, NULL, NULL) != 0)
        give_up("PTRACE_CONT failed", k);
    await_stage(&stage->ended, victim.scene, "HANG after the victim went on", k);
    return ordered;
}

static bool set_breakpoints_of(pid_t thread, uint64_t first, uint64_t second)
{
    size_t registers = offsetof(struct user, u_debugreg);
    unsigned long enable = first ? 1 | 4 : 0; /* both local, for execution */
    return ptrace(PTRACE_POKEUSER, thread, registers, first) == 0 &&
           ptrace(PTRACE_POKEUSER, thread, registers + sizeof(long), second) == 0 &&
           ptrace(PTRACE_POKEUSER, thread, registers + 7 * sizeof(long), enable) == 0;
}

static bool set_breakpoints(uint64_t first, uint64_t second)
{
    return set_breakpoints_of(victim.thread, first, second);
}

static __attribute__((noinline)) void breakpoint_place(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Some virtual machines take the debug registers' values, and never trap. */
static bool breakpoints_strike(void)
{
    uint64_t place = (uint64_t)(uintptr_t)breakpoint_place;
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        breakpoint_place();
        _exit(0);
    }
    bool strike =
        child > 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status) &&
        set_breakpoints_of(child, place, place) && ptrace(PTRACE_CONT, child, NULL, NULL) == 0 &&
        waitpid(child, &status, 0) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
    if (strike) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    return strike;
}

static bool breakpoints_work;

static void record(void)
{
    go_to_entry();
    victim.breakpoints =
        breakpoints_work && set_breakpoints(victim.return_address, victim.return_address);
    set_breakpoints(0, 0);
    victim.length = 0;
    while (victim_pc() != victim.return_address) {
        if (victim.length == TRACE_MAX)
            give_up("the call is longer than expected", victim.length);
        victim.trace[victim.length++] = victim_pc();
        step(victim.length);
    }
    if (!hold_and_let_go(victim.length))
        give_up("returned, and the event is not there", victim.length);
}

/* From the entry to before instruction k of the recorded path. False if the call has returned. */
static bool run_to(unsigned k)
{
    uint64_t target = victim.trace[k];
    unsigned times = 0; /* that it is met, after the first two instructions */
    for (unsigned i = 2; i <= k; i++)
        times += victim.trace[i] == target;
    step(1);
    /* A breakpoint where one stands already would strike at once. */
    if (!set_breakpoints(target, victim.return_address))
        give_up("no breakpoints any more", k);
    bool there = true;
    for (; times > 0 && there; times--) {
        if (ptrace(PTRACE_CONT, victim.thread, NULL, NULL) != 0)
            give_up("PTRACE_CONT failed", k);
        await_trap(k);
        there = victim_pc() == target;
    }
    set_breakpoints(0, 0);
    return there;
}

static bool step_to(unsigned k)
{
    for (unsigned i = 0; i < k; i++) {
        if (victim_pc() == victim.return_address)
            return false;
        step(i);
    }
    return true;
}

/*
 * Stop once after k instructions. The path may be another than the recorded one (a pool that had a
 * block then and has none now): try again, record it anew, and in the end go there by single steps.
 */
static bool stop_after(unsigned k, unsigned *other_paths)
{
    for (unsigned attempt = 0; attempt < BREAKPOINT_ATTEMPTS; attempt++) {
        if (!victim.breakpoints || k <= 2 || k >= victim.length ||
            victim.trace[k] == victim.trace[1])
            break;
        go_to_entry();
        bool there = run_to(k);
        bool ordered = hold_and_let_go(k); /* if not there, the call has returned: also a stop */
        if (there)
            return ordered;
        ++*other_paths;
        record();
    }
    go_to_entry();
    step_to(k);
    return hold_and_let_go(k);
}

/* With a ModRM byte: does its memory operand, if there is one, lie on the victim's own stack? */
static bool only_registers_or_stack(const uint8_t *modrm, bool rex_b)
{
    bool by_rsp = (modrm[0] & 7) == 4 && (modrm[1] & 7) == 4 && !rex_b;
    return modrm[0] >> 6 == 3 || (by_rsp && modrm[0] >> 6 != 0);
}

/* Opcodes that write no memory but the stack, whatever their operand. */
static bool only_reads(const uint8_t *code)
{
    uint8_t op = code[0];
    if (op == 0x0f) {
        op = code[1];
        return (op >= 0x80 && op <= 0x8f) || (op >= 0x40 && op <= 0x4f) || op == 0x1e ||
               op == 0x1f || op == 0x10 || op == 0x28 || op == 0x6e || op == 0x6f || op == 0xb6 ||
               op == 0xb7 || op == 0xbe || op == 0xbf;
    }
    bool to_register = op < 0x40 && ((op & 7) == 2 || (op & 7) == 3); /* add, or, and, sub, xor … */
    bool compares = (op >= 0x38 && op <= 0x3d) || op == 0x84 || op == 0x85 ||
                    ((op == 0x80 || op == 0x81 || op == 0x83) && (code[1] >> 3 & 7) == 7);
    bool goes_on = (op >= 0x70 && op <= 0x7f) || op == 0xeb || op == 0xe9 || op == 0xe8 ||
                   op == 0xc3 || op == 0x90;
    bool push_or_pop = op >= 0x50 && op <= 0x5f;
    bool loads = op == 0x8a || op == 0x8b || op == 0x8d || op == 0x63 || (op >= 0xb0 && op <= 0xbf);
    return to_register || compares || goes_on || push_or_pop || loads;
}

/*
 * Can what the instruction does be seen by other threads? Where there are no breakpoints, so that
 * every stop costs as many single steps as instructions before it, only those matter: between two
 * of them a stop at one instruction is to the others as a stop at any. In doubt, yes.
 */
static bool visible(uint64_t pc)
{
    const uint8_t *code =
        (const uint8_t *)(uintptr_t)pc; /* the victim's process is a fork of this */
    while (*code == 0x66 || *code == 0xf2 || *code == 0xf3)
        code++;
    bool rex_b = false;
    if ((*code & 0xf0) == 0x40)
        rex_b = *code++ & 1;
    if (only_reads(code))
        return false;
    /* Two-operand moves and arithmetic: by their operand. */
    uint8_t op = *code;
    bool plain = op < 0x40 || (op >= 0x80 && op <= 0x83) || op == 0x88 || op == 0x89 ||
                 op == 0xc0 || op == 0xc1 || op == 0xc6 || op == 0xc7 || op == 0xd0 || op == 0xd1 ||
                 op == 0xd3 || op == 0xf6 || op == 0xf7;
    bool vector = op == 0x0f && (code[1] == 0x11 || code[1] == 0x29 || code[1] == 0x7f);
    if (plain && op != 0x0f)
        return !only_registers_or_stack(code + 1, rex_b);
    return !(vector && only_registers_or_stack(code + 2, rex_b));
}

/*
 * Every instruction of the call but the first, before which nothing can have happened; without
 * breakpoints, every one whose effect others can see.
 */
static void stop_at_each(void)
{
    unsigned other_paths = 0, first_ordered = 0, unordered = 0, stops = 0;
    for (unsigned k = 1; k < victim.length; k++) {
        if (!victim.breakpoints && !visible(victim.trace[k - 1]))
            continue;
        stops++;
        bool ordered = stop_after(k, &other_paths);
        if (ordered && !first_ordered)
            first_ordered = k;
        unordered += !ordered;
    }
    printf("  %-20s %5u instructions, %u stops, ordered from %u on (%u calls took another path)\n",
           variant->name, victim.length, stops, first_ordered, other_paths);
    fflush(stdout);
    if (first_ordered == 0 || unordered == 0)
        give_up("the event was ordered always or never", victim.length);
}

/* Tracer and victim hand over to each other all the time: four times faster on one CPU. */
static void share_cpu(pid_t thread)
{
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
            sched_setaffinity(thread, sizeof one, &one);
            return;
        }
    }
}

static void run_variant(void)
{
    cpu_set_t allowed;
    bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    *stage = (struct stage){0};
    victim.scene = 0;
    victim.process = fork();
    if (victim.process == 0)
        direct();
    expired = 0;
    safety_begin();
    await_stage(&stage->victim, 1, "the process does not start", 0);
    victim.thread = (pid_t)atomic_load(&stage->victim);
    if (ptrace(PTRACE_SEIZE, victim.thread, NULL, PTRACE_O_EXITKILL) != 0) {
        printf("stepping: skipped: ptrace is refused: %s\n", strerror(errno));
        kill(victim.process, SIGKILL);
        exit(EXIT_SKIPPED);
    }
    stage_set(&stage->traced, 1);
    share_cpu(victim.thread);
    record();
    stop_at_each();
    kill(victim.process, SIGKILL);
    while (waitpid(victim.thread, NULL, __WALL) < 0 && errno == EINTR) /* it is ours to bury */
        continue;
    while (waitpid(victim.process, NULL, __WALL) < 0 && errno == EINTR)
        continue;
    if (known)
        sched_setaffinity(0, sizeof allowed, &allowed);
}

/* Arguments: names of variants; without any, all of them. */
int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART: it ends every wait */
    sigaction(SIGALRM, &action, NULL);
    stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stage == MAP_FAILED)
        return 1;
    breakpoints_work = breakpoints_strike();
    puts("a publisher stopped after each instruction of publish, while the others go on:");
    fflush(stdout);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        bool wanted = argc < 2;
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], variants[i].name) == 0;
        variant = &variants[i];
        if (wanted)
            run_variant();
    }
    puts("stepping: passed");
    return 0;
}

#endif
