/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SIGSTOP and SIGCONT from outside: see stopper.h. */
#include "stopper.h"
#include "world.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUN_MS_MAX 300
#define STOP_MS_MAX 15

static int control = -1;
static _Atomic unsigned *stops; /* shared with that process */

static void pause_ms(unsigned ms)
{
    const struct timespec time = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&time, NULL);
}

static void stop_and_continue(pid_t target, int input)
{
    struct random random = random_for('S', 0);
    struct pollfd end = {.fd = input, .events = POLLIN};
    char byte;
    if (read(input, &byte, 1) != 1)
        return;
    /* Readable: closed at the other end, or asked to cease. */
    while (poll(&end, 1, (int)random_below(&random, RUN_MS_MAX)) == 0) {
        atomic_fetch_add(stops, 1);
        if (kill(target, SIGSTOP) != 0)
            return;
        pause_ms(random_below(&random, STOP_MS_MAX));
        kill(target, SIGCONT);
    }
}

void stopper_start(void)
{
    int ends[2];
    pid_t target = getpid();
    void *page =
        mmap(NULL, sizeof *stops, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || pipe2(ends, O_CLOEXEC) != 0)
        return;
    stops = page;
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            close(ends[1]);
            stop_and_continue(target, ends[0]);
        }
        _exit(0);
    }
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    control = ends[1];
}

void stopper_go(void)
{
    static bool goes;
    if (goes) /* a second byte would end it */
        return;
    goes = true;
    if (control >= 0 && write(control, "", 1) != 1)
        stopper_end();
}

void stopper_end(void)
{
    if (control >= 0)
        close(control);
    control = -1;
}

unsigned stopper_stops(void)
{
    return stops ? atomic_load(stops) : 0;
}
