/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tools/forward/output.h"

#include <errno.h>
#include <string.h>

int output_done(struct output *output, const char **why)
{
    (void)output;
    (void)why;
    return 0;
}

struct output *output_open(const struct output_options *options)
{
    if (strncmp(options->target, "json:", 5) == 0 && options->target[5])
        return output_json_open(options->target + 5);
    if (strcmp(options->target, "journal") == 0)
        return output_journal_open();
    if (strncmp(options->target, "nats:", 5) == 0 && options->target[5])
        return output_nats_open(options);
    errno = EINVAL;
    return NULL;
}

#ifndef FORWARD_JOURNAL
struct output *output_journal_open(void)
{
    errno = ENOTSUP;
    return NULL;
}
#endif

#ifndef FORWARD_NATS
struct output *output_nats_open(const struct output_options *options)
{
    (void)options;
    errno = ENOTSUP;
    return NULL;
}
#endif
