/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The page: see page.h. The template and Chart.js (the MIT-licensed library, from Debian's package
 * libjs-chart.js) are part of the program; two marks in the template say where what goes.
 */
#include "page.h"

#include <stdlib.h>
#include <string.h>

#define EMBED(name, path)                                                                          \
    __asm__(".pushsection .rodata\n.global " #name "\n" #name ":\n.incbin \"" path                 \
            "\"\n.byte 0\n.popsection\n");                                                         \
    extern const char name[]

EMBED(page_template, PAGE_TEMPLATE);
EMBED(page_chart_js, PAGE_CHART_JS);

#define CHART_MARK "/*CHART_JS*/"
#define DATA_MARK "/*REPORT_JSON*/null"

/* Inside a <script>: no "</script>" can come up if there is no '<'. */
static void put_data(const char *text, FILE *file)
{
    for (; *text; text++)
        if (*text == '<')
            fputs("\\u003c", file);
        else
            fputc(*text, file);
}

int page_write(const json_t *report, FILE *file)
{
    const char *chart = strstr(page_template, CHART_MARK);
    const char *data = chart ? strstr(chart, DATA_MARK) : NULL;
    char *text = data ? json_dumps(report, JSON_COMPACT) : NULL;
    if (!text)
        return -1;
    const char *after_chart = chart + strlen(CHART_MARK);
    fwrite(page_template, 1, (size_t)(chart - page_template), file);
    fputs(page_chart_js, file);
    fwrite(after_chart, 1, (size_t)(data - after_chart), file);
    put_data(text, file);
    fputs(data + strlen(DATA_MARK), file);
    free(text);
    return 0;
}
