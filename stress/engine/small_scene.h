/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One small scene of --outcomes: see outcomes.h. Its threads and its rounds are outcomes.c's. */
#ifndef STRESS_SMALL_SCENE_H
#define STRESS_SMALL_SCENE_H

#include "../checks/verdict.h"

#define SUBSCRIPTIONS 2
#define THREADS 2

/* Of one round: what each receive has found, in the order in which the scene asks. */
struct round_of {
    void *subscriptions[SUBSCRIPTIONS];
    bool ended;                 /* the first */
    char found[THREADS + 1][8]; /* by thread; the last: behind both */
};

/* An outcome: what thread 0 found, what thread 1 found, and what was there in the end. */
struct small_scene {
    const char *name;
    const char *what;
    const char *allowed;   /* outcomes, with a space before and behind each */
    const char *forbidden; /* why all others are */
    enum guarantee guarantee;
    bool shares;    /* threads use one subscription */
    bool has_children;
    void (*prepare)(struct round_of *round_);
    void (*play[THREADS])(struct round_of *round_);
    void (*finish)(struct round_of *round_);
};

#define TASK_SCENES 2
extern const struct small_scene task_scenes[TASK_SCENES], handle_scene;

#endif
