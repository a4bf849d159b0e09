/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Scenarios that are shared objects: see plugin.h. */
#include "plugin.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "calls.h"
#include "worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define THREADS_MAX 64

static struct crew *crew; /* of the plug-in that is just starting its threads */
static struct publisher publishers[PRODUCERS_MAX];
static struct {
    void (*body)(void *argument);
    void *argument;
} threads[THREADS_MAX];
static unsigned thread_count;

static void *thread_main(void *number)
{
    unsigned i = (unsigned)(uintptr_t)number;
    threads[i].body(threads[i].argument);
    return NULL;
}

static int start_thread(const char *name, void (*body)(void *argument), void *argument)
{
    if (thread_count == THREADS_MAX)
        return -EAGAIN;
    threads[thread_count].body = body;
    threads[thread_count].argument = argument;
    if (!crew_add(crew, name, thread_count++, thread_main))
        return -EAGAIN;
    atomic_store(&crew->workers[crew->count - 1]->guest, true);
    return 0;
}

static int producer(struct subject_topic *topic)
{
    struct publisher publisher;
    if (!publisher_claim(&publisher))
        return -EAGAIN;
    publishers[publisher.producer] = publisher;
    *topic = synthetic_own_topic(publisher.producer);
    return (int)publisher.producer;
}

static bool over(void)
{
    return flag(&world->stop_churn);
}

static void nap_or_end(uint64_t ns)
{
    nap(ns, &world->stop_churn);
}

static unsigned random_number(unsigned limit)
{
    return random_below(&self->random, limit);
}

static bool send_events(int number, unsigned count_)
{
    return publisher_send(&publishers[number], count_);
}

static enum guarantee guarantee_of(uint32_t claim)
{
    for (int g = 0; g < GUARANTEES; g++)
        if (claim == 1u << g)
            return (enum guarantee)g;
    return CLEAN_FAILURE;
}

static void checked(uint32_t claim, uint64_t checks)
{
    verdict_checked(guarantee_of(claim), checks);
}

static void violated(uint32_t claim, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void violated(uint32_t claim, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    verdict_violated(guarantee_of(claim), "%s", text);
}

static struct scenario_engine engine = {
    .start_thread = start_thread,
    .producer = producer,
    .over = over,
    .nap = nap_or_end,
    .random_below = random_number,
    .send = send_events,
    .subscribe = subscribe_surely,
    .unsubscribe = call_unsubscribe,
    .receive = call_receive,
    .checked = checked,
    .violated = violated,
};

const char *plugin_unfit(const struct scenario_plugin *plugin)
{
    engine.subject = world->subject;
    return plugin->unfit ? plugin->unfit(&engine) : NULL;
}

void plugin_forget(void)
{
    thread_count = 0;
}

void plugin_start(const struct scenario_plugin *plugin, struct crew *visitors)
{
    crew = visitors;
    plugin->start(&engine);
}

int plugin_load(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "exitbus-stress: %s\n", dlerror());
        return -1;
    }
    const struct scenario_plugin *plugin = dlsym(handle, SCENARIO_SYMBOL);
    const char *fault = NULL;
    if (!plugin)
        fault = "does not define " SCENARIO_SYMBOL;
    else if (plugin->abi != SCENARIO_ABI)
        fault = "is made for another version of scenario.h";
    else if (!plugin->name || !plugin->hunts || !plugin->start)
        fault = "lacks one of name, hunts, start";
    else if (scenario_named(plugin->name))
        fault = "has the name of another scenario";
    else if (!scenario_add(plugin))
        fault = "is one too many";
    if (!fault)
        return 0;
    fprintf(stderr, "exitbus-stress: %s %s\n", path, fault);
    return -1;
}
