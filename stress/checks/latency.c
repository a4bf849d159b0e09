/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Latencies: see latency.h. */
#include "latency.h"
#include "../engine/shared.h"

#include <gsl/gsl_histogram.h>
#include <math.h>
#include <pthread.h>

/* From 100 ns to 100 s, 100 bins to a decade: quantiles to 2.3 %. */
#define LOWEST_NS 100.0
#define DECADES 9
#define BINS_PER_DECADE 100
#define BINS (DECADES * BINS_PER_DECADE)

const char *const latency_names[LATENCIES] = {"publish to received, from sleep",
                                              "exit collected to received", "kill to received"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct latencies {
    struct {
        double ranges[BINS + 1], bins[BINS];
        double longest;
        uint64_t count;
    } of[LATENCIES];
} * latencies;
static gsl_histogram histograms[LATENCIES];

void latency_init(void)
{
    if (!latencies)
        latencies = shared_alloc(sizeof *latencies);
    for (int i = 0; i < LATENCIES; i++) {
        double *ranges = latencies->of[i].ranges;
        for (int b = 0; b <= BINS; b++)
            ranges[b] = LOWEST_NS * pow(10, (double)b / BINS_PER_DECADE);
        histograms[i] = (gsl_histogram){BINS, ranges, latencies->of[i].bins};
    }
}

void latency_add(enum latency which, uint64_t ns)
{
    double value = fmax((double)ns, LOWEST_NS);
    pthread_mutex_lock(&lock);
    gsl_histogram_increment(&histograms[which], value);
    latencies->of[which].count++;
    if (value > latencies->of[which].longest)
        latencies->of[which].longest = value;
    pthread_mutex_unlock(&lock);
}

struct latency_summary latency_summarize(enum latency which)
{
    struct latency_summary summary = {.count = latencies->of[which].count,
                                      .max = latencies->of[which].longest / 1000};
    if (summary.count == 0)
        return summary;
    gsl_histogram_pdf *cumulative = gsl_histogram_pdf_alloc(BINS);
    gsl_histogram_pdf_init(cumulative, &histograms[which]);
    /* Sampling at a point of [0, 1) is the quantile function. */
    /* Bins are coarser than the longest of all. */
    summary.p50 = fmin(gsl_histogram_pdf_sample(cumulative, 0.5) / 1000, summary.max);
    summary.p99 = fmin(gsl_histogram_pdf_sample(cumulative, 0.99) / 1000, summary.max);
    summary.p999 = fmin(gsl_histogram_pdf_sample(cumulative, 0.999) / 1000, summary.max);
    gsl_histogram_pdf_free(cumulative);
    return summary;
}

static json_t *buckets(enum latency which)
{
    json_t *array = json_array();
    for (size_t i = 0; i < BINS; i++) {
        double lower, upper, value = gsl_histogram_get(&histograms[which], i);
        gsl_histogram_get_range(&histograms[which], i, &lower, &upper);
        if (value > 0)
            json_array_append_new(array, json_pack("[f, I]", upper / 1000, (json_int_t)value));
    }
    return array;
}

json_t *latency_json(void)
{
    json_t *array = json_array();
    for (int i = 0; i < LATENCIES; i++) {
        struct latency_summary s = latency_summarize((enum latency)i);
        if (s.count > 0)
            json_array_append_new(
                array, json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:o}", "name", latency_names[i],
                                 "count", (json_int_t)s.count, "p50", s.p50, "p99", s.p99, "p999",
                                 s.p999, "max", s.max, "buckets", buckets((enum latency)i)));
    }
    return array;
}
