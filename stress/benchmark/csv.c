/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The results as CSV, written and read back: a line for each series, a column for each round.
 *
 *     workload,parameter,contender,metric,unit,round 1,round 2
 *     burst,N=1,exitbus,publish,ns,26.975,27.041
 *
 * - Metric `note`: no series but a remark, whose text stands in the place of the unit.
 * - Metric `round trip`: no series but the distance of the cores; round 1 before, round 2 after.
 * - A field with a comma or a quotation mark is quoted, as RFC 4180 has it. None has a line break.
 * - A series with fewer rounds than others has empty fields at its end.
 */
#include "options.h"
#include "output.h"
#include "results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTE "note"
#define ROUND_TRIP "round trip"

enum { WORKLOAD, PARAMETER, PEER, METRIC, UNIT, NAMES };

static const char heading[] = "workload,parameter,contender,metric,unit";

/* -------------------------------------------------------------------------------------- write */

static void write_name(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++)
        fprintf(file, *text == '"' ? "\"\"" : "%c", *text);
    fputc('"', file);
}

static void write_line(FILE *file, const char *const names[NAMES], const double *values,
                       size_t count, size_t columns)
{
    for (size_t i = 0; i < NAMES; i++) {
        if (i > 0)
            fputc(',', file);
        write_name(file, names[i]);
    }
    for (size_t i = 0; i < columns; i++) {
        fputc(',', file);
        if (i < count)
            fprintf(file, "%.5g", values[i]);
    }
    fputc('\n', file);
}

static void write_remarks(FILE *file, size_t columns)
{
    for (size_t i = 0; i < results.remark_count; i++) {
        const struct remark *remark = &results.remarks[i];
        const char *const names[NAMES] = {remark->workload, "", remark->peer ? remark->peer : "",
                                          NOTE, remark->text};
        write_line(file, names, NULL, 0, columns);
    }
}

static void write_round_trips(FILE *file, size_t columns)
{
    for (size_t i = 0; i < results.trip_count; i++) {
        const struct round_trip *trip = &results.trips[i];
        const char *const names[NAMES] = {trip->workload, "", "", ROUND_TRIP, "ns"};
        write_line(file, names, (const double[]){trip->before_ns, trip->after_ns}, 2, columns);
    }
}

static void write_series(FILE *file, size_t columns)
{
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        const char *const names[NAMES] = {series->workload, series->parameter, series->peer,
                                          series->metric, series->unit};
        write_line(file, names, series->values, series->count, columns);
    }
}

/* The most rounds of any series; a round trip has two. */
static size_t columns_needed(void)
{
    size_t columns = 2;
    for (size_t i = 0; i < results.count; i++)
        columns = results.series[i].count > columns ? results.series[i].count : columns;
    return columns;
}

bool csv_write(const char *name)
{
    FILE *file = fopen(name, "w");
    if (file) {
        size_t columns = columns_needed();
        fputs(heading, file);
        for (size_t i = 0; i < columns; i++)
            fprintf(file, ",round %zu", i + 1);
        fputc('\n', file);
        write_remarks(file, columns);
        write_round_trips(file, columns);
        write_series(file, columns);
        bool failed = ferror(file);
        if (fclose(file) == 0 && !failed)
            return true;
    }
    fprintf(stderr, "exitbus-bench: cannot write %s: %s\n", name, strerror(errno));
    return false;
}

/* --------------------------------------------------------------------------------------- read */

/* Cut the next field off `*rest`, in place, without its quotation marks. NULL: there is no more. */
static char *next_field(char **rest)
{
    char *from = *rest, *to = *rest, *field = *rest;
    if (!from)
        return NULL;
    for (bool quoted = false; *from && (quoted || *from != ','); from++) {
        if (*from == '"' && quoted && from[1] == '"')
            *to++ = *from++;
        else if (*from == '"')
            quoted = !quoted;
        else
            *to++ = *from;
    }
    *rest = *from ? from + 1 : NULL;
    *to = '\0';
    return field;
}

static bool is_wanted(char *const names[NAMES])
{
    bool named =
        !bench.workloads || !*names[WORKLOAD] || options_named(bench.workloads, names[WORKLOAD]);
    return named && (!*names[PEER] || bench_wants(names[PEER]));
}

/* The numbers of a line, up to the first empty field. False: one of them is none. */
static bool read_values(char *rest, double *values, size_t *count)
{
    *count = 0;
    for (char *field, *end; (field = next_field(&rest)) && *field; (*count)++) {
        if (*count == ROUNDS_MAX)
            return false;
        values[*count] = strtod(field, &end);
        if (*end)
            return false;
    }
    return true;
}

/* False: it is no line that csv_write() writes. */
static bool read_line(char *line)
{
    static double values[ROUNDS_MAX];
    char *names[NAMES], *rest = line;
    size_t count;
    for (size_t i = 0; i < NAMES; i++)
        if (!(names[i] = next_field(&rest)))
            return false;
    if (!read_values(rest, values, &count))
        return false;
    if (!is_wanted(names))
        return true;
    if (strcmp(names[METRIC], NOTE) == 0) {
        if (*names[PEER])
            result_leave_out(names[WORKLOAD], names[PEER], names[UNIT]);
        else
            result_note(names[WORKLOAD], "%s", names[UNIT]);
    } else if (strcmp(names[METRIC], ROUND_TRIP) == 0) {
        if (count != 2)
            return false;
        result_round_trip(names[WORKLOAD], values[0], values[1]);
    } else {
        for (size_t i = 0; i < count; i++)
            result_add(names[WORKLOAD], names[PARAMETER], names[PEER], names[METRIC], names[UNIT],
                       values[i]);
        return count > 0;
    }
    return true;
}

void csv_read(const char *name)
{
    FILE *file = fopen(name, "r");
    if (!file)
        bench_die("cannot read %s: %s", name, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    for (unsigned number = 1; getline(&line, &room, file) >= 0; number++) {
        line[strcspn(line, "\r\n")] = '\0';
        if (number == 1 ? strncmp(line, heading, sizeof heading - 1) != 0 : !read_line(line))
            bench_die("%s: line %u is not of a result", name, number);
    }
    if (ferror(file))
        bench_die("cannot read %s", name);
    free(line);
    fclose(file);
}
