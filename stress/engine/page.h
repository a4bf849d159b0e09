/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The report as one page of HTML that needs nothing else: template, chart library and data. */
#ifndef STRESS_PAGE_H
#define STRESS_PAGE_H

#include <jansson.h>

/* 0, or -1 with errno. */
int page_write(const json_t *report, const char *path);

#endif
