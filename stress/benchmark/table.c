/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Tables: a line for each contender, a column for each parameter and metric, as Markdown that is
 * aligned to be read as it is. A cell is the median, the least and the most of all rounds, and the
 * ratio to the best peer (exitbus excluded), so that exitbus at 0.50× of a time is twice as fast.
 */
#include "output.h"
#include "results.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX 64
#define COLUMNS_SHOWN 6 /* side by side; more make another table */
#define PEERS_MAX 64
#define CELL_SIZE 96

struct shape {
    const struct series *columns[COLUMNS_MAX]; /* any series of that column */
    size_t column_count;
    const char *peers[PEERS_MAX];
    size_t peer_count;
};

static bool same_column(const struct series *a, const struct series *b)
{
    return strcmp(a->parameter, b->parameter) == 0 && strcmp(a->metric, b->metric) == 0;
}

static struct shape shape_of(const char *workload)
{
    struct shape shape = {0};
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        if (strcmp(series->workload, workload) != 0)
            continue;
        size_t column = 0, peer = 0;
        while (column < shape.column_count && !same_column(shape.columns[column], series))
            column++;
        if (column == shape.column_count && column < COLUMNS_MAX)
            shape.columns[shape.column_count++] = series;
        while (peer < shape.peer_count && strcmp(shape.peers[peer], series->peer) != 0)
            peer++;
        if (peer == shape.peer_count && peer < PEERS_MAX)
            shape.peers[shape.peer_count++] = series->peer;
    }
    return shape;
}

int number_text(char *text, size_t size, double value)
{
    if (value >= 1e6 || (value > 0 && value < 0.01))
        return snprintf(text, size, "%.3g", value);
    return snprintf(text, size, "%.*f", value < 10 ? 2 : value < 100 ? 1 : 0, value);
}

static void cell_text(char *cell, const struct series *series)
{
    char median[24], least[24], most[24];
    number_text(median, sizeof median, series->median);
    number_text(least, sizeof least, series->min);
    number_text(most, sizeof most, series->max);
    int used = snprintf(cell, CELL_SIZE, "%s (%s–%s)", median, least, most);
    const struct series *best = result_best_peer(series);
    bool is_ratio = strcmp(series->unit, "%") == 0; /* of which no ratio makes sense */
    if (best && best->median > 0 && !is_ratio)
        snprintf(cell + used, CELL_SIZE - (size_t)used, " %.2f×", series->median / best->median);
}

static void heading_text(char *cell, const struct series *series)
{
    snprintf(cell, CELL_SIZE, "%s%s%s, %s", series->parameter, *series->parameter ? " " : "",
             series->metric, series->unit);
}

/* Width as seen: bytes that begin a character. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(const char *text, int width)
{
    printf(" %s%*s |", text, width - width_of(text), "");
}

static void print_rule(int width)
{
    printf(" ");
    for (int i = 0; i < width; i++)
        printf("-");
    printf(" |");
}

static void print_columns(const char *workload, const struct shape *shape, size_t first,
                          size_t count)
{
    static char cells[PEERS_MAX + 1][COLUMNS_SHOWN][CELL_SIZE];
    int widths[COLUMNS_SHOWN] = {0}, name_width = 0;
    memset(cells, 0, sizeof cells);
    for (size_t row = 0; row <= shape->peer_count; row++) {
        for (size_t c = 0; c < count; c++) {
            const struct series *column = shape->columns[first + c];
            const struct series *series = row == 0
                                              ? column
                                              : result_find(workload, column->parameter,
                                                            shape->peers[row - 1], column->metric);
            if (row == 0)
                heading_text(cells[row][c], series);
            else if (series)
                cell_text(cells[row][c], series);
            int width = width_of(cells[row][c]);
            widths[c] = width > widths[c] ? width : widths[c];
        }
        int width = row == 0 ? 0 : width_of(shape->peers[row - 1]);
        name_width = width > name_width ? width : name_width;
    }
    for (size_t row = 0; row <= shape->peer_count; row++) {
        printf("|");
        print_cell(row == 0 ? "" : shape->peers[row - 1], name_width);
        for (size_t c = 0; c < count; c++)
            print_cell(cells[row][c], widths[c]);
        printf("\n");
        if (row > 0)
            continue;
        printf("|");
        print_rule(name_width);
        for (size_t c = 0; c < count; c++)
            print_rule(widths[c]);
        printf("\n");
    }
    printf("\n");
}

/* Columns of one parameter stay together where there are too many for one table. */
static size_t columns_together(const struct shape *shape, size_t first)
{
    size_t left = shape->column_count - first;
    if (left <= COLUMNS_SHOWN)
        return left;
    size_t count = COLUMNS_SHOWN;
    while (count > 1 && strcmp(shape->columns[first + count]->parameter,
                               shape->columns[first + count - 1]->parameter) == 0)
        count--;
    return count > 1 ? count : COLUMNS_SHOWN;
}

void table_begin(void)
{
    for (size_t i = 0; i < results.remark_count; i++)
        if (!*results.remarks[i].workload)
            printf("- %s\n", results.remarks[i].text);
    printf("\nA cell is the median of all rounds, in parentheses the least and the most, and the "
           "ratio to the\nbest peer: 0.50× is half its time, or half its rate (`/s`).\n\n");
    fflush(stdout);
}

void table_print(const struct workload *workload)
{
    struct shape shape = shape_of(workload->name);
    printf("## %s\n\n%s\n\n", workload->name, workload->what);
    for (size_t first = 0; first < shape.column_count;) {
        size_t count = columns_together(&shape, first);
        print_columns(workload->name, &shape, first, count);
        first += count;
    }
    for (size_t i = 0; i < results.remark_count; i++) {
        const struct remark *remark = &results.remarks[i];
        if (strcmp(remark->workload, workload->name) != 0)
            continue;
        if (remark->peer)
            printf("- left out: %s (%s)\n", remark->peer, remark->text);
        else
            printf("- %s\n", remark->text);
    }
    for (size_t i = 0; i < results.trip_count; i++)
        if (strcmp(results.trips[i].workload, workload->name) == 0)
            printf("- a cache line to the other core and back: %.0f ns before, %.0f ns after\n",
                   results.trips[i].before_ns, results.trips[i].after_ns);
    printf("\n");
    fflush(stdout);
}
