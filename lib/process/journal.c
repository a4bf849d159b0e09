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
 *   - The host may have closed our descriptor, and have another file under its number. So each
 *     write looks first whether that is the file which was opened.
 *
 * Why an exit is told once
 *  1. A publish may fail after the write. The journal keeps the names of those that it has written
 *     and that were not reaped, and does not write them again.
 *  2. An exit that the file may have already is marked, and for it the reader looks for an earlier
 *     entry of that process. There are three cases. The file has grown by what is not ours: by an
 *     earlier life of this program, by another writer whose children have come here, or by a write
 *     of ours that was said to have failed. Or a name had no place in a crowd. Or names were
 *     forgotten, see 4. Each is seen before the exit is written. A process that starts behind that
 *     moment can't be in the file, so the mark is for processes that are older.
 *  3. A child passes to another writer when its parent has died, has replaced itself (exec) or has
 *     stopped its reaper. All that the parent has written is in the file by then.
 *  4. A name is forgotten when its process is reaped, or no child is a zombie. So it does not stay
 *     for a later process of that pid.
 *  5. An exit without a start time is known by its pid, and to its own journal alone.
 */
#include "process/journal.h"
#include "base/sys.h"
#include "event/event.h"

#include <errno.h>

#define MARK "exitbus\1" /* the last byte is the version */
#define LOWEST_FD 3
#define BLOCK 4096             /* of a file, to be looked through */
#define SEARCH_MOST (1u << 20) /* bytes without an entry that one call looks through */

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

/* Get what names this boot; 0: /proc does not tell. Returns 0, -EMFILE, -ENFILE or -ENOMEM. */
static int this_boot(uint64_t *boot)
{
    char text[64];
    int size = sys_read_file("/proc/sys/kernel/random/boot_id", text, sizeof text);
    *boot = size > 0 ? hash(text, (size_t)size) : 0;
    return size == -EMFILE || size == -ENFILE || size == -ENOMEM ? size : 0;
}

/* --------------------------------------------------------------------------------------- write */

/* From here on, the file may have exits of all processes that have started. */
static void doubt(struct journal *journal)
{
    journal->doubted_ns = (uint64_t)sys_clock_ns(CLOCK_BOOTTIME);
}

int journal_open(struct journal *journal, int fd)
{
    *journal = (struct journal){.fd = -1};
    int result = sys_file(fd, &journal->file);
    if (result == 0 && !(journal->file.regular && journal->file.appends))
        result = -EINVAL;
    if (result == 0)
        result = this_boot(&journal->boot);
    if (result < 0)
        return result;
    journal->fd = sys_duplicate(fd, LOWEST_FD);
    if (journal->file.size > 0)
        doubt(journal);
    return journal->fd < 0 ? journal->fd : 0;
}

static bool is_same_file(const struct sys_file *file, const struct sys_file *other)
{
    return file->device == other->device && file->inode == other->inode;
}

void journal_close(struct journal *journal)
{
    struct sys_file now;
    int result = journal->fd < 0 ? -EBADF : sys_file(journal->fd, &now);
    if (result != -EBADF && (result < 0 || is_same_file(&now, &journal->file)))
        sys_close(journal->fd);
    journal->fd = -1;
}

/* Look whether our number is our file still, and how large that is. Returns 0 or -errno. */
static int look_at_file(struct journal *journal)
{
    struct sys_file now;
    int result = sys_file(journal->fd, &now);
    if (result < 0)
        return result;
    if (!is_same_file(&now, &journal->file) || !now.appends)
        return -EBADF;
    /* It has grown by what is not ours, or by a write of ours that was said to have failed. */
    if (now.size != journal->file.size)
        doubt(journal);
    journal->file.size = now.size;
    return 0;
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
    if (entry.start_ns <= journal->doubted_ns)
        entry.flags = ENTRY_AGAIN;
    entry.checksum = checksum(&entry);
    return entry;
}

/* Returns whether it names that exit. A start time that could not be had before tells nothing. */
static bool is_of(const struct journal_name *name, const struct entry *entry)
{
    return name->pid != 0 && (name->start_ns == 0 || name->start_ns == entry->start_ns);
}

int journal_write(struct journal *journal, const struct exitbus_event *event)
{
    int result = look_at_file(journal);
    if (result < 0)
        return result;
    struct entry entry = entry_of(journal, event);
    struct journal_name *name = find_name(journal, event->pid);
    if (name && is_of(name, &entry))
        return 0;
    result = sys_append(journal->fd, &entry, sizeof entry);
    if (result != (int)sizeof entry)
        return result < 0 ? result : -ENOSPC;
    journal->file.size += sizeof entry;
    if (name)
        *name = (struct journal_name){event->pid, entry.start_ns};
    else
        doubt(journal);
    return 0;
}

void journal_reaped(struct journal *journal, pid_t pid)
{
    struct journal_name *name = find_name(journal, pid);
    if (name)
        name->pid = 0;
}

void journal_lost(struct journal *journal, pid_t pid)
{
    struct journal_name *name = find_name(journal, pid);
    if (name)
        name->start_ns = 0;
}

void journal_all_reaped(struct journal *journal)
{
    for (size_t i = 0; i < JOURNAL_WRITTEN; i++)
        if (journal->written[i].pid != 0) {
            journal->written[i].pid = 0;
            doubt(journal); /* one that only __WALL finds may be a zombie still */
        }
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
 * Find the first entry from `at` on that begins before `end`, and move `at` there. Returns 1; 0:
 * there is none, or the rest is too short for one; or -errno.
 */
static int find_entry(struct reading *reading, uint64_t end, struct entry *entry)
{
    for (; reading->at < end; reading->at++) {
        int result = fill_block(reading);
        if (result <= 0 || take_entry(reading->block + (reading->at - reading->begin), entry))
            return result;
    }
    return 0;
}

static int32_t pid_of(const struct entry *entry)
{
    int32_t pid;
    memcpy(&pid, entry->words, sizeof pid);
    return pid;
}

static bool is_same_exit(const struct entry *entry, const struct entry *other)
{
    return entry->boot == other->boot && entry->start_ns == other->start_ns &&
           pid_of(entry) == pid_of(other) &&
           (entry->inode == other->inode || entry->inode == 0 || other->inode == 0);
}

/* Returns whether an entry before `end` is of the same exit; or -errno. */
static int is_told(int fd, uint64_t end, const struct entry *entry)
{
    struct reading reading = {.fd = fd};
    struct entry other;
    int found;
    while ((found = find_entry(&reading, end, &other)) > 0 && !is_same_exit(&other, entry))
        reading.at += sizeof other;
    return found;
}

/* Returns 0 if it is of a file that can be read; or -errno. */
static int check_readable(int fd, uint64_t offset)
{
    struct sys_file file;
    int result = sys_file(fd, &file);
    return result == 0 && (!file.regular || offset > INT64_MAX) ? -EINVAL : result;
}

int journal_read(int fd, uint64_t *offset, struct exitbus_event *event)
{
    uint64_t boot = 0;
    int result = check_readable(fd, *offset);
    if (result == 0)
        result = this_boot(&boot);
    if (result < 0)
        return result;
    struct reading reading = {.fd = fd, .at = *offset};
    for (;;) {
        struct entry entry;
        int found = find_entry(&reading, *offset + SEARCH_MOST, &entry);
        if (found < 0)
            return found;
        bool damaged = reading.at != *offset;
        *offset = reading.at;
        if (damaged || !found)
            return damaged ? -EBADMSG : -ENODATA;
        bool again = (entry.flags & ENTRY_AGAIN) && entry.start_ns > 0;
        bool earlier = boot != 0 && entry.boot != 0 && entry.boot != boot;
        int told = again && !earlier ? is_told(fd, *offset, &entry) : 0;
        if (told < 0)
            return told;
        *offset = reading.at += sizeof entry;
        if (!earlier && !told) {
            fill_event(event, &entry);
            return 0;
        }
    }
}
