/*
 * A small container shim: it runs processes in cgroups and pid namespaces, and tells what becomes
 * of them. It has one thread, and speaks lines over a Unix socket:
 *
 *     create ID CGROUP PROGRAM [ARG…]     make the container's process, which waits to be started
 *     start ID
 *     exec ID EXEC PROGRAM [ARG…]         run one more process in it
 *     kill ID EXEC SIGNAL                 signal one process
 *     end ID SIGNAL GRACE_MS              signal all, and later SIGKILL
 *     state ID EXEC                       "running", or "stopped CODE"
 *     delete ID
 *     events                              from now on, a line for each event
 *
 * With a directory it outlives its own death: a new shim that is given the same one goes on. There
 * the reaper records exits before it reaps, and the shim keeps a list of its processes.
 *
 * CGROUP is the path of a cgroup (v2) that is there, or "-": none. EXEC "-" is the container's own
 * process. Each command is answered by "ok …" or "error …".
 *
 *     cc -D_GNU_SOURCE shim.c $(pkg-config --cflags --libs exitbus) -o shim
 *     ./shim /run/shim.sock [/run/shim]
 */
#include <exitbus/exitbus.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS 16
#define CONTAINERS 64
#define EXECS 64
#define WORDS 32
#define SPACES " \t\v\f\r" /* between words, so that a line of the list has none within */

struct process {
    char id[EXITBUS_ID_MAX + 1];
    struct exitbus_exec *exec; /* NULL: it ended before this shim had begun */
    pid_t pid;                 /* 0: the entry is free */
    uint64_t start_ns;         /* with the pid it names the process */
    bool ended;
    int exit_code; /* ended; -1: not known */
};

struct container {
    char id[EXITBUS_ID_MAX + 1];
    struct exitbus_task *task;       /* NULL: the entry is free */
    struct process processes[EXECS]; /* the first is the container's own */
    char cgroup_path[PATH_MAX];
    int cgroup; /* -1: none */
    int gate;   /* its process waits for a line from here; -1: it has started */
};

struct client {
    int fd; /* 0: the entry is free */
    bool wants_events;
    size_t length;
    char text[4096];
};

static struct exitbus *bus;
static struct container containers[CONTAINERS];
static struct client clients[CLIENTS];
static const char *directory; /* NULL: nothing is kept */
static int record = -1;

/* -------------------------------------------------------------------------------------- answers */

static void say(const struct client *client, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vdprintf(client->fd, format, arguments);
    va_end(arguments);
}

static void say_result(const struct client *client, int result)
{
    if (result < 0)
        say(client, "error %s\n", exitbus_strerror(result));
    else
        say(client, "ok\n");
}

static struct container *find_container(const char *id)
{
    for (size_t i = 0; i < CONTAINERS; i++)
        if (containers[i].task && strcmp(containers[i].id, id) == 0)
            return &containers[i];
    return NULL;
}

/* "-": the container's own. */
static struct process *find_process(struct container *container, const char *id)
{
    for (size_t i = 0; i < EXECS; i++) {
        struct process *process = &container->processes[i];
        if (process->pid > 0 && strcmp(process->id, strcmp(id, "-") == 0 ? "" : id) == 0)
            return process;
    }
    return NULL;
}

/* Keep the list of processes for a shim that comes after this one. */
static void save(void)
{
    char path[PATH_MAX], new_path[PATH_MAX];
    if (!directory)
        return;
    snprintf(path, sizeof path, "%s/processes", directory);
    snprintf(new_path, sizeof new_path, "%s/processes.new", directory);
    FILE *list = fopen(new_path, "we");
    for (size_t i = 0; i < CONTAINERS && list; i++)
        for (size_t p = 0; p < EXECS && containers[i].task; p++) {
            const struct process *process = &containers[i].processes[p];
            if (process->pid > 0)
                fprintf(list, "%s %s %s %d %" PRIu64 " %d %d\n", containers[i].id,
                        containers[i].cgroup_path, process->id[0] ? process->id : "-", process->pid,
                        process->start_ns, process->ended, process->exit_code);
        }
    bool written = list && !ferror(list);
    if ((list && fclose(list) != 0) || !written || rename(new_path, path) != 0)
        fprintf(stderr, "shim: %s is not written: a restart will not know of this\n", path);
}

/* ------------------------------------------------------------------------------------ processes */

/* Start a child in the container's cgroup. Returns its pid, or -errno. */
static pid_t run(const struct container *container, char **argv, int gate, bool new_namespace)
{
    struct exitbus_spawn_action action = {.kind = EXITBUS_SPAWN_DUP2, .source_fd = gate, .fd = 3};
    struct exitbus_spawn_attributes attributes = {.cgroup_fd = container->cgroup,
                                                  .namespaces = CLONE_NEWPID};
    attributes.set = (container->cgroup >= 0 ? EXITBUS_ATTRIBUTE_CGROUP : 0) |
                     (new_namespace ? EXITBUS_ATTRIBUTE_NAMESPACES : 0);
    struct exitbus_spawn_options options = {.argv = argv,
                                            .flags = EXITBUS_SPAWN_SEARCH_PATH |
                                                     EXITBUS_SPAWN_ATTRIBUTES,
                                            .attributes = &attributes,
                                            .actions = &action,
                                            .action_count = gate >= 0 ? 1 : 0};
    pid_t pid;
    int result = exitbus_spawn(bus, &options, &pid, NULL);
    return result < 0 ? result : pid;
}

/* With the pid it names a process for as long as the machine runs. 0: not known. */
static uint64_t start_time(struct exitbus_process *process)
{
    uint64_t start_ns;
    return exitbus_process_start_time(process, &start_ns) == 0 ? start_ns : 0;
}

/* Reserve a name, start a child, and say which one it is. Returns its pid, or -errno. */
static pid_t run_named(struct container *container, const char *id, char **argv, int gate)
{
    struct process *process = container->processes;
    while (process < container->processes + EXECS && process->pid > 0)
        process++;
    if (process == container->processes + EXECS)
        return -ENOSPC;
    int result = exitbus_exec_reserve(container->task, id, &process->exec);
    if (result < 0)
        return result;
    pid_t pid = run(container, argv, gate, id[0] == '\0');
    if (pid > 0 && id[0] == '\0') /* an exit from here on is told behind the start */
        result = exitbus_exec_restarting(process->exec);
    if (pid > 0 && result == 0)
        result = exitbus_exec_started(process->exec, pid, -1);
    if (pid > 0 && result == 0) {
        struct exitbus_process *handle;
        snprintf(process->id, sizeof process->id, "%s", id);
        process->pid = pid;
        /* It is not reaped before the next poll. */
        if (exitbus_process_adopt(bus, pid, 0, &handle) == 0) {
            process->start_ns = start_time(handle);
            exitbus_process_unref(handle);
        }
        save();
        return pid;
    }
    exitbus_exec_unref(process->exec); /* which gives the reservation back */
    process->exec = NULL;
    return pid < 0 ? pid : result;
}

/* Give up what a container has, and its entry. */
static void forget(struct container *container)
{
    for (size_t i = 0; i < EXECS; i++)
        exitbus_exec_unref(container->processes[i].exec);
    exitbus_task_unref(container->task);
    if (container->cgroup >= 0)
        close(container->cgroup);
    if (container->gate >= 0)
        close(container->gate);
    memset(container, 0, sizeof *container);
    save();
}

/* Find a free entry, and make the task. Returns 0 or -errno. */
static int begin(const char *id, const char *cgroup_path, struct container **made)
{
    struct container *container = containers;
    while (container < containers + CONTAINERS && container->task)
        container++;
    if (container == containers + CONTAINERS)
        return -ENOSPC;
    container->gate = -1;
    container->cgroup =
        strcmp(cgroup_path, "-") == 0 ? -1 : open(cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct exitbus_task_options options = {.kill = EXITBUS_TASK_KILL_MEMBERS};
    if (container->cgroup >= 0)
        options = (struct exitbus_task_options){.kill = EXITBUS_TASK_KILL_CGROUP,
                                                .flags = EXITBUS_TASK_CGROUP,
                                                .cgroup_fd = container->cgroup};
    int result = exitbus_task_create(bus, id, &options, &container->task);
    if (result < 0)
        return result;
    snprintf(container->id, sizeof container->id, "%s", id);
    snprintf(container->cgroup_path, sizeof container->cgroup_path, "%s", cgroup_path);
    *made = container;
    return 0;
}

/* ------------------------------------------------------------------------------------- commands */

static int create(char **words, size_t count)
{
    struct container *container;
    if (count + 3 > WORDS)
        return -ENOSPC;
    if (find_container(words[1]) || strlen(words[1]) > EXITBUS_ID_MAX)
        return -EEXIST;
    int gates[2], result = begin(words[1], words[2], &container);
    if (result < 0)
        return result;
    if (container->cgroup < 0 && strcmp(words[2], "-") != 0)
        return forget(container), -ENOENT;
    if (pipe2(gates, O_CLOEXEC) < 0)
        return forget(container), -EMFILE;
    container->gate = gates[1];
    /* The program begins once a line comes through the gate. */
    char *argv[WORDS + 4] = {"sh", "-c", "read -r _ <&3 && exec \"$0\" \"$@\" 3<&-"};
    memcpy(argv + 3, words + 3, (count - 3) * sizeof *words);
    result = run_named(container, "", argv, gates[0]);
    close(gates[0]);
    if (result < 0)
        forget(container);
    return result;
}

static int start(struct container *container)
{
    if (container->gate < 0)
        return -EALREADY;
    ssize_t written = write(container->gate, "\n", 1);
    close(container->gate);
    container->gate = -1;
    (void)written; /* it may have died: then its exit comes behind the start */
    return exitbus_exec_started(container->processes[0].exec, 0, -1);
}

static int exec(struct container *container, char **words, size_t count)
{
    char pid[16], *argv[WORDS + 8] = {"nsenter", "-p", "-t", pid, "--"};
    if (container->processes[0].ended)
        return -EOWNERDEAD;
    snprintf(pid, sizeof pid, "%d", container->processes[0].pid);
    memcpy(argv + 5, words + 3, (count - 3) * sizeof *words);
    if (find_process(container, words[2]))
        return -EEXIST;
    return run_named(container, words[2], argv, -1);
}

static void state(const struct client *client, struct process *process)
{
    struct exitbus_event event = {.exit_code = process->exit_code};
    int result = process->ended ? 0 : exitbus_exec_wait(process->exec, &event, 0);
    if (result == 0)
        say(client, "ok stopped %d\n", event.exit_code);
    else if (result == -EAGAIN)
        say(client, "ok running\n");
    else
        say_result(client, result);
}

static void delete_container(const struct client *client, struct container *container)
{
    struct exitbus_event event;
    if (exitbus_exec_wait(container->processes[0].exec, &event, 0) == -EAGAIN) {
        say(client, "error it is running\n");
        return;
    }
    forget(container);
    say_result(client, 0);
}

static void command(struct client *client, char *line)
{
    char *words[WORDS + 1] = {NULL}, *rest;
    size_t count = 0;
    for (char *word = strtok_r(line, SPACES, &rest); word && count < WORDS;
         word = strtok_r(NULL, SPACES, &rest))
        words[count++] = word;
    const char *name = count > 0 ? words[0] : "";
    if (strcmp(name, "events") == 0) {
        client->wants_events = true;
        say_result(client, 0);
        return;
    }
    if (strcmp(name, "create") == 0 && count >= 4) {
        say_result(client, create(words, count));
        return;
    }
    struct container *container = count > 1 ? find_container(words[1]) : NULL;
    struct process *process = container && count > 2 ? find_process(container, words[2]) : NULL;
    if (!container)
        say(client, "error no such container, or command\n");
    else if (strcmp(name, "start") == 0)
        say_result(client, start(container));
    else if (strcmp(name, "exec") == 0 && count >= 4)
        say_result(client, exec(container, words, count));
    else if (strcmp(name, "end") == 0 && count == 4)
        say_result(client,
                   exitbus_task_end(container->task, atoi(words[2]), atoll(words[3]) * 1000000));
    else if (strcmp(name, "delete") == 0)
        delete_container(client, container);
    else if (strcmp(name, "kill") == 0 && count == 4 && process)
        say_result(client, exitbus_exec_signal(process->exec, atoi(words[3])));
    else if (strcmp(name, "state") == 0 && process)
        state(client, process);
    else
        say(client, "error no such process, or command\n");
}

/* ------------------------------------------------------------------------------------ a restart */

/* Look for an exit that a shim before this one has collected. */
static bool is_recorded(const struct process *process, int *exit_code)
{
    struct exitbus_event event;
    struct exitbus_event_details details;
    uint64_t offset = 0;
    int result;
    while ((result = exitbus_record_read(record, &offset, &event)) == 0 || result == -EBADMSG)
        if (result == 0 && event.pid == process->pid &&
            exitbus_event_details(&event, &details) == 0 && details.start_ns == process->start_ns) {
            *exit_code = event.exit_code;
            return true;
        }
    return false;
}

/* Go on with a process that still runs. It is no child any more. */
static bool take_over(struct container *container, struct process *process)
{
    struct exitbus_process *handle;
    int pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    bool is_it = pidfd >= 0 && exitbus_process_adopt_pidfd(bus, pidfd, 0, &handle) == 0;
    if (is_it) {
        /* And not another of that pid. */
        is_it = process->start_ns > 0 && start_time(handle) == process->start_ns;
        exitbus_process_unref(handle);
    }
    if (is_it && exitbus_exec_reserve(container->task, process->id, &process->exec) == 0 &&
        exitbus_exec_started(process->exec, 0, pidfd) < 0) {
        exitbus_exec_unref(process->exec);
        process->exec = NULL;
    }
    if (pidfd >= 0)
        close(pidfd);
    return process->exec != NULL;
}

/* A process has ended and is recorded, or it runs, or it has ended while there was no shim. */
static void restore(char *line)
{
    struct process read = {0};
    char id[EXITBUS_ID_MAX + 1], cgroup_path[PATH_MAX];
    int ended;
    if (sscanf(line, "%127s %4095s %127s %d %" SCNu64 " %d %d", id, cgroup_path, read.id, &read.pid,
               &read.start_ns, &ended, &read.exit_code) != 7)
        return;
    struct container *container = find_container(id);
    if (!container && begin(id, cgroup_path, &container) < 0)
        return;
    if (strcmp(read.id, "-") == 0)
        read.id[0] = '\0';
    struct process *process = container->processes;
    while (process < container->processes + EXECS && process->pid > 0)
        process++;
    if (process == container->processes + EXECS)
        return;
    *process = read;
    process->ended = true;
    if (ended || is_recorded(process, &process->exit_code))
        return;
    process->exit_code = -1;
    process->ended = !take_over(container, process);
}

/* Open what a shim before this one has left. Returns false if that can't be done. */
static bool restart(void)
{
    char path[PATH_MAX], line[PATH_MAX + 512];
    snprintf(path, sizeof path, "%s/exits", directory);
    record = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    snprintf(path, sizeof path, "%s/processes", directory);
    FILE *list = fopen(path, "re");
    while (list && fgets(line, sizeof line, list))
        restore(line);
    if (list)
        fclose(list);
    return record >= 0;
}

/* --------------------------------------------------------------------------------- the one loop */

static void read_lines(struct client *client)
{
    ssize_t got =
        read(client->fd, client->text + client->length, sizeof client->text - 1 - client->length);
    if (got <= 0) {
        close(client->fd);
        memset(client, 0, sizeof *client);
        return;
    }
    client->length += (size_t)got;
    client->text[client->length] = '\0';
    char *line = client->text, *end;
    while ((end = strchr(line, '\n'))) {
        *end = '\0';
        command(client, line);
        line = end + 1;
    }
    client->length = strlen(line);
    memmove(client->text, line, client->length + 1);
    if (client->length == sizeof client->text - 1) {
        client->length = 0;
        say(client, "error no command is so long\n");
    }
}

/* Before it is told. What this shim has taken over is no child, and so in no record. */
static void note_end(const struct exitbus_event *event)
{
    struct container *container = find_container(event->container_id);
    struct process *process =
        container ? find_process(container, event->exec_id[0] ? event->exec_id : "-") : NULL;
    if (!process)
        return;
    process->ended = true;
    process->exit_code = event->exit_code;
    save();
}

static void tell_events(struct exitbus_subscription *events)
{
    static const char *const kinds[] = {[EXITBUS_EVENT_EXEC] = "exit",
                                        [EXITBUS_EVENT_STARTED] = "started",
                                        [EXITBUS_EVENT_LEADER_DIED] = "died",
                                        [EXITBUS_EVENT_OOM] = "oom"};
    struct exitbus_event event;
    while (exitbus_receive(events, &event, 0) == 0) {
        if (event.kind == EXITBUS_EVENT_EXEC)
            note_end(&event);
        const char *kind = event.kind < sizeof kinds / sizeof *kinds ? kinds[event.kind] : NULL;
        for (size_t i = 0; i < CLIENTS && kind; i++)
            if (clients[i].fd > 0 && clients[i].wants_events)
                say(&clients[i], "event %s %s %s %d %d\n", kind, event.container_id,
                    event.exec_id[0] ? event.exec_id : "-", event.pid, event.exit_code);
    }
}

static void take_client(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    for (size_t i = 0; i < CLIENTS && fd > 0; i++)
        if (clients[i].fd == 0) {
            clients[i].fd = fd;
            return;
        }
    if (fd > 0)
        close(fd);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0)
        return -1;
    return listener;
}

int main(int argc, char **argv)
{
    struct exitbus_reaper_options options = {
        .mode = EXITBUS_REAPER_ALL,
        .flags = EXITBUS_REAPER_POLLED | EXITBUS_REAPER_SUBREAPER | EXITBUS_REAPER_SIGNALFD};
    struct exitbus_reaper *reaper;
    struct exitbus_subscription *events;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL); /* it is left to the reaper */
    signal(SIGPIPE, SIG_IGN);
    int listener = argc == 2 || argc == 3 ? listen_at(argv[1]) : -1;
    bus = exitbus_default();
    directory = argc == 3 ? argv[2] : NULL;
    if (directory && bus && restart()) {
        options.flags |= EXITBUS_REAPER_RECORD;
        options.record_fd = record;
    }
    if (listener < 0 || !bus || (directory && record < 0) ||
        exitbus_reaper_start(bus, &options, &reaper) < 0 ||
        exitbus_subscribe(bus, exitbus_topic_any_exec(), 0, &events) < 0) {
        fprintf(stderr, "usage: shim SOCKET [DIRECTORY]\n");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd ready[3 + CLIENTS] = {
            {.fd = exitbus_reaper_fd(reaper), .events = POLLIN},
            {.fd = exitbus_subscription_fd(events), .events = POLLIN},
            {.fd = listener, .events = POLLIN}};
        for (size_t i = 0; i < CLIENTS; i++)
            ready[3 + i] =
                (struct pollfd){.fd = clients[i].fd > 0 ? clients[i].fd : -1, .events = POLLIN};
        poll(ready, 3 + CLIENTS, -1);
        if (ready[0].revents)
            exitbus_reaper_poll(reaper);
        tell_events(events);
        for (size_t i = 0; i < CLIENTS; i++)
            if (ready[3 + i].revents)
                read_lines(&clients[i]);
        if (ready[2].revents)
            take_client(listener);
    }
}
