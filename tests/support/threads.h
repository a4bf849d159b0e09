/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads in tests: starting, joining, waiting for a condition, and a check that any thread may
 * make (those of harness.h belong to the test's main thread). Nothing here looks at the time that
 * has gone by: a test that hangs is ended by its runner.
 */
#ifndef THREADS_H
#define THREADS_H

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Ends the whole test, on whatever thread it stands. */
#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define must_equal(a, b)                                                                           \
    do {                                                                                           \
        long long left_ = (long long)(a), right_ = (long long)(b);                                 \
        if (left_ != right_) {                                                                     \
            fprintf(stderr, "%s:%d: failed: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a,     \
                    left_, #b, right_);                                                            \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Work that a sanitizer makes many times as slow is cut down by about as much. */
#if defined(__SANITIZE_THREAD__)
#define scaled(amount) ((amount) / 20)
#elif defined(__SANITIZE_ADDRESS__)
#define scaled(amount) ((amount) / 4)
#else
#define scaled(amount) (amount)
#endif

/*
 * ThreadSanitizer holds a signal back until the thread's next call of the libc. It drops the signal
 * if the thread ends first, or if it comes in the middle of the thread's first call that may sleep.
 * So under ThreadSanitizer threads leave SIGCHLD to the first one, unless they unblock it.
 */
static inline pthread_t thread_start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
#if defined(__SANITIZE_THREAD__)
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    must_equal(pthread_sigmask(SIG_BLOCK, &child, &before), 0);
#endif
    must_equal(pthread_create(&thread, NULL, body, argument), 0);
#if defined(__SANITIZE_THREAD__)
    must_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
#endif
    return thread;
}

static inline void thread_join(pthread_t thread)
{
    must_equal(pthread_join(thread, NULL), 0);
}

static inline void short_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
}

/* Wait until the condition, which nobody announces, holds. */
#define await(condition)                                                                           \
    do {                                                                                           \
        while (!(condition))                                                                       \
            short_pause();                                                                         \
    } while (0)

/* Returns the first word of a file of one of this process's threads, or "". */
static inline const char *thread_word(const char *task, const char *file, char *word, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%.20s/%s", task, file);
    FILE *stream = fopen(path, "re");
    word[0] = '\0';
    if (stream) {
        if (!fgets(word, (int)size, stream))
            word[0] = '\0';
        fclose(stream);
    }
    word[strcspn(word, " \n")] = '\0';
    return word;
}

/* Returns whether this process has a thread of that name which is in that system call. */
static inline bool thread_is_in(const char *name, long number)
{
    char word[64], wanted[32];
    snprintf(wanted, sizeof wanted, "%ld", number);
    DIR *tasks = opendir("/proc/self/task");
    must(tasks);
    bool found = false;
    for (struct dirent *task; !found && (task = readdir(tasks));)
        found = strcmp(thread_word(task->d_name, "comm", word, sizeof word), name) == 0 &&
                strcmp(thread_word(task->d_name, "syscall", word, sizeof word), wanted) == 0;
    closedir(tasks);
    return found;
}

/* Random numbers (xorshift); each thread has a state of its own, so a run can be repeated. */
static inline uint32_t random_below(uint64_t *state, uint32_t bound)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)((*state >> 32) % bound);
}

#endif
