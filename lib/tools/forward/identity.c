/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tools/forward/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

int identity_boot(uint8_t boot[16])
{
    char text[40] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    const char *at = text;
    for (size_t i = 0; i < 16; i++) {
        unsigned value;
        at += *at == '-';
        if (got < 36 || sscanf(at, "%2x", &value) != 1)
            return -EBADMSG;
        boot[i] = (uint8_t)value;
        at += 2;
    }
    return 0;
}

int identity_random(uint8_t instance[16])
{
    return getrandom(instance, 16, 0) == 16 ? 0 : -EIO;
}

/* A later file may have the inode, but not the time of birth as well. Where a file system has no
 * such time, the first change of the file's own data can't stand in for it: it is left out. */
int identity_file(int fd, uint8_t instance[16])
{
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) < 0)
        return -errno;
    uint64_t birth = 0;
    if (status.stx_mask & STATX_BTIME)
        birth = (uint64_t)status.stx_btime.tv_sec * 1000000000u + status.stx_btime.tv_nsec;
    uint64_t file = status.stx_ino ^ ((uint64_t)status.stx_dev_major << 52) ^
                    ((uint64_t)status.stx_dev_minor << 40);
    memcpy(instance, &file, sizeof file);
    memcpy(instance + sizeof file, &birth, sizeof birth);
    return 0;
}

/* Device and inode, half of the time of birth, and 31 bits at random. The mark is the highest bit,
 * which no time of birth has. */
#define KEPT 12
#define MARK 0x80u

int identity_generation(uint8_t instance[16])
{
    if (getrandom(instance + KEPT, 16 - KEPT, 0) != 16 - KEPT)
        return -EIO;
    instance[15] |= MARK;
    return 0;
}

bool identity_is_generation(const uint8_t instance[16], const uint8_t file[16])
{
    return (instance[15] & MARK) && memcmp(instance, file, KEPT) == 0;
}

void identity_text(const uint8_t bytes[16], char text[33])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        *text++ = digits[bytes[i] >> 4];
        *text++ = digits[bytes[i] & 15];
    }
    *text = '\0';
}
