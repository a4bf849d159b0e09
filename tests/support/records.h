/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Events whose every part is a function of their seq and width, for tests of queues and logs. */
#ifndef RECORDS_H
#define RECORDS_H

#include "event/event.h"
#include "support/events.h"
#include "support/harness.h"

/* Returns event `seq` as each thread that appends it makes it, `cells` wide. */
static inline struct exitbus_event event_make(uint64_t seq, unsigned cells)
{
    struct exitbus_event event =
        cells == 1 ? pid_event((pid_t)(seq % INT32_MAX) + 1) : exec_event("c", "");
    event.user_us = seq;
    event.system_us = ~seq;
    event.monotonic_ns = seq + 1;
    event.realtime_ns = cells;
    if (cells > 1) {
        size_t size = (cells - 1) * CELL_PAYLOAD;
        if (size > 2 * EXITBUS_ID_MAX)
            size = 2 * EXITBUS_ID_MAX;
        size_t half = size / 2;
        id_fill(event.container_id, size - half, (char)('a' + seq % 8));
        id_fill(event.exec_id, half, (char)('A' + seq % 8));
    }
    return event;
}

/* How wide event seq is in tests with mixed widths: mostly narrow, sometimes of any width. */
static inline unsigned mixed_width(uint64_t seq)
{
    uint64_t random = seq * 0x9e3779b97f4a7c15ULL + 1;
    return random_below(&random, 3) > 0 ? 1 : 1 + random_below(&random, RECORD_CELLS_MAX);
}

static inline void must_be_event(const struct exitbus_event *event, uint64_t seq, unsigned cells)
{
    struct exitbus_event expected = event_make(seq, cells);
    must_equal(event->seq, seq);
    must(event_carries(event, &expected));
}

#endif
