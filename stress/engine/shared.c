/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory that outlives a run: see shared.h. */
#include "shared.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define AREAS_MAX 32

static struct {
    void *address;
    size_t size;
} areas[AREAS_MAX];
static size_t area_count;

void *shared_alloc(size_t size)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED || area_count == AREAS_MAX) {
        perror("exitbus-stress: memory for the reports");
        exit(EXIT_ENVIRONMENT);
    }
    areas[area_count].address = area;
    areas[area_count++].size = size;
    return area;
}

void shared_clear(void)
{
    for (size_t i = 0; i < area_count; i++)
        memset(areas[i].address, 0, areas[i].size);
}
