/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The test hook of platform.h; only in builds for tests. */
#include "platform.h"

#ifdef EXITBUS_TEST_HOOKS
void (*exitbus_test_step)(enum test_step step);
#else
typedef int hooks_not_in_this_build;
#endif
