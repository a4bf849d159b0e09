/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What all threads of a stress run share: its options, the subject and its bus, how far each
 * producer has got, and when to stop. The order of the end: first those stop who come and go, then
 * the producers, then all queues are drained.
 */
#ifndef STRESS_WORLD_H
#define STRESS_WORLD_H

#include "../subject.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PRODUCERS_MAX 32
/* Producers from here on publish to a topic of their own: see synthetic.h. */
#define PRODUCERS_COMMON 16
#define STEADY_MAX 16
#define PLUGINS_MAX 8
/* Most events in one call. */
#define BATCH 64

/* Ways to write the result. */
enum output { OUTPUT_JSON, OUTPUT_PAGE, OUTPUT_JUNIT, OUTPUT_TAP, OUTPUT_TRACE, OUTPUTS };

struct options {
    unsigned seconds;
    uint64_t seed;
    unsigned producers;
    unsigned steady;   /* subscribers to everything that stay for the whole run */
    unsigned patience; /* seconds after which a call that should have returned hangs */
    const char *subject;
    const char *plugins[PLUGINS_MAX]; /* shared objects with scenarios */
    unsigned plugin_count;
    const char *scenarios;        /* names, separated by commas; NULL: all */
    const char *child;            /* the program that spawners start */
    const char *outputs[OUTPUTS]; /* files; NULL: not wanted */
    const char *history;
    uint64_t schedules;   /* so many are tried */
    const char *schedule; /* this one */
    const char *outcomes; /* of this small scene, or "all" */
    unsigned every;       /* seconds between two lines of statistics, where there is no terminal */
    unsigned repeat;      /* so many runs */
    bool until_failure;
    bool keep_going; /* after a violation, until the time is over */
    bool mutants;
    bool median; /* of the times after which each is caught */
    bool list;
    bool inside; /* in namespaces of its own: see sandbox.c */
    int argc;
    char **argv;
};

struct producer {
    alignas(64) _Atomic uint64_t begun; /* number of the latest event whose publish has begun */
    _Atomic uint64_t done;              /* and of the latest whose publish has returned */
};

/* What a run has come to. */
enum ending {
    ENDING_NONE,    /* nothing: it has crashed */
    ENDING_REFUSED, /* it could not begin, and has said why */
    ENDING_WHOLE,   /* its end, with all checks */
    ENDING_EARLY,   /* a violation that kept threads from their end */
    ENDING_FAILED,  /* a call without which there is no run has failed */
    ENDING_HANG,
    ENDING_STILL /* a hang of the engine's own threads, which the process that watches ended */
};

struct world {
    struct options options;
    const struct subject *subject; /* in the process of the run; the reports have what follows */
    char subject_name[64];
    char subject_summary[256];
    uint32_t claims;
    char schedule[96];  /* the one that is running */
    _Atomic bool begun; /* there is a subject */
    _Atomic uint32_t ending;
    _Atomic uint64_t beat_ns; /* the latest of its heart; 0: none is expected */
    void *bus;
    struct producer producers[PRODUCERS_MAX];
    alignas(64) _Atomic uint64_t latest_seq; /* highest seq that a publish has returned with */
    alignas(64) _Atomic uint64_t issued;     /* synthetic events published */
    struct {
        alignas(64) _Atomic uint64_t taken;
    } steady[STEADY_MAX]; /* synthetic events each has received: the producers' brake */
    alignas(64) _Atomic bool stop_churn; /* stages of the end, in this order */
    _Atomic bool stop_producers;
    _Atomic bool drained; /* all that was published is in the queues */
    /* Odd while something is made scarce: then an error for want of it is no violation. */
    _Atomic unsigned starved;       /* of memory */
    _Atomic unsigned without_fds;   /* of descriptors */
    _Atomic unsigned residents;     /* steady subscriptions that have begun */
    _Atomic unsigned own_producers; /* producers with a pid of their own, so far */
    _Atomic uint64_t deliveries;
    _Atomic uint64_t subscriptions;
    _Atomic uint64_t children;  /* real ones whose exit must come, orphans and forks included */
    _Atomic uint64_t exits;     /* received by whoever waited for that child */
    _Atomic uint64_t seen;      /* real exits that the first steady subscriber has received */
    _Atomic uint64_t pids_back; /* of kept handles, that another child has got */
    uint64_t begin_ns;
};

extern struct world *world; /* shared: see shared.h */

/* A small generator for each thread. */
struct random {
    uint64_t state;
};

static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

static inline uint64_t random_next(struct random *random)
{
    return mix(random->state += 0x9e3779b97f4a7c15ULL);
}

static inline unsigned random_below(struct random *random, unsigned limit)
{
    return (unsigned)((random_next(random) >> 32) * limit >> 32);
}

/* A generator that depends on the seed, the kind of thread and its number. */
static inline struct random random_for(uint64_t kind, uint64_t number)
{
    return (struct random){mix(world->options.seed ^ mix(kind << 32 | number))};
}

static inline bool flag(const _Atomic bool *what)
{
    return atomic_load_explicit(what, memory_order_acquire);
}

static inline void count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static inline bool can(uint32_t feature)
{
    return world->subject->features & feature;
}

static inline bool knows_topic(int kind)
{
    return world->subject->topics & SUBJECT_TOPIC_BIT(kind);
}

uint64_t now_ns(void);

/* Sleep, though not beyond `until` turning true by more than a millisecond. */
void nap(uint64_t ns, const _Atomic bool *until);

/* How long an answer may take. */
static inline int64_t patience_ns(void)
{
    return (int64_t)world->options.patience * 1000000000;
}

/* Wait for a condition as long as patience allows. */
#define await(condition)                                                                           \
    for (uint64_t until = now_ns() + (uint64_t)patience_ns();                                      \
         !(condition) && now_ns() < until;)                                                        \
    nap(1000000, NULL)

#endif
