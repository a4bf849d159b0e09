/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* From a spool to an output: see sender.h. */
#include "tools/forward/sender.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH_BYTES (4u << 20)

/* The first of all cursors begins with the first record that there was. A later one, and one that
 * was damaged, begins with the oldest that is left: others have had what was removed. */
static uint64_t first_number(const struct sender *sender, bool is_damaged)
{
    uint64_t lowest, highest, first = 1;
    struct segments segments;
    cursors_read(sender->directory, sender->cursor_name, &lowest, &highest);
    if ((highest > 0 || is_damaged) && segments_read(sender->directory, &segments) == 0) {
        if (segments.count > 0)
            first = segments.list[0].first;
        segments_free(&segments);
    }
    return first;
}

/* A cursor that can't be read is begun anew: what is in the spool is sent, perhaps once more. */
static int read_cursor(struct sender *sender)
{
    struct note note;
    sender->cursor = note_open(sender->directory, sender->cursor_name);
    if (sender->cursor < 0)
        return sender->cursor;
    int result = note_read(sender->cursor, &note);
    if (result == -EBADMSG)
        fprintf(stderr, "exitbus-forward: %s is damaged: beginning with the oldest record\n",
                sender->cursor_name);
    else if (result < 0 && result != -ENODATA)
        return result;
    if (note.number == 0)
        note.number = first_number(sender, result == -EBADMSG);
    note_write(sender->cursor, &note); /* a full disk: once more when there is progress */
    return spool_reader_open(&sender->reader, sender->directory, note.number);
}

int sender_open(struct sender *sender, const char *spool, const char *name, struct output *output)
{
    sender->output = output;
    sender->cursor = sender->reader.segment = -1;
    snprintf(sender->origin.cursor, sizeof sender->origin.cursor, "%s", name);
    snprintf(sender->cursor_name, sizeof sender->cursor_name, "%s.cursor", name);
    sender->directory = spool_directory(spool);
    if (sender->directory < 0)
        return sender->directory;
    int result = 0;
    for (size_t i = 0; i < 2; i++) {
        sender->batches[i].messages = calloc(OUTPUT_BATCH, sizeof(struct message));
        result = sender->batches[i].messages ? result : -ENOMEM;
    }
    if (result == 0)
        result = read_cursor(sender);
    if (result < 0)
        sender_close(sender);
    return result;
}

static void batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        message_free(&batch->messages[i]);
    batch->count = 0;
    batch->passed = 0;
}

void sender_close(struct sender *sender)
{
    for (size_t i = 0; i < 2; i++) {
        batch_clear(&sender->batches[i]);
        free(sender->batches[i].messages);
        sender->batches[i].messages = NULL;
    }
    spool_reader_close(&sender->reader);
    if (sender->cursor >= 0)
        close(sender->cursor);
    if (sender->directory >= 0)
        close(sender->directory);
    sender->cursor = sender->directory = -1;
}

/* ------------------------------------------------------------------------------------ gather */

static void report_damage(const struct sender *sender, uint64_t before)
{
    if (sender->reader.damaged > before)
        fprintf(stderr, "exitbus-forward: %" PRIu64 " bytes of the spool are no record\n",
                sender->reader.damaged - before);
}

static int make_gap(struct sender *sender, const struct spool_found *found, struct message *message)
{
    uint64_t lost = found->gap_last - found->gap_first + 1;
    fprintf(stderr, "exitbus-forward: %" PRIu64 " records are lost, from %" PRIu64 " on\n", lost,
            found->gap_first);
    sender->lost += lost;
    return message_of_gap(&sender->origin, found->gap_first, found->gap_last, message);
}

/* Returns 0: there is a message more; -EBADMSG: the record is passed over; -ENOMEM. */
static int make_message(struct sender *sender, enum spool_step step,
                        const struct spool_found *found, struct message *message)
{
    if (step == SPOOL_GAP)
        return make_gap(sender, found, message);
    int result = message_of_record(&sender->origin, &found->record, message);
    if (result == -EBADMSG) {
        fprintf(stderr,
                "exitbus-forward: record %" PRIu64 " is no JSON object, or of a later version\n",
                found->record.head.number);
        sender->unreadable++;
    }
    return result;
}

/* Read records until the batch is full or there is none. Returns 0 or -errno. */
static int gather(struct sender *sender, struct batch *batch)
{
    struct spool_found found;
    size_t bytes = 0;
    while (batch->count < OUTPUT_BATCH && bytes < BATCH_BYTES) {
        uint64_t damaged = sender->reader.damaged, next = sender->reader.next;
        int step = spool_reader_next(&sender->reader, &found);
        report_damage(sender, damaged);
        if (step <= 0)
            return step;
        struct message *message = &batch->messages[batch->count];
        int result = make_message(sender, (enum spool_step)step, &found, message);
        if (result == -ENOMEM) { /* it is read again */
            spool_reader_close(&sender->reader);
            return spool_reader_open(&sender->reader, sender->directory, next);
        }
        batch->passed = sender->reader.next - 1;
        batch->first = sender->reader.first;
        if (result == 0)
            bytes += batch->messages[batch->count++].size;
    }
    return 0;
}

/* -------------------------------------------------------------------------------------- send */

/* Where a disk is full of what is delivered, its removal makes room for the cursor. */
static void note_progress(struct sender *sender, uint64_t passed, uint64_t segment)
{
    struct note note = {.number = passed + 1};
    int result = note_write(sender->cursor, &note);
    if (result < 0 || segment != sender->pruned)
        segments_prune(sender->directory, sender->cursor_name, note.number);
    sender->pruned = segment;
    if (result < 0)
        result = note_write(sender->cursor, &note);
    if (result < 0)
        fprintf(stderr, "exitbus-forward: cursor: %s: after a restart some events are repeated\n",
                strerror(-result));
}

/* While the engine works on a batch, the next one is made. */
static int send_batch(struct sender *sender, struct batch *batch, struct batch *next)
{
    struct output *output = sender->output;
    if (batch->count == 0) /* nothing that can be sent */
        return 0;
    int result = output->start(output, batch->messages, batch->count, &sender->why);
    if (result < 0)
        return result;
    if (next->passed == 0)
        gather(sender, next); /* an error comes again, when this is the one to send */
    return output->finish(output, &sender->why);
}

int sender_step(struct sender *sender)
{
    struct batch *batch = &sender->batches[sender->turn], *next = &sender->batches[!sender->turn];
    int result = batch->passed == 0 ? gather(sender, batch) : 0;
    if (result < 0)
        sender->why = strerror(-result);
    if (result < 0)
        return result;
    if (batch->passed == 0) { /* all is delivered; the writer may wait for what is removed */
        if (sender->reader.first != sender->pruned)
            note_progress(sender, sender->reader.next - 1, sender->reader.first);
        return 0;
    }
    result = send_batch(sender, batch, next);
    if (result < 0) {
        sender->repeated += batch->count;
        return result;
    }
    size_t refused = batch->count > 0 ? sender->output->refused : 0;
    sender->delivered += batch->count - refused;
    sender->unreadable += refused;
    note_progress(sender, batch->passed, batch->first);
    batch_clear(batch);
    sender->turn = !sender->turn;
    return 1;
}
