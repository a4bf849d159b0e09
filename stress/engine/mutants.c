/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mutants.h"
int mutants_run(void)
{
    return 0;
}
