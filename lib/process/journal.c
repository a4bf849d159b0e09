/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The exit record: see journal.h.
 *
 * How it works
 *   - An entry has a fixed size, begins with a mark, and has a checksum. One write appends it.
 *   - A write that fails may leave a part of an entry. The writer does not mend that: it can't know
 *     what another process has appended behind it. A reader that finds no entry where one should
 *     begin looks for the next one byte by byte.
 *   - The order is: write, publish, reap. So what subscribers were told is in the file.
 *
 * Why an exit is told once
 *  1. A publish may fail after the write. The journal keeps the names of those that it has written
 *     and that were not reaped, and does not write them again.
 *  2. That forgets some in a crowd. And a process that was killed between its write and its reap
 *     may be followed by one that has the same children (by exec). Entries of which either may be
 *     true are marked, and for these the reader looks for an earlier entry of that process. Entries
 *     of processes that have started behind the opening can't have one, so few are marked.
 *  3. An exit without a start time is known by its pid, and to its own journal alone.
 */
#include "process/journal.h"
#include "base/sys.h"
#include "event/event.h"

#include <errno.h>

#define MARK "exitbus\1" /* the last byte is the version */
#define LOWEST_FD 3
#define BLOCK 4096 /* of a file, to be looked through */

/* entry.flags */
#define ENTRY_AGAIN 0x01u /* there may be an earlier entry of this exit */

struct entry {
    char mark[8];
    uint64_t checksum; /* of what follows */
    uint64_t boot;     /* 0: not known */
    uint64_t start_ns; /* 0: there are no details */
    uint64_t inode;
    char comm[16];
    uint64_t words[CELL_WORDS]; /* of the event: all but seq */
    uint64_t flags;
    uint64_t reserved;
};

_Static_assert(sizeof(struct entry) == 128, "documented");

/* FNV-1a: any change of one byte changes it. The file is nobody's to forge but its owner's. */
static uint64_t hash(const void *bytes, size_t size)
{
    uint64_t value = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        value = (value ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3;
    return value;
}

static uint64_t checksum(const struct entry *entry)
{
    return hash(&entry->boot, sizeof *entry - offsetof(struct entry, boot));
}

static uint64_t this_boot(void)
{
    char text[64];
    int size = sys_read_file("/proc/sys/kernel/random/boot_id", text, sizeof text);
    return size > 0 ? hash(text, (size_t)size) : 0;
}

/* --------------------------------------------------------------------------------------- write */

int journal_open(struct journal *journal, int fd)
{
    int64_t size = sys_appended_size(fd);
    if (size < 0)
        return (int)size;
    journal->fd = sys_duplicate(fd, LOWEST_FD);
    if (journal->fd < 0)
        return journal->fd;
    journal->boot = this_boot();
    journal->opened_ns = (uint64_t)sys_clock_ns(CLOCK_BOOTTIME);
    journal->continued = size > 0;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (sys_fd_open(journal->fd))
        sys_close(journal->fd);
    journal->fd = -1;
}

/* Returns the place of a name; or, if it has none, of a free one; NULL: there is no place. */
static struct journal_name *find_name(struct journal *journal, int32_t pid)
{
    struct journal_name *free_place = NULL;
    for (size_t i = 0; i < JOURNAL_WRITTEN; i++) {
        if (journal->written[i].pid == pid)
            return &journal->written[i];
        if (journal->written[i].pid == 0)
            free_place = &journal->written[i];
    }
    return free_place;
}

static struct entry entry_of(const struct journal *journal, const struct exitbus_event *event)
{
    struct entry entry = {.boot = journal->boot};
    struct exitbus_event_details details;
    if (event_details(event, &details) == 0) {
        entry.start_ns = details.start_ns;
        entry.inode = details.inode;
        memcpy(entry.comm, details.comm, sizeof entry.comm);
    }
    memcpy(entry.mark, MARK, sizeof entry.mark);
    memcpy(entry.words, (const char *)event + sizeof event->seq, sizeof entry.words);
    if (journal->crowded || (journal->continued && entry.start_ns <= journal->opened_ns))
        entry.flags = ENTRY_AGAIN;
    entry.checksum = checksum(&entry);
    return entry;
}

/* Returns whether it names that exit. A start time that could not be had once tells nothing. */
static bool is_of(const struct journal_name *name, const struct entry *entry)
{
    bool both = name->start_ns > 0 && entry->start_ns > 0;
    return name->pid != 0 && (!both || name->start_ns == entry->start_ns);
}

int journal_write(struct journal *journal, const struct exitbus_event *event)
{
    struct entry entry = entry_of(journal, event);
    struct journal_name *name = find_name(journal, event->pid);
    if (name && is_of(name, &entry))
        return 0;
    int result = sys_append(journal->fd, &entry, sizeof entry);
    if (result != (int)sizeof entry)
        return result < 0 ? result : -ENOSPC;
    if (name)
        *name = (struct journal_name){event->pid, entry.start_ns};
    else
        journal->crowded = true;
    return 0;
}

void journal_reaped(struct journal *journal, pid_t pid)
{
    struct journal_name *name = find_name(journal, pid);
    if (name)
        name->pid = 0;
}

/* ---------------------------------------------------------------------------------------- read */

static void fill_event(struct exitbus_event *event, const struct entry *entry)
{
    *event = (struct exitbus_event){0};
    memcpy((char *)event + sizeof event->seq, entry->words, sizeof entry->words);
    event->container_id_size = event->exec_id_size = 0;
    event->flags &= (uint8_t)~EXITBUS_EVENT_DETAILS;
    if (entry->start_ns > 0) {
        struct exitbus_event_details details = {.start_ns = entry->start_ns, .inode = entry->inode};
        memcpy(details.comm, entry->comm, sizeof details.comm);
        event_set_details(event, &details);
    }
}

/* Returns whether an entry lies there. */
static bool take_entry(const char *bytes, struct entry *entry)
{
    struct exitbus_event event;
    if (memcmp(bytes, MARK, sizeof entry->mark) != 0)
        return false;
    memcpy(entry, bytes, sizeof *entry);
    fill_event(&event, entry);
    return entry->checksum == checksum(entry) && event.kind == EXITBUS_EVENT_PID &&
           event_check(&event) == 0;
}

/* A file that is looked through, block by block. */
struct reading {
    int fd;
    uint64_t at;    /* where the next entry is looked for */
    uint64_t begin; /* of the block */
    size_t size;    /* of what is in it */
    char block[BLOCK];
};

/* Have an entry's bytes from `at` on in the block. Returns 1; 0: there are fewer; or -errno. */
static int fill_block(struct reading *reading)
{
    if (reading->size >= sizeof(struct entry) &&
        reading->at - reading->begin <= reading->size - sizeof(struct entry))
        return 1;
    int got = sys_read_at(reading->fd, reading->block, BLOCK, (off_t)reading->at);
    if (got < 0)
        return got;
    reading->begin = reading->at;
    reading->size = (size_t)got;
    return reading->size >= sizeof(struct entry);
}

/*
 * Find the first entry from `at` on, and move that there. Returns 1; 0: there is none, and the rest
 * is too short for one; or -errno.
 */
static int find_entry(struct reading *reading, struct entry *entry)
{
    for (;; reading->at++) {
        int result = fill_block(reading);
        if (result <= 0 || take_entry(reading->block + (reading->at - reading->begin), entry))
            return result;
    }
}

static int32_t pid_of(const struct entry *entry)
{
    int32_t pid;
    memcpy(&pid, entry->words, sizeof pid);
    return pid;
}

/* Returns whether an entry before `end` is of the same exit. */
static bool is_told(int fd, uint64_t end, const struct entry *entry)
{
    struct reading reading = {.fd = fd};
    struct entry other;
    for (; find_entry(&reading, &other) > 0 && reading.at < end; reading.at += sizeof other)
        if (other.boot == entry->boot && other.start_ns == entry->start_ns &&
            pid_of(&other) == pid_of(entry))
            return true;
    return false;
}

int journal_read(int fd, uint64_t *offset, struct exitbus_event *event)
{
    uint64_t boot = this_boot();
    struct reading reading = {.fd = fd, .at = *offset};
    for (;;) {
        struct entry entry;
        int found = find_entry(&reading, &entry);
        if (found < 0)
            return found;
        bool damaged = reading.at != *offset;
        *offset = reading.at;
        if (damaged || !found)
            return damaged ? -EBADMSG : -ENODATA;
        *offset = reading.at += sizeof entry;
        bool earlier = boot != 0 && entry.boot != 0 && entry.boot != boot;
        bool again = (entry.flags & ENTRY_AGAIN) && entry.start_ns > 0;
        if (!earlier && !(again && is_told(fd, *offset - sizeof entry, &entry))) {
            fill_event(event, &entry);
            return 0;
        }
    }
}
