/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the library stands on, for the model: blocks of memory that come back the moment their grace
 * period ends, last in first out; system calls; grace periods; and what is left out (reapers,
 * forks).
 */
#include "base/barrier.h"
#include "base/sys.h"
#include "bus/bus.h"
#include "memory/memory.h"
#include "memory/reclaim.h"
#include "process/process.h"

#include <errno.h>
#include <string.h>

/* -------------------------------------------------------------------------------------- memory */

#define ARENA (48 << 10)
static _Alignas(64) char arena[ARENA];
static size_t used;
static struct block *free_blocks[MEMORY_CLASSES_MAX];

static void *cut(size_t size)
{
    size = (size + 63) & ~(size_t)63;
    if (used + size > ARENA)
        model_violation("the arena is used up", __FILE__, __LINE__);
    used += size;
    return arena + used - size;
}

/* The bus itself, at its end. */
static void release_bus(void *context, void *memory, size_t size)
{
    (void)context;
    model_dead(memory, size);
}

void *model_map(size_t size)
{
    return cut(size);
}

void memory_init(struct memory *memory, const struct exitbus_allocator *allocator,
                 const size_t *block_sizes, size_t classes)
{
    memset((void *)memory, 0, sizeof *memory);
    memory->own_allocator = true;
    memory->allocator.release = release_bus;
    if (allocator)
        memory->allocator = *allocator;
    for (size_t i = 0; i < classes; i++)
        memory->pools[i].block_size = block_sizes[i];
}

/* The blocks are the model's own; a test's allocator is only asked whether there are any. */
static bool lacks_memory(struct memory *memory)
{
    const struct exitbus_allocator *allocator = &memory->allocator;
    if (!allocator->allocate)
        return false;
    void *token = allocator->allocate(allocator->context, 64, 64);
    if (token)
        allocator->release(allocator->context, token, 64);
    return !token;
}

void *memory_alloc(struct memory *memory, unsigned class)
{
    if (lacks_memory(memory))
        return NULL;
    size_t size = memory->pools[class].block_size;
    struct block *block = free_blocks[class];
    if (block)
        free_blocks[class] = (struct block *)(uintptr_t)block->reclaim.rcu.next;
    else
        block = cut(size);
    block->slab = (struct slab *)(uintptr_t)(class + 1);
    model_alive(block, size);
    model_forget(block, size);
    return block;
}

/* Added to the class that a free block has in place of its slab. */
#define FREE 0x100

void memory_free(struct memory *memory, unsigned class, void *address)
{
    struct block *block = address;
    if ((uintptr_t)block->slab > FREE)
        model_violation("a block is given back that is free", __FILE__, __LINE__);
    block->slab = (struct slab *)(uintptr_t)(FREE + class + 1);
    block->reclaim.rcu.next = (void *)free_blocks[class];
    free_blocks[class] = block;
    model_dead(block, memory->pools[class].block_size);
}

static struct memory *the_memory; /* there is one bus in a test */

static void retired(struct rcu_head *rcu)
{
    struct block *block = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    memory_free(the_memory, (unsigned)(uintptr_t)block->slab % FREE - 1, block);
}

void memory_retire(struct memory *memory, unsigned class, void *address)
{
    struct block *block = address;
    (void)class;
    the_memory = memory;
    reclaim_defer(&block->reclaim, retired);
}

void memory_defer(struct memory *memory, struct reclaim_head *head,
                  void (*callback)(struct rcu_head *))
{
    the_memory = memory;
    atomic_fetch_add_explicit(&memory->callbacks, 1, memory_order_relaxed);
    reclaim_defer(head, callback);
}

static void object_due(struct rcu_head *rcu)
{
    the_memory->destroy_object(container_of(reclaim_callback_begin(rcu), struct block, reclaim));
}

void memory_retire_object(struct memory *memory, struct block *block)
{
    memory_defer(memory, &block->reclaim, object_due);
}

void memory_callback_end(struct memory *memory)
{
    atomic_fetch_sub_explicit(&memory->callbacks, 1, memory_order_relaxed);
}

void memory_wait_callbacks(struct memory *memory)
{
    (void)memory;
}

struct memory *memory_of(const struct block *block)
{
    (void)block;
    return the_memory;
}

void memory_stop_trimming(struct memory *memory)
{
    (void)memory;
}

void memory_destroy(struct memory *memory)
{
    (void)memory;
}

void *memory_map(struct memory *memory, size_t size, size_t alignment)
{
    (void)memory;
    (void)alignment;
    return cut(size);
}

void memory_unmap(struct memory *memory, void *address, size_t size)
{
    (void)memory;
    (void)address;
    (void)size;
}

/* -------------------------------------------------------------------------------- grace periods */

int reclaim_begin(bool forked)
{
    (void)forked;
    barrier_init();
    return epoch_begin(false);
}

int reclaim_init(void)
{
    return fork_guard_begin(reclaim_begin);
}

bool reclaim_inside(void)
{
    return rcu_read_ongoing();
}

bool reclaim_inside_registering(void)
{
    return reclaim_inside();
}

void reclaim_defer(struct reclaim_head *head, void (*callback)(struct rcu_head *))
{
    call_rcu(&head->rcu, callback);
}

void reclaim_hurry(void)
{
}

void reclaim_wait(void)
{
    synchronize_rcu();
}

/* --------------------------------------------------------------------------------- system calls */

/*
 * The kernel orders what is done to one descriptor. But that there is a descriptor of that number
 * must be known to whoever uses it, as of any other object.
 */
#define FDS 8
static struct {
    struct model_channel channel;
    unsigned tokens;
    unsigned edges; /* writes so far */
    bool open;
} fds[FDS];

/* Where a thread sleeps: on the word, and on its bit if it names one. */
static const void *place_of(const uint32_t *word, uint32_t bits)
{
    unsigned bit = bits == SYS_FUTEX_ANY ? 0 : 1 + (unsigned)__builtin_ctz(bits);
    return (const void *)((uintptr_t)word << 6 | bit);
}

/* The latest time that this thread knows of. */
static _Thread_local int64_t now_ns = 1;

static void pass_time(const struct timespec *until)
{
    int64_t ns = until->tv_sec * 1000000000LL + until->tv_nsec;
    if (ns > now_ns)
        now_ns = ns;
}

int sys_futex_wait(uint32_t *word, uint32_t value, uint32_t bits, const struct timespec *deadline)
{
    model_step();
    model_use(word);
    if (*word != value) /* the kernel reads what is there */
        return -EAGAIN;
    if (deadline) { /* it may pass at any time: here, as soon as the other threads pause */
        model_pause();
        pass_time(deadline);
        return -ETIMEDOUT;
    }
    model_sleep(place_of(word, bits));
    return 0;
}

void sys_sleep_on(uint32_t *word, uint32_t value, int64_t ns)
{
    (void)ns;
    sys_futex_wait(word, value, SYS_FUTEX_ANY, NULL);
}

void sys_nap(int64_t ns)
{
    (void)ns;
    model_step();
}

uint32_t sys_thread_id(void)
{
    return 1;
}

bool sys_thread_ended(uint32_t thread)
{
    (void)thread;
    return false;
}

void sys_futex_wake(uint32_t *word, uint32_t bits)
{
    model_step();
    model_wake(place_of(word, SYS_FUTEX_ANY));
    for (unsigned bit = 0; bit < 32; bit++)
        if (bits & (uint32_t)1 << bit)
            model_wake(place_of(word, (uint32_t)1 << bit));
}

void sys_futex_wake_all(uint32_t *word)
{
    sys_futex_wake(word, SYS_FUTEX_ANY);
}

int sys_eventfd(bool semaphore)
{
    (void)semaphore;
    for (int fd = 0; fd < FDS; fd++)
        if (!fds[fd].open) {
            fds[fd].open = true;
            fds[fd].tokens = fds[fd].edges = 0;
            fds[fd].channel.number = (unsigned)fd;
            model_take_over(&fds[fd].channel); /* from who has closed the last one of that number */
            model_make(&fds[fd]);
            return fd;
        }
    return -EMFILE;
}

int sys_eventfd_add_tokens(int fd, uint64_t tokens)
{
    model_step();
    if (fd < 0 || fd >= FDS || !fds[fd].open)
        model_violation("a descriptor is written that is closed", __FILE__, __LINE__);
    model_use(&fds[fd]);
    fds[fd].tokens += (unsigned)tokens;
    fds[fd].edges++;
    model_hand_over(&fds[fd].channel);
    model_wake(&fds[fd].tokens);
    return 0;
}

int sys_eventfd_add(int fd)
{
    return sys_eventfd_add_tokens(fd, 1);
}

int sys_eventfd_add_again(int fd)
{
    return sys_eventfd_add(fd);
}

int sys_eventfd_take(int fd)
{
    model_step();
    if (fd < 0 || fd >= FDS || !fds[fd].open)
        model_violation("a descriptor is read that is closed", __FILE__, __LINE__);
    model_use(&fds[fd]);
    if (fds[fd].tokens == 0)
        return -EAGAIN;
    fds[fd].tokens--;
    model_take_over(&fds[fd].channel);
    return 0;
}

void model_await_readable(int fd)
{
    model_step();
    model_use(&fds[fd]);
    while (fds[fd].tokens == 0)
        model_sleep(&fds[fd].tokens);
    model_take_over(&fds[fd].channel);
}

/* As epoll does with EPOLLET: named if it has been written to since, and is readable now. */
void model_await_edge(int fd, unsigned *seen)
{
    model_step();
    model_use(&fds[fd]);
    for (;;) {
        bool edge = *seen != fds[fd].edges;
        *seen = fds[fd].edges;
        if (edge && fds[fd].tokens > 0)
            break;
        model_sleep(&fds[fd].tokens);
    }
    model_take_over(&fds[fd].channel);
}

int sys_close(int fd)
{
    model_use(&fds[fd]);
    model_hand_over(&fds[fd].channel);
    fds[fd].open = false;
    return 0;
}

/* A test may have this, to run on a kernel without membarrier. */
extern const bool model_without_membarrier __attribute__((weak));

int sys_membarrier_register(void)
{
    return &model_without_membarrier ? -ENOSYS : 0;
}

int sys_membarrier(void)
{
    model_fence_all();
    return 0;
}

void sys_random(void *bytes, size_t size)
{
    memset(bytes, 0x5a, size);
}

int64_t sys_clock_ns(clockid_t clock)
{
    (void)clock;
    return now_ns;
}

void (*exitbus_probe_hook)(enum probe step); /* of platform.h; some tests stop threads there */

/* ----------------------------------------------------------------------------- what is left out */

void reaper_forget_parent(void)
{
}

/* What process handles call of the reapers and of the kernel, beside their own protocol. */
void watch_set_release(struct watch_set *set)
{
    (void)set;
}

bool reaper_direct_acquire(struct exitbus *bus)
{
    (void)bus;
    return true;
}

void reaper_direct_release(void)
{
}

void reaper_drop_if_closed(struct exitbus *bus, struct watch_set *set)
{
    (void)bus, (void)set;
}

void groups_tell(struct watch_set *set)
{
    (void)set;
}

/* The second one tells of the end of a bus, which no test here has. */
int sys_wait_readable(int fd, int other, int64_t ns)
{
    (void)other;
    if (ns >= 0) { /* the time may pass at any moment */
        struct timespec until = {.tv_nsec = now_ns + ns};
        model_pause();
        pass_time(&until);
        return fds[fd].tokens > 0;
    }
    model_await_readable(fd);
    return 1;
}

/* A test may have its own. */
#define NOT_HERE(result, name, ...)                                                                \
    __attribute__((weak)) result name(__VA_ARGS__)                                                 \
    {                                                                                              \
        model_violation(#name " is no part of the model", __FILE__, __LINE__);                     \
        __builtin_unreachable();                                                                   \
    }

NOT_HERE(int, collect_direct, struct watch_set *set, pid_t pid, int pidfd,
         struct exitbus_event *event, bool *reaped)
NOT_HERE(void, child_watch_enter, struct watch_set *set, struct child_watch *watch, pid_t pid,
         unsigned kind)
NOT_HERE(bool, child_watch_commit, struct watch_set *set, struct child_watch *watch, int pidfd)
NOT_HERE(int, reaper_set_acquire, struct exitbus *bus, struct watch_set **set)
NOT_HERE(void, reaper_set_release, struct exitbus *bus, struct watch_set *set)
NOT_HERE(int, reaper_between_passes, struct exitbus *bus, int (*ask)(void *), void *argument)
NOT_HERE(void, child_watch_abort, struct watch_set *set, struct child_watch *watch)
NOT_HERE(int, watch_set_wake, struct watch_set *set)
NOT_HERE(int, group_copy_cgroup, int cgroup_fd, int *copy)
NOT_HERE(int, group_kill_cgroup, int cgroup_fd)
NOT_HERE(int, sys_open_at, int directory_fd, const char *name, bool write)
NOT_HERE(int, sys_read, int fd, void *bytes, size_t size)
NOT_HERE(uint64_t, details_inode, const struct watch_set *set, int pidfd)
NOT_HERE(int, sys_duplicate, int fd, int from)
NOT_HERE(int, sys_find_child, pid_t pid, int pidfd)
NOT_HERE(int, sys_pidfd_open, pid_t pid)
NOT_HERE(pid_t, sys_pidfd_pid, int pidfd)
NOT_HERE(int, sys_pidfd_signal, int pidfd, int signal, bool group)
NOT_HERE(int, sys_kill, pid_t pid, int signal)
NOT_HERE(int, details_of_pid, pid_t pid, struct exitbus_event_details *details)

int reaper_bus_close(struct exitbus *bus, int *lost)
{
    (void)lost;
    bus->core.memory.allocator.release = release_bus;
    atomic_store_explicit(&bus->core.closed, true, memory_order_seq_cst);
    return 0;
}
