/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The attributes of exitbus_spawn(): the child has each of them, and one that can't be set fails
 * the spawn, says which step it was, and leaves nothing.
 */
#include "support/cgroups.h"
#include "support/children.h"
#include "support/harness.h"
#include "support/refuse.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct exitbus_spawn_attributes attributes;
static struct exitbus_spawn_report report;
static struct exitbus_spawn_options options;

/* Options with these attributes, and none of an earlier test part. */
static void use(uint32_t set)
{
    attributes = (struct exitbus_spawn_attributes){.set = set};
    options = (struct exitbus_spawn_options){
        .flags = EXITBUS_SPAWN_ATTRIBUTES, .attributes = &attributes, .report = &report};
}

/* Run a program, and give back its exit code; below 0: the spawn has failed. */
static int run_program(struct exitbus *bus, char *const *argv)
{
    struct exitbus_subscription *subscription;
    pid_t pid;
    options.argv = argv;
    int result = exitbus_spawn(bus, &options, &pid, &subscription);
    if (result < 0)
        return result;
    int code = receive_pid(subscription, pid).exit_code;
    check_ok(exitbus_unsubscribe(subscription));
    await(no_children());
    return code;
}

static int run(struct exitbus *bus, const char *command)
{
    char *argv[] = {"/bin/sh", "-c", (char *)command, "name", NULL};
    return run_program(bus, argv);
}

static int run_tiny(struct exitbus *bus, const char *what)
{
    char *argv[] = {TINY_CHILD, (char *)what, NULL};
    return run_program(bus, argv);
}

/* Is a line of its /proc/self/status like this? */
static bool status_has(struct exitbus *bus, const char *pattern)
{
    char *argv[] = {"/bin/grep", "-q", (char *)pattern, "/proc/self/status", NULL};
    return run_program(bus, argv) == 0;
}

/* The spawn fails in this step, with a text of its own, and leaves no child. */
static void check_fails(struct exitbus *bus, enum exitbus_spawn_step step, int error)
{
    unsigned before = open_fds();
    check_equal(run_tiny(bus, "0"), -error);
    check_equal(report.step, step);
    check_equal(report.error, -error);
    const char *text = exitbus_spawn_strerror(&report);
    check(text && text[0] && strcmp(text, "unknown step") != 0);
    check(no_children());
    await(open_fds() <= before); /* the reaper may still have had the pidfd of the child before */
}

static bool is_root(const char *why)
{
    if (geteuid() == 0)
        return true;
    fprintf(stderr, "skipped: %s takes root\n", why);
    return false;
}

/* --------------------------------------------------------------------------------- privileges */

TEST(spawn_attributes, user_and_groups)
{
    if (!is_root("another user"))
        return;
    struct exitbus *bus = bus_new();
    const gid_t groups[] = {1001, 1002};
    use(EXITBUS_ATTRIBUTE_UID | EXITBUS_ATTRIBUTE_GID | EXITBUS_ATTRIBUTE_GROUPS);
    attributes.uid = 65534;
    attributes.gid = 1003;
    attributes.groups = groups;
    attributes.group_count = 2;
    check(status_has(bus, "Uid:.65534.65534.65534.65534"));
    check(status_has(bus, "Gid:.1003.1003.1003.1003"));
    check(status_has(bus, "Groups:.1001 1002 *$"));
    check(status_has(bus, "CapEff:.0000000000000000"));

    /* Root's own groups do not go along: neither unasked nor by an empty list. */
    const gid_t own[] = {0, 4};
    check_ok(setgroups(2, own));
    use(EXITBUS_ATTRIBUTE_UID);
    attributes.uid = 65534;
    check(status_has(bus, "Groups:.*[0-9]") == false);
    use(EXITBUS_ATTRIBUTE_GROUPS);
    check(status_has(bus, "Groups:.*[0-9]") == false);
    use(EXITBUS_ATTRIBUTE_GID);
    attributes.gid = 1003;
    check(status_has(bus, "Groups:.0 4"));
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, no_new_privileges)
{
    struct exitbus *bus = bus_new();
    use(0);
    check(status_has(bus, "NoNewPrivs:.0"));
    options.flags |= EXITBUS_SPAWN_NO_NEW_PRIVS;
    check(status_has(bus, "NoNewPrivs:.1"));
    options.flags = EXITBUS_SPAWN_NO_NEW_PRIVS; /* it needs no attributes */
    check(status_has(bus, "NoNewPrivs:.1"));
    check_ok(exitbus_destroy(bus));
}

static void without_privileges(void)
{
    struct exitbus *bus = bus_new();
    use(0);
    must_equal(run_tiny(bus, "0"), 0);
    must_equal(setgid(65534), 0);
    must_equal(setuid(65534), 0);
    static const struct {
        uint32_t set;
        enum exitbus_spawn_step step;
        int error;
    } denied[] = {{EXITBUS_ATTRIBUTE_UID, EXITBUS_SPAWN_STEP_UID, EPERM},
                  {EXITBUS_ATTRIBUTE_GID, EXITBUS_SPAWN_STEP_GID, EPERM},
                  {EXITBUS_ATTRIBUTE_GROUPS, EXITBUS_SPAWN_STEP_GROUPS, EPERM},
                  {EXITBUS_ATTRIBUTE_NICE, EXITBUS_SPAWN_STEP_NICE, EACCES},
                  {EXITBUS_ATTRIBUTE_ROOT, EXITBUS_SPAWN_STEP_ROOT, EPERM},
                  {EXITBUS_ATTRIBUTE_NAMESPACES, EXITBUS_SPAWN_STEP_NAMESPACES, EPERM}};
    for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++) {
        use(denied[i].set);
        attributes.nice = -5;
        attributes.root = "/";
        attributes.namespaces = CLONE_NEWUTS;
        check_fails(bus, denied[i].step, denied[i].error);
    }
    use(0); /* what was refused for want of privileges does not slow the next spawn down */
    must_equal(run_tiny(bus, "3"), 3);
    must_equal(exitbus_destroy(bus), 0);
}

TEST(spawn_attributes, denied)
{
    if (is_root("giving privileges up"))
        check_equal(in_a_child(without_privileges), 0);
}

/* ---------------------------------------------------------------------- limits and priorities */

TEST(spawn_attributes, umask_and_nice)
{
    struct exitbus *bus = bus_new();
    use(EXITBUS_ATTRIBUTE_UMASK | EXITBUS_ATTRIBUTE_NICE);
    attributes.umask = 0027;
    attributes.nice = 19;
    check_equal(run(bus, "test $(umask) = 0027 && test $(cut -d' ' -f19 /proc/self/stat) = 19"), 0);
    char path[] = "/tmp/exitbus-umask-XXXXXX";
    check(mkdtemp(path));
    char file[64];
    snprintf(file, sizeof file, "%s/file", path);
    struct exitbus_spawn_action open_file = {.kind = EXITBUS_SPAWN_OPEN,
                                             .fd = 5,
                                             .path = file,
                                             .open_flags = O_CREAT | O_WRONLY,
                                             .mode = 0666};
    options.actions = &open_file;
    options.action_count = 1;
    check_equal(run_tiny(bus, "0"), 0);
    struct stat status;
    check_ok(stat(file, &status));
    check_equal(status.st_mode & 0777, 0640);
    unlink(file);
    rmdir(path);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, cpus_and_scheduler)
{
    struct exitbus *bus = bus_new();
    cpu_set_t own, one;
    check_ok(sched_getaffinity(0, sizeof own, &own));
    size_t first = 0;
    while (!CPU_ISSET(first, &own))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    use(EXITBUS_ATTRIBUTE_CPUS | EXITBUS_ATTRIBUTE_SCHEDULER);
    attributes.cpus = &one;
    attributes.cpus_size = sizeof one;
    attributes.scheduler = SCHED_BATCH;
    char pattern[40];
    snprintf(pattern, sizeof pattern, "Cpus_allowed_list:.%zu$", first);
    check(status_has(bus, pattern));
    check_equal(run(bus, "test $(cut -d' ' -f41 /proc/$$/stat) = 3"), 0);
    CPU_ZERO(&one);
    check_fails(bus, EXITBUS_SPAWN_STEP_CPUS, EINVAL);
    use(EXITBUS_ATTRIBUTE_SCHEDULER);
    attributes.scheduler = SCHED_BATCH;
    attributes.scheduler_priority = 50; /* that class has none */
    check_fails(bus, EXITBUS_SPAWN_STEP_SCHEDULER, EINVAL);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, limits)
{
    struct exitbus *bus = bus_new();
    struct exitbus_spawn_limit limits[] = {{RLIMIT_CORE, 0, 0}, {RLIMIT_NOFILE, 50, 60}};
    use(EXITBUS_ATTRIBUTE_LIMITS);
    attributes.limits = limits;
    attributes.limit_count = 2;
    check_equal(run(bus, "test $(ulimit -S -n) = 50 && test $(ulimit -H -n) = 60 && "
                         "test $(ulimit -c) = 0"),
                0);
    limits[1].resource = 1000;
    check_fails(bus, EXITBUS_SPAWN_STEP_LIMIT, EINVAL);
    check_equal(report.index, 1);
    check_ok(exitbus_destroy(bus));
}

/* What takes privileges is done while they are there. */
TEST(spawn_attributes, priority_before_the_user)
{
    if (!is_root("a higher priority"))
        return;
    struct exitbus *bus = bus_new();
    use(EXITBUS_ATTRIBUTE_NICE | EXITBUS_ATTRIBUTE_UID);
    attributes.nice = -3;
    attributes.uid = 65534;
    check_equal(run(bus, "test $(cut -d' ' -f19 /proc/$$/stat) = -3 && test $(id -u) = 65534"), 0);
    check_ok(exitbus_destroy(bus));
}

static int held_fds[2];

/* A parent that spawns, and ends: its child is to end, too. */
static void spawn_and_end(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_spawn_action action = {
        .kind = EXITBUS_SPAWN_DUP2, .source_fd = held_fds[1], .fd = 7};
    /* A change of ids would clear it. */
    use(EXITBUS_ATTRIBUTE_DEATH_SIGNAL | (geteuid() == 0 ? EXITBUS_ATTRIBUTE_UID : 0));
    attributes.uid = 65534;
    attributes.death_signal = SIGKILL;
    options.actions = &action;
    options.action_count = 1;
    char *argv[] = {TINY_CHILD, "p", NULL};
    options.argv = argv;
    pid_t pid;
    must_equal(exitbus_spawn(bus, &options, &pid, NULL), 0);
}

TEST(spawn_attributes, death_signal)
{
    check_ok(pipe2(held_fds, O_CLOEXEC));
    check_equal(in_a_child(spawn_and_end), 0);
    close(held_fds[1]);
    char byte;
    check_equal(read(held_fds[0], &byte, 1), 0); /* nobody holds it any more */
}

/* ------------------------------------------------------------- cgroups, namespaces, root, tty */

static void into_a_cgroup(void)
{
    char path[100], command[200];
    int fd = cgroup_new(path, sizeof path);
    if (fd < 0)
        return;
    struct exitbus *bus = bus_new();
    use(EXITBUS_ATTRIBUTE_CGROUP);
    attributes.cgroup_fd = fd;
    snprintf(command, sizeof command, "grep -q '^0::.*%s$' /proc/self/cgroup", strrchr(path, '/'));
    check_equal(run(bus, command), 0);
    int kill_fd = openat(fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (kill_fd >= 0) { /* from Linux 5.14 on; one that was killed once takes children still */
        check_equal(write(kill_fd, "1", 1), 1);
        close(kill_fd);
        check_equal(run(bus, command), 0);
    }
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    attributes.cgroup_fd = directory; /* no cgroup */
    check_fails(bus, EXITBUS_SPAWN_STEP_CGROUP, ENOENT);
    attributes.cgroup_fd = 999;
    check_fails(bus, EXITBUS_SPAWN_STEP_CGROUP, EBADF);
    close(directory);
    check_ok(exitbus_destroy(bus));
    close(fd);
    check_ok(rmdir(path));
}

TEST(spawn_attributes, cgroup)
{
    into_a_cgroup();
}

TEST(spawn_attributes, cgroup_without_clone3)
{
    refuse_call(SYS_clone3, ENOSYS);
    into_a_cgroup();
}

static void into_namespaces(void)
{
    if (!is_root("a namespace"))
        return;
    struct exitbus *bus = bus_new();
    char here[64], command[200];
    ssize_t size = readlink("/proc/self/ns/uts", here, sizeof here - 1);
    check(size > 0);
    here[size] = '\0';
    use(0);
    snprintf(command, sizeof command, "test \"$(readlink /proc/$PPID/ns/uts)\" = '%s'", here);
    check_equal(run(bus, command), 0);
    use(EXITBUS_ATTRIBUTE_NAMESPACES);
    attributes.namespaces = CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWNS;
    snprintf(command, sizeof command,
             "test $$ = 1 && test \"$(readlink /proc/self/ns/uts)\" != '%s' && exit 9", here);
    check_equal(run(bus, command), 9);
    check_equal(run(bus, "kill -TERM $$; exit 4"), 4); /* an init ignores it; and again */
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, namespaces)
{
    into_namespaces();
}

TEST(spawn_attributes, namespaces_without_clone3)
{
    refuse_call(SYS_clone3, ENOSYS);
    into_namespaces();
}

TEST(spawn_attributes, root)
{
    if (!is_root("a new root"))
        return;
    char path[] = "/tmp/exitbus-root-XXXXXX", command[PATH_MAX];
    check(mkdtemp(path));
    snprintf(command, sizeof command, "mkdir %s/d && cp %s %s/tiny", path, TINY_CHILD, path);
    check_equal(system(command), 0);
    struct exitbus *bus = bus_new();
    use(EXITBUS_ATTRIBUTE_ROOT);
    attributes.root = path;
    char *by_path[] = {"/tiny", "6", NULL}, *here[] = {"./tiny", "7", NULL},
         *from_directory[] = {"../tiny", "8", NULL};
    check_equal(run_program(bus, by_path), 6);
    check_equal(run_program(bus, here), 7); /* its working directory is the new root */
    options.directory = "/d";               /* seen from there */
    check_equal(run_program(bus, from_directory), 8);
    use(EXITBUS_ATTRIBUTE_ROOT);
    attributes.root = "/nonexistent";
    check_fails(bus, EXITBUS_SPAWN_STEP_ROOT, ENOENT);
    check_ok(exitbus_destroy(bus));
    snprintf(command, sizeof command, "rm -r %s", path);
    check_equal(system(command), 0);
}

TEST(spawn_attributes, terminal)
{
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0;
    check(master >= 0);
    check_ok(ioctl(master, TIOCSPTLCK, &unlock));
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    check(slave >= 0);
    struct exitbus *bus = bus_new();
    use(EXITBUS_ATTRIBUTE_TERMINAL | EXITBUS_ATTRIBUTE_FOREGROUND);
    options.flags |= EXITBUS_SPAWN_SETSID;
    attributes.terminal_fd = slave;
    /* The fields: process group, session, terminal, its foreground group. */
    check_equal(run(bus, "set -- $(cut -d' ' -f5-8 /proc/$$/stat); "
                         "test $1 = $$ && test $2 = $$ && test $3 != 0 && test $4 = $$ && "
                         "echo here > /dev/tty"),
                0);
    char text[16] = "";
    check(read(master, text, sizeof text - 1) > 0);
    check(strncmp(text, "here", 4) == 0);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    attributes.terminal_fd = file;
    check_fails(bus, EXITBUS_SPAWN_STEP_TERMINAL, ENOTTY);
    close(file);
    close(slave);
    close(master);
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------ actions */

/* The highest of what the shell itself has open is a copy of standard ones: 10 and above. */
#define NONE_ABOVE_2                                                                               \
    "for fd in /proc/self/fd/*; do case ${fd##*/} in [0-2]) ;; *) "                                \
    "test -e /proc/$$/fd/${fd##*/} && exit 1 ;; esac; done; exit 0"

static void actions_work(void)
{
    struct exitbus *bus = bus_new();
    int directory = open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int high = fcntl(directory, F_DUPFD, 77); /* survives exec, unless it is closed */
    struct exitbus_spawn_action actions[] = {
        {.kind = EXITBUS_SPAWN_NULL, .fd = 0},
        {.kind = EXITBUS_SPAWN_CHDIR, .path = "/proc"},
        {.kind = EXITBUS_SPAWN_FCHDIR, .fd = directory},
        {.kind = EXITBUS_SPAWN_CHDIR, .path = "bin"},
        {.kind = EXITBUS_SPAWN_CLOSE_FROM, .fd = 3},
    };
    use(0);
    check_equal(run(bus, "test -e /proc/$$/fd/77"), 0);
    options.actions = actions;
    options.action_count = 5;
    check_equal(run(bus, "test \"$(readlink /proc/self/fd/0)\" = /dev/null"), 0);
    check_equal(run(bus, "test \"$(readlink /proc/self/cwd)\" = /usr/bin"), 0);
    char *list[] = {"/bin/sh", "-c", NONE_ABOVE_2, NULL};
    check_equal(run_program(bus, list), 0);
    actions[4].fd = 78;
    check_equal(run(bus, "test -e /proc/$$/fd/77"), 0);
    actions[4].fd = 77;
    check_equal(run(bus, "test -e /proc/$$/fd/77"), 1);
    actions[1].path = "/nonexistent";
    check_fails(bus, EXITBUS_SPAWN_STEP_ACTION, ENOENT);
    check_equal(report.index, 1);
    actions[1].path = "/proc";
    actions[2].fd = 999;
    check_fails(bus, EXITBUS_SPAWN_STEP_ACTION, EBADF);
    check_equal(report.index, 2);
    close(high);
    close(directory);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, actions)
{
    actions_work();
}

TEST(spawn_attributes, actions_without_close_range)
{
    refuse_call(436 /* close_range */, ENOSYS);
    actions_work();
}

TEST(spawn_attributes, actions_without_close_range_and_proc)
{
    refuse_call(436, ENOSYS);
    refuse_call(SYS_getdents64, EPERM);
    struct exitbus *bus = bus_new();
    int high = fcntl(0, F_DUPFD, 77);
    struct exitbus_spawn_action action = {.kind = EXITBUS_SPAWN_CLOSE_FROM, .fd = 5};
    use(0);
    options.actions = &action;
    options.action_count = 1;
    check_equal(run(bus, "test -e /proc/$$/fd/77"), 1);
    close(high);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, actions_by_fork)
{
    refuse_vfork();
    actions_work();
}

/* ------------------------------------------------------------------------------------ programs */

static char script[] = "/tmp/exitbus-script-XXXXXX";

static void write_script(const char *text)
{
    int fd = mkstemp(script);
    check(fd >= 0);
    check_equal(write(fd, text, strlen(text)), strlen(text));
    check_ok(fchmod(fd, 0755));
    close(fd);
}

TEST(spawn_attributes, shell)
{
    struct exitbus *bus = bus_new();
    write_script("test \"$1 $2\" = 'one two' && exit 12\n"); /* no #! line */
    char *argv[] = {script, "one", "two", NULL};
    use(0);
    check_equal(run_program(bus, argv), -ENOEXEC);
    options.flags |= EXITBUS_SPAWN_SHELL;
    check_equal(run_program(bus, argv), 12);
    char *tiny[] = {TINY_CHILD, "3", NULL};
    check_equal(run_program(bus, tiny), 3);
    char *by_name[] = {strrchr(script, '/') + 1, "one", "two", NULL};
    char *environment[] = {"PATH=/nonexistent:/tmp", NULL};
    options.envp = environment;
    options.flags |= EXITBUS_SPAWN_SEARCH_PATH;
    setenv("PATH", "/usr/bin", 1);
    check_equal(run_program(bus, by_name), -ENOENT); /* along the caller's */
    options.flags |= EXITBUS_SPAWN_CHILD_PATH;
    check_equal(run_program(bus, by_name), 12);
    unlink(script);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, program_by_descriptor)
{
    struct exitbus *bus = bus_new();
    use(EXITBUS_ATTRIBUTE_PROGRAM_FD);
    attributes.program_fd = open(TINY_CHILD, O_PATH | O_CLOEXEC);
    char *argv[] = {"any name", "17", NULL};
    check_equal(run_program(bus, argv), 17);
    close(attributes.program_fd);
    attributes.program_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    check_fails(bus, EXITBUS_SPAWN_STEP_EXEC, EACCES);
    close(attributes.program_fd);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_attributes, pidfd)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *subscription;
    int pidfd = -2;
    pid_t pid;
    use(EXITBUS_ATTRIBUTE_PIDFD);
    attributes.pidfd = &pidfd;
    char *argv[] = {TINY_CHILD, "p", NULL};
    options.argv = argv;
    check_ok(exitbus_spawn(bus, &options, &pid, &subscription));
    check(pidfd >= 3);
    check(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
    check_ok(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0));
    check_equal(receive_pid(subscription, pid).exit_code, 128 + SIGTERM);
    close(pidfd);
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------- errors */

TEST(spawn_attributes, bad_arguments)
{
    struct exitbus *bus = bus_new();
    struct exitbus_spawn_limit limit = {RLIMIT_CORE, 2, 1};
    static const struct {
        uint32_t set;
        uint32_t flags;
    } bad[] = {
        {0x80000000u, 0},
        {EXITBUS_ATTRIBUTE_UID, 0},
        {EXITBUS_ATTRIBUTE_GID, 0},
        {EXITBUS_ATTRIBUTE_GROUPS, 0},
        {EXITBUS_ATTRIBUTE_UMASK, 0},
        {EXITBUS_ATTRIBUTE_NICE, 0},
        {EXITBUS_ATTRIBUTE_SCHEDULER, 0},
        {EXITBUS_ATTRIBUTE_CPUS, 0},
        {EXITBUS_ATTRIBUTE_LIMITS, 0},
        {EXITBUS_ATTRIBUTE_DEATH_SIGNAL, 0},
        {EXITBUS_ATTRIBUTE_CGROUP, 0},
        {EXITBUS_ATTRIBUTE_NAMESPACES, 0},
        {EXITBUS_ATTRIBUTE_ROOT, 0},
        {EXITBUS_ATTRIBUTE_TERMINAL, EXITBUS_SPAWN_SETSID},
        {EXITBUS_ATTRIBUTE_FOREGROUND, 0},
        {EXITBUS_ATTRIBUTE_PROGRAM_FD, 0},
        {EXITBUS_ATTRIBUTE_PIDFD, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        use(bad[i].set);
        options.flags |= bad[i].flags;
        attributes.uid = (uid_t)-1;
        attributes.gid = (gid_t)-1;
        attributes.group_count = 1;
        attributes.umask = 01000;
        attributes.nice = 20;
        attributes.scheduler = -1;
        attributes.limits = &limit;
        attributes.limit_count = 1;
        attributes.death_signal = 65;
        attributes.cgroup_fd = attributes.terminal_fd = attributes.program_fd = -1;
        attributes.namespaces = CLONE_NEWUSER; /* needs maps, which another process writes */
        check_fails(bus, EXITBUS_SPAWN_STEP_ARGUMENTS, EINVAL);
    }
    use(EXITBUS_ATTRIBUTE_TERMINAL); /* which takes a session of its own */
    check_fails(bus, EXITBUS_SPAWN_STEP_ARGUMENTS, EINVAL);
    use(EXITBUS_ATTRIBUTE_PROGRAM_FD);
    options.flags |= EXITBUS_SPAWN_SHELL;
    check_fails(bus, EXITBUS_SPAWN_STEP_ARGUMENTS, EINVAL);
    use(0);
    options.attributes = NULL;
    check_fails(bus, EXITBUS_SPAWN_STEP_ARGUMENTS, EINVAL);
    options.flags = 0; /* not read, since the flag is not set */
    options.attributes = (const void *)1;
    check_equal(run_tiny(bus, "4"), 4);
    struct exitbus_spawn_action action = {.kind = EXITBUS_SPAWN_CHDIR};
    use(0);
    options.actions = &action;
    options.action_count = 1;
    check_fails(bus, EXITBUS_SPAWN_STEP_ACTION, EINVAL);
    check_ok(exitbus_destroy(bus));
}
