/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A plugin that contains the static library is unloaded when it has destroyed its bus; then a
 * thread ends that was in it, whose destructor is the library's, and the worker is there still. So
 * the code must stay mapped.
 *
 * Exit status: 0 passed, 1 failed.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *plugin;

static void must(int condition, const char *what)
{
    if (condition)
        return;
    const char *error = dlerror();
    fprintf(stderr, "unloaded_plugin: FAILED: %s: %s\n", what, error ? error : "?");
    exit(1);
}

static void *work_and_unload(void *unused)
{
    int (*work)(void);
    void *symbol = dlsym(plugin, "plugin_work");
    must(symbol != NULL, "dlsym");
    memcpy(&work, &symbol, sizeof work);
    must(work() == 0, "plugin_work");
    must(dlclose(plugin) == 0, "dlclose");
    return unused;
}

int main(void)
{
    pthread_t thread;
    for (int i = 0; i < 3; i++) {
        plugin = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
        must(plugin != NULL, "dlopen");
        must(pthread_create(&thread, NULL, work_and_unload, NULL) == 0, "pthread_create");
        must(pthread_join(thread, NULL) == 0, "pthread_join"); /* crashed, if it was unmapped */
    }
    must(dlopen(PLUGIN, RTLD_NOW | RTLD_NOLOAD) != NULL, "still there");
    puts("unloaded_plugin: passed");
    return 0;
}
