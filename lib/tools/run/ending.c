/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The end of a command's processes: see run.h.
 *
 * How it works
 *   - What ends together is a group of the library: the cgroup, if one was given; else the process
 *     group; else, with --child-only, the process alone. It is empty by an event of its name.
 *   - Before Linux 6.9 a process group can't be named by a descriptor. There the group is a set of
 *     the one process, and members that outlive it are signalled by kill(). While there are any,
 *     the kernel gives their group's number to no other.
 *   - Zombies keep a process group. Where another process is to reap them, and does not, this one
 *     waits no longer than a second behind SIGKILL.
 */
#include "tools/run/run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long processes may take to be gone behind SIGKILL. */
#define PATIENCE_NS SECOND_NS

/* -------------------------------------------------------------------------------------- groups */

static int make_group(struct run *run, struct command *command, enum exitbus_group_kind kind)
{
    struct exitbus_group_options options = {.kind = kind,
                                            .name = command->name,
                                            .leader = command->process,
                                            .cgroup_fd = command->cgroup_fd};
    int result = exitbus_group_create(run->bus, &options, &command->group);
    if (result < 0 || kind != EXITBUS_GROUP_SET)
        return result;
    result = exitbus_group_add(command->group, command->process);
    if (result < 0)
        exitbus_group_unref(command->group);
    return result;
}

void ending_prepare(struct run *run, struct command *command)
{
    bool alone = run->options.child_only && command->cgroup_fd < 0;
    enum exitbus_group_kind kind = command->cgroup_fd >= 0 ? EXITBUS_GROUP_CGROUP
                                   : alone                 ? EXITBUS_GROUP_SET
                                                           : EXITBUS_GROUP_PROCESSES;
    int result = make_group(run, command, kind);
    if (result == -ENOTSUP && kind == EXITBUS_GROUP_PROCESSES) {
        command->by_number = true;
        result = make_group(run, command, EXITBUS_GROUP_SET);
    }
    if (result == 0)
        return;
    say(SAY_ERROR, "%s: its processes can't be ended later: %s: it is killed", command->argv[0],
        exitbus_strerror(result));
    command->group = NULL;
    exitbus_process_signal(command->process, SIGKILL, EXITBUS_SIGNAL_GROUP);
}

void ending_begin(struct run *run, struct command *command, int signal, int64_t grace_ns)
{
    if (!command->group)
        return;
    /* Where the group is a set, it has the process alone: the process group is signalled by it. */
    int result = exitbus_group_end(command->group, command->by_number ? 0 : signal, grace_ns);
    if (result < 0)
        say(SAY_WARNING, "%s (%u) can't be ended: %s", command->argv[0], command->number,
            exitbus_strerror(result));
    command->told = true;
    command->due_ns = loop_now() + grace_ns;
    if (command->by_number)
        signals_send(run, command, signal);
}

void ending_leftovers(struct run *run, struct command *command)
{
    if (!command->group || (command->emptied && !command->by_number))
        command_finished(run, command);
    else if (!command->told)
        ending_begin(run, command, SIGTERM, run->options.grace_ns);
}

/* ------------------------------------------------------------------------------ what is left */

static bool has_leftovers(const struct command *command)
{
    return kill(-command->pid, 0) == 0 || errno == EPERM;
}

/* The grace is over. Returns whether there is anything to wait for. */
static bool kill_leftovers(struct command *command, int64_t now)
{
    if (command->killed)
        return false;
    if (command->by_number)
        kill(-command->pid, SIGKILL);
    command->killed = true;
    command->due_ns = now + PATIENCE_NS;
    return true;
}

void ending_look(struct run *run, struct command *command, int64_t now)
{
    bool is_over = command->by_number && !has_leftovers(command);
    if (!is_over && (now < command->due_ns || kill_leftovers(command, now)))
        return;
    if (!is_over)
        say(SAY_WARNING, "%s (%u): its group is not gone yet; --subreaper may help",
            command->argv[0], command->number);
    command_finished(run, command);
}

void ending_empty(struct run *run, struct command *command)
{
    if (command->state == COMMAND_RUNNING) {
        command->emptied = true; /* a cgroup is empty a moment before its last member's exit */
        return;
    }
    bool is_left = command->by_number && has_leftovers(command); /* ending_look() goes on */
    if (command->state == COMMAND_ENDING && !is_left)
        command_finished(run, command);
}

/* ------------------------------------------------------------------------------------- cgroups */

static void cgroup_path(const struct run *run, const struct command *command, char *path)
{
    if (run->count == 1)
        snprintf(path, PATH_MAX, "%s", run->options.cgroup);
    else
        snprintf(path, PATH_MAX, "%s/%u", run->options.cgroup, command->number);
}

static bool make_directory(const char *path, bool *made)
{
    *made = mkdir(path, 0755) == 0;
    if (*made || errno == EEXIST)
        return true;
    say(SAY_ERROR, "--cgroup %s: %s", path, strerror(errno));
    return false;
}

/* Is this process named in the cgroup's list? */
static bool lists_us(FILE *list)
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, list) > 0)
        found = strtol(line, NULL, 10) == getpid();
    free(line);
    return found;
}

/* Returns the highest directory of its file system that is above `fd`, or -1. */
static int mount_root(int fd)
{
    struct stat here, above;
    int root = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (root >= 0) {
        int up = openat(root, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (up < 0 || fstat(root, &here) < 0 || fstat(up, &above) < 0 ||
            above.st_dev != here.st_dev || above.st_ino == here.st_ino) {
            if (up >= 0)
                close(up);
            break;
        }
        close(root);
        root = up;
    }
    return root;
}

/* Read the path of this process's cgroup, "a/b" or "". Returns false if it is not known. */
static bool read_our_path(char *path)
{
    FILE *list = fopen("/proc/self/cgroup", "re");
    bool found = false;
    while (list && !found && fgets(path, PATH_MAX, list))
        found = strncmp(path, "0::/", 4) == 0;
    if (list)
        fclose(list);
    if (!found)
        return false;
    path[strcspn(path, "\n")] = '\0';
    memmove(path, path + 4, strlen(path + 4) + 1);
    return true;
}

static bool is_same(int directory, const char *path, const struct stat *wanted)
{
    struct stat found;
    return fstatat(directory, path, &found, 0) == 0 && found.st_dev == wanted->st_dev &&
           found.st_ino == wanted->st_ino;
}

/* Is the cgroup one above ours? Where our path is not below the mount, that is not known. */
static bool is_above_us(int cgroup_fd)
{
    char path[PATH_MAX];
    struct stat wanted;
    if (fstat(cgroup_fd, &wanted) < 0 || !read_our_path(path) || !*path)
        return false;
    int root = mount_root(cgroup_fd);
    if (root < 0)
        return false;
    bool above = false, known = faccessat(root, path, F_OK, 0) == 0;
    for (char *slash; known && !above && (slash = strrchr(path, '/'));) {
        *slash = '\0';
        above = is_same(root, path, &wanted);
    }
    above = above || (known && is_same(root, ".", &wanted));
    close(root);
    return above;
}

/* Is this process in the cgroup, or below? It would end itself. */
static bool has_us(int cgroup_fd)
{
    int fd = openat(cgroup_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *list = fd < 0 ? NULL : fdopen(fd, "r");
    if (!list) {
        if (fd >= 0)
            close(fd);
        return false; /* the library says what is wrong */
    }
    bool found = lists_us(list) || is_above_us(cgroup_fd);
    fclose(list);
    return found;
}

static bool open_cgroup(const struct run *run, struct command *command)
{
    char path[PATH_MAX];
    cgroup_path(run, command, path);
    if (!make_directory(path, &command->cgroup_made))
        return false;
    command->cgroup_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (command->cgroup_fd < 0) {
        say(SAY_ERROR, "--cgroup %s: %s", path, strerror(errno));
        return false;
    }
    if (!has_us(command->cgroup_fd))
        return true;
    say(SAY_ERROR, "--cgroup %s: exitbus-run itself is there, and would be killed", path);
    return false;
}

bool ending_open_cgroups(struct run *run)
{
    if (!run->options.cgroup)
        return true;
    if (*run->options.cgroup != '/')
        run->start_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (run->count > 1 && !make_directory(run->options.cgroup, &run->cgroup_made))
        return false;
    for (size_t i = 0; i < run->count; i++)
        if (!open_cgroup(run, &run->commands[i]))
            return false;
    return true;
}

void ending_remove_cgroups(struct run *run)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < run->count; i++)
        if (run->commands[i].cgroup_made) {
            cgroup_path(run, &run->commands[i], path);
            unlinkat(run->start_fd, path, AT_REMOVEDIR); /* one that others have filled stays */
        }
    if (run->cgroup_made)
        unlinkat(run->start_fd, run->options.cgroup, AT_REMOVEDIR);
}
