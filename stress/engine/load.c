/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Subjects by name: see load.h. */
#include "load.h"
#include "../subjects/subjects.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct subject *const built_in[] = {&exitbus_stress_subject, &subject_mutex,
                                                 &subject_bounded, &subject_ck_fifo, &subject_glib};
#define BUILT_IN (sizeof built_in / sizeof built_in[0])

/* What comes all or not at all. NULL if all is well. */
static const char *fault_of_families(const struct subject *subject)
{
    int of_tasks = !!subject->task_create + !!subject->task_release + !!subject->exec_reserve +
                   !!subject->exec_started + !!subject->exec_cancel + !!subject->exec_wait +
                   !!subject->exec_release;
    int of_handles = !!subject->process_adopt + !!subject->process_signal +
                     !!subject->process_wait + !!subject->process_release;
    int of_groups = !!subject->group_create + !!subject->group_add + !!subject->group_end +
                    !!subject->group_wait + !!subject->group_release;
    if (of_tasks % 7 != 0 || of_handles % 4 != 0 || of_groups % 5 != 0)
        return "has some of the functions of tasks, handles or groups, and lacks others";
    return of_groups && !of_handles ? "has groups but no handles" : NULL;
}

/* NULL if all is well. */
static const char *fault_of(const struct subject *subject)
{
    if (subject->abi != SUBJECT_ABI)
        return "is made for another version of subject.h";
    if (!subject->name || !subject->summary)
        return "has no name or summary";
    if (!subject->create || !subject->destroy || !subject->publish || !subject->subscribe ||
        !subject->unsubscribe || !subject->receive)
        return "lacks one of create, destroy, publish, subscribe, unsubscribe, receive";
    if (!(subject->topics & SUBJECT_TOPIC_BIT(SUBJECT_TOPIC_ALL)))
        return "does not know SUBJECT_TOPIC_ALL";
    if (!subject->reaper_start != !subject->reaper_stop || !subject->ref != !subject->unref)
        return "has one of a pair of functions";
    if (subject->spawn && !subject->reaper_start)
        return "spawns but does not reap";
    return fault_of_families(subject);
}

static const struct subject *load_file(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "exitbus-stress: %s\n", dlerror());
        return NULL;
    }
    const struct subject *subject = dlsym(handle, SUBJECT_SYMBOL);
    const char *fault = subject ? fault_of(subject) : "does not define " SUBJECT_SYMBOL;
    if (!fault)
        return subject;
    fprintf(stderr, "exitbus-stress: %s %s\n", path, fault);
    return NULL;
}

const struct subject *subject_load(const char *name)
{
    for (size_t i = 0; i < BUILT_IN; i++)
        if (strcmp(name, built_in[i]->name) == 0)
            return built_in[i];
    if (strchr(name, '/'))
        return load_file(name);
    char self_path[PATH_MAX] = "", path[PATH_MAX + NAME_MAX];
    if (readlink("/proc/self/exe", self_path, sizeof self_path - 1) > 0) {
        snprintf(path, sizeof path, "%s/subject-%s.so", dirname(self_path), name);
        if (access(path, R_OK) == 0)
            return load_file(path);
    }
    bool file = access(name, F_OK) == 0;
    fprintf(stderr, "exitbus-stress: there is no subject '%s'; %s%s\n", name,
            file ? "of a file, give the path: ./" : "--list shows those there are",
            file ? name : "");
    return NULL;
}

void subject_list(void)
{
    for (size_t i = 0; i < BUILT_IN; i++)
        printf("  %-18s %s\n", built_in[i]->name, built_in[i]->summary);
}
