/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A small scene of process handles, with real children: a wait that has timed out, and then a kill,
 * while the child exits by itself and another child gets its pid.
 */
#include "calls.h"
#include "children.h"
#include "ends.h"
#include "small_scene.h"
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define NAP_NS 300000
/* Only in a pid namespace that this program is among the first processes of. */
#define EARLY_PID 16

static struct {
    pid_t pid, stranger;
    int gate, stranger_gate;
    void *process;
} box;

static void run_child(struct round_of *round_)
{
    (void)round_;
    memset(&box, 0, sizeof box);
    must(child_past(&box.pid, "0", false, &box.gate), "start a child");
    must(call_adopt(box.pid, &box.process), "process_adopt");
}

static int status_of(void *process)
{
    int status = -1;
    int result = call_process_wait(process, &status, patience_ns());
    if (result < 0)
        verdict_violated(WAITS_END, "process_wait: %s", strerror(-result));
    return status;
}

/* The child exits, and another gets its pid. */
static void make_a_stranger(struct round_of *round_)
{
    (void)round_;
    nap(random_below(&self->random, NAP_NS), NULL);
    child_let_go(box.gate);
    status_of(box.process);
    if (getpid() <= EARLY_PID)
        child_wish_pid(box.pid);
    must(child_past(&box.stranger, "0", false, &box.stranger_gate), "start a child");
}

/* w: it has ended in time; k: the kill was sent; g: it was gone by then. */
static void wait_and_kill(struct round_of *round_)
{
    int status, result;
    result = call_process_wait(box.process, &status, 1 + random_below(&self->random, NAP_NS));
    if (result == -ETIMEDOUT) {
        nap(random_below(&self->random, 3 * NAP_NS), NULL);
        result = call_signal(box.process, SIGKILL);
        round_->found[1][0] = result == 0 ? 'k' : 'g';
    } else {
        round_->found[1][0] = 'w';
    }
    if (result < 0 && result != -ESRCH)
        verdict_violated(CLEAN_FAILURE, "wait, then kill: %s", strerror(-result));
}

/* r: the stranger has the child's pid; -: another; x: it was killed. */
static void look_at_the_stranger(struct round_of *round_)
{
    void *process;
    char *found = round_->found[THREADS];
    call_signal(box.process, SIGKILL);
    int gone = call_adopt(box.stranger, &process);
    child_let_go(box.stranger_gate);
    found[0] = box.stranger == box.pid ? 'r' : '-';
    if (gone || status_of(process) != 0)
        found[1] = 'x';
    if (!gone)
        must(call_process_release(process), "process_release");
    must(call_process_release(box.process), "process_release");
}

const struct small_scene handle_scene = {
    "wait-then-kill",
    "a child exits, and another gets its pid; a wait for the first times out, and it is killed: w "
    "in time, k killed, g gone; r the pid came back",
    " /w/r /w/- /k/r /k/- /g/r /g/- ",
    "a stranger was killed (x)",
    SIGNALS_HIT,
    false,
    true,
    run_child,
    {make_a_stranger, wait_and_kill},
    look_at_the_stranger};
