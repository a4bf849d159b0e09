/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the suites are written in: Criterion, or, where Criterion does not start (it can't under
 * ThreadSanitizer), the small runner in plain_runner.c. Either runs each test in a process of its
 * own, so a test's children are its own.
 *
 *     TEST(suite, name) { … check(condition); check_equal(a, b); }
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef PLAIN_RUNNER

struct plain_test {
    const char *suite;
    const char *name;
    void (*body)(void);
    struct plain_test *next;
};

void plain_register(struct plain_test *test);
_Noreturn void plain_fail(const char *file, int line, const char *text);

#define TEST(suite_, name_)                                                                        \
    static void suite_##_##name_##_body(void);                                                     \
    __attribute__((constructor)) static void suite_##_##name_##_register(void)                     \
    {                                                                                              \
        static struct plain_test test = {#suite_, #name_, suite_##_##name_##_body, NULL};          \
        plain_register(&test);                                                                     \
    }                                                                                              \
    static void suite_##_##name_##_body(void)

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            plain_fail(__FILE__, __LINE__, #condition);                                            \
    } while (0)

#else

#include <criterion/criterion.h>

#define TEST(suite, name) Test(suite, name, .timeout = 120)
#define check(condition) cr_assert(condition)

#endif

/* Compare integers, and say what they were. */
#define check_equal(a, b)                                                                          \
    do {                                                                                           \
        long long left_ = (long long)(a), right_ = (long long)(b);                                 \
        if (left_ != right_)                                                                       \
            fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a, left_, #b,  \
                    right_);                                                                       \
        check(left_ == right_);                                                                    \
    } while (0)

/* A call of the library that must succeed. */
#define check_ok(call)                                                                             \
    do {                                                                                           \
        long long result_ = (long long)(call);                                                     \
        if (result_ < 0)                                                                           \
            fprintf(stderr, "%s:%d: %s says %lld\n", __FILE__, __LINE__, #call, result_);          \
        check(result_ >= 0);                                                                       \
    } while (0)

#endif
