/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The report as one page of HTML that needs nothing else: template, chart library and data. */
#ifndef STRESS_PAGE_H
#define STRESS_PAGE_H

#include <jansson.h>
#include <stdio.h>

/* 0, or -1. */
int page_write(const json_t *report, FILE *file);

#endif
