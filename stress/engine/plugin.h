/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Scenarios that are shared objects: see ../scenario.h. */
#ifndef STRESS_PLUGIN_H
#define STRESS_PLUGIN_H

#include "../scenario.h"
#include "../scenarios/scenarios.h"

/* Load one, and add it to the scenarios. Returns 0, or -1 with a message. */
int plugin_load(const char *path);

/* What scenarios of plug-ins do in the place of their own functions. */
const char *plugin_unfit(const struct scenario_plugin *plugin);
/* Threads are numbered from 0 again. Context: there are none. */
void plugin_forget(void);
void plugin_start(const struct scenario_plugin *plugin, struct crew *visitors);

#endif
