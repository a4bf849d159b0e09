/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The test hook of probe.h. Only builds for tests have it. */
#include "base/probe.h"

#ifdef EXITBUS_TEST_HOOKS
void (*exitbus_probe_hook)(enum probe step);
#else
typedef int hooks_not_in_this_build;
#endif
