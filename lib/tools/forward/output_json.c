/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * JSON lines to a file or to standard output. A batch is one write. Where it fails a file is cut to
 * where it was; a line that an earlier process has not finished is cut off at the begin. A lock
 * keeps other processes from doing so meanwhile. A batch is done when the file is on the disk.
 */
#include "tools/forward/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct json_output {
    struct output output;
    int fd;
    bool is_file; /* a regular one */
    off_t before; /* its size, without the batch */
    char *text;
};

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t put = write(fd, text, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        text += put;
        size -= (size_t)put;
    }
    return 0;
}

static int send_lines(struct output *output, struct message *messages, size_t count,
                      const char **why)
{
    struct json_output *json = (struct json_output *)output;
    size_t size = 1;
    for (size_t i = 0; i < count; i++)
        size += messages[i].size + 1;
    char *text = realloc(json->text, size), *to = text;
    *why = "out of memory";
    if (!text)
        return -ENOMEM;
    json->text = text;
    for (size_t i = 0; i < count; i++)
        to = mempcpy(to, messages[i].text, messages[i].size + 1); /* with its newline */
    json->before = json->is_file ? lseek(json->fd, 0, SEEK_END) : 0;
    int result = write_all(json->fd, text, size - 1);
    if (result < 0 && json->is_file && ftruncate(json->fd, json->before) < 0)
        result = -errno;
    *why = strerror(-result);
    return result;
}

static int sync_file(struct output *output, const char **why)
{
    struct json_output *json = (struct json_output *)output;
    if (!json->is_file || fdatasync(json->fd) == 0)
        return 0;
    int result = -errno;
    *why = strerror(-result);
    if (ftruncate(json->fd, json->before) < 0)
        return -errno; /* the batch comes twice in the file */
    return result;
}

static void close_file(struct output *output)
{
    struct json_output *json = (struct json_output *)output;
    close(json->fd);
    free(json->text);
    free(json);
}

/* Returns 0; -EBUSY another process writes to it; or -errno. */
static int lock(int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* Cut a file behind its last newline. Returns 0 or -errno. */
static int cut_unfinished(int fd)
{
    char block[4096];
    off_t end = lseek(fd, 0, SEEK_END);
    while (end > 0) {
        off_t begin = end > (off_t)sizeof block ? end - (off_t)sizeof block : 0;
        ssize_t got = pread(fd, block, (size_t)(end - begin), begin);
        if (got <= 0)
            return got < 0 ? -errno : 0;
        char *newline = memrchr(block, '\n', (size_t)got);
        end = newline ? begin + (newline - block) + 1 : begin;
        if (newline)
            break;
    }
    return ftruncate(fd, end) < 0 ? -errno : 0;
}

struct output *output_json_open(const char *path)
{
    struct stat status;
    bool is_standard = strcmp(path, "-") == 0;
    int fd = is_standard ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                         : open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct json_output *json = calloc(1, sizeof *json);
    if (fd < 0 || !json || fstat(fd, &status) < 0)
        goto fail;
    *json = (struct json_output){
        .output = {.start = send_lines, .finish = sync_file, .close = close_file},
        .fd = fd,
        .is_file = !is_standard && S_ISREG(status.st_mode)};
    int result = json->is_file ? lock(fd) : 0;
    if (result == 0 && json->is_file)
        result = cut_unfinished(fd);
    if (result == 0)
        return &json->output;
    errno = -result;
fail:
    if (fd >= 0)
        close(fd);
    free(json);
    return NULL;
}
