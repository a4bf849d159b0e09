/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Runs tests one after the other, each in a forked process: see harness.h. */
#include "harness.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIME_LIMIT_S 300

static struct plain_test *tests;

void plain_register(struct plain_test *test)
{
    struct plain_test **end = &tests;
    while (*end)
        end = &(*end)->next;
    *end = test;
}

void plain_fail(const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
    _exit(1);
}

static int run(const struct plain_test *test)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(TIME_LIMIT_S);
        test->body();
        exit(0); /* sanitizers report at exit */
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    if (status != 0)
        printf("FAILED %s/%s (status %#x)\n", test->suite, test->name, (unsigned)status);
    return status;
}

int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;
    /* A thread's first call that may sleep makes what ThreadSanitizer keeps of its signals, and one
     * that comes in the middle of that is lost. So it is made here, for all tests. */
    nanosleep(&(struct timespec){0}, NULL);
    for (struct plain_test *test = tests; test; test = test->next) {
        if (argc > 1 && !strstr(test->name, argv[1]) && !strstr(test->suite, argv[1]))
            continue;
        if (run(test) == 0)
            passed++;
        else
            failed++;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
