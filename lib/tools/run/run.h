/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus-run: a small init and supervisor. What its files share.
 *
 *   main.c      begin and end
 *   options.c   the command line
 *   words.c     signals, numbers and times as words
 *   command.c   one command: start, exit, restart
 *   ending.c    what is left of a command when it ends
 *   signals.c   signals from outside, and where they go
 *   terminal.c  job control
 *   ready.c     readiness
 *   log.c       messages, and lines of JSON
 *   loop.c      the one loop
 *
 * Uses: the public header of the library, and one thread.
 */
#ifndef EXITBUS_RUN_H
#define EXITBUS_RUN_H

#include <exitbus/exitbus.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECOND_NS 1000000000LL

/* Exit codes of our own; the first is for errors that no command has made. */
enum { CODE_OURS = 125, CODE_NOT_STARTED = 126, CODE_NOT_FOUND = 127, CODE_SIGNAL = 128 };

/* ------------------------------------------------------------------------------------- options */

#define RUN_SIGNALS 65 /* numbers of signals, and 0 */
#define RUN_CODES 256

enum run_until { UNTIL_ALL, UNTIL_FIRST, UNTIL_MAIN };
enum run_restart { RESTART_NEVER, RESTART_ON_FAILURE, RESTART_ALWAYS };

struct run_options {
    char **words; /* commands, with separators between them; NULL-terminated */
    const char *separator;
    bool subreaper;
    bool child_only; /* signal processes, not their groups */
    bool session;    /* a session for each command, not only a process group */
    bool notify;     /* a NOTIFY_SOCKET for each command */
    int parent_death;
    int verbosity; /* 0: errors; 1: warnings; 2: starts and exits; 3: signals and orphans */
    enum run_until until;
    enum run_restart restart;
    int64_t backoff_from_ns, backoff_to_ns;
    int64_t tally_deaths, tally_ns; /* deaths 0: no limit */
    int64_t grace_ns;
    bool grace_given;
    int ready_fd;                 /* in each command; -1: none */
    int ready_to;                 /* ours, to tell; -1: none */
    const char *cgroup;           /* NULL: none; so the next two */
    const char *log;              /* a number, or a path */
    const char *record;           /* a path */
    uint8_t rewrite[RUN_SIGNALS]; /* 0: ignored */
    uint8_t map[RUN_CODES];
};

/*
 * Read the environment and the command line. Returns -1 to go on, or the exit status: help was
 * asked for, or an error was told.
 */
int options_read(struct run_options *options, int argc, char **argv);

/* ----------------------------------------------------------------------------------- commands */

enum command_state {
    COMMAND_NEW,     /* not started yet */
    COMMAND_RUNNING, /* its process lives */
    COMMAND_ENDING,  /* its process has exited; its group may have members */
    COMMAND_WAITING, /* is started again at due_ns */
    COMMAND_OVER,    /* for good */
};

struct command {
    char **argv;
    char name[24];   /* of its group: number and start */
    unsigned number; /* from 1 on */
    enum command_state state;
    struct exitbus_process *process; /* NULL unless RUNNING or ENDING; so the next two */
    struct exitbus_group *group;     /* NULL also where none could be made */
    pid_t pid;
    int cgroup_fd; /* -1: none */
    bool cgroup_made;
    bool asked;     /* SIGTERM from outside was passed on to it */
    bool told;      /* its group was told to end */
    bool emptied;   /* its group is empty, though its exit was not taken yet */
    bool killed;    /* … and the grace is over */
    bool by_number; /* the kernel can't name its process group by a descriptor */
    unsigned starts;
    int code;          /* of its last exit, mapped */
    uint64_t exit_seq; /* where that is in the order of the bus; 0: it could not be started */
    int64_t started_ns, backoff_ns;
    int64_t due_ns;  /* WAITING: of the next start; ENDING: of SIGKILL */
    int64_t *deaths; /* times of the last ones, a ring */
    uint64_t death_count;
    int ready_pipe; /* its end of ready_fd; -1: none */
    int ready_socket;
    bool ready;
};

struct run {
    struct run_options options;
    struct command *commands;
    size_t count;
    size_t left; /* commands that are not OVER */
    struct exitbus *bus;
    struct exitbus_reaper *reaper;
    struct exitbus_subscription *events;
    sigset_t inherited_mask;
    int signal_fd;        /* readable while a signal is pending */
    int terminal;         /* the controlling terminal, which a command has; -1: none */
    pid_t terminal_group; /* that of the command; 0: it was not given away */
    bool cgroup_made;     /* the one above those of the commands */
    int start_fd;         /* where a relative path of a cgroup begins */
    int log_fd;           /* -1: none */
    uint64_t log_dropped; /* lines, since the last that was written */
    bool stopping;        /* nothing is started again */
    bool all_told;        /* to end */
    bool reminder_comes;  /* see signals_remind() */
    bool ready_told;
    int status;
    uint64_t status_seq; /* when the command that has decided it has exited; at first the highest */
};

/* Start all, or none: then what was started is ended. */
void command_start_all(struct run *run);

/* Take its exit: its group is ended next. */
void command_exited(struct run *run, struct command *command, const struct exitbus_event *event);

/* No process of it is left: start it again, or let it be over. */
void command_finished(struct run *run, struct command *command);

/* Start it if it is due. */
void command_look(struct run *run, struct command *command, int64_t now);

/* End all: each by SIGTERM, and after the grace by SIGKILL. Nothing is started again. */
void command_end_all(struct run *run);

/* End one that waits for its next start. */
void command_give_up(struct run *run, struct command *command);

/* -------------------------------------------------------------------------------------- endings */

/* Make what a command's processes are ended by. Context: its process is not reaped yet. */
void ending_prepare(struct run *run, struct command *command);

/* Tell them to end: `signal`, and SIGKILL after `grace_ns`. */
void ending_begin(struct run *run, struct command *command, int signal, int64_t grace_ns);

/* Its process has exited: end what it has left behind. */
void ending_leftovers(struct run *run, struct command *command);

/* The library says that its group is empty. */
void ending_empty(struct run *run, struct command *command);

/* See to it that the end takes no longer than it may. */
void ending_look(struct run *run, struct command *command, int64_t now);

/* Open the cgroups of all commands, and make them if they are not there. Returns false: told. */
bool ending_open_cgroups(struct run *run);

/* Remove those that were made here. */
void ending_remove_cgroups(struct run *run);

/* -------------------------------------------------------------------------------------- signals */

/* Block all signals for good; they are taken by signals_take(). Returns the mask there was. */
sigset_t signals_block(void);

enum look { LOOK_NOT, LOOK_REMINDED, LOOK_NEWS };

/*
 * Take one signal, or wait until there is one. Returns whether one was taken. It is handled, but
 * for SIGCHLD, which raises *look.
 */
bool signals_take(struct run *run, bool wait, enum look *look);

/* Send SIGCHLD to this process in a second, which is LOOK_REMINDED, and ends reminder_comes. */
void signals_remind(struct run *run);

/* Send a signal to a command, as the options want it. */
void signals_send(struct run *run, const struct command *command, int signal);

/* ------------------------------------------------------------------------------------- terminal */

/* Find the controlling terminal, if its foreground is ours to give away. */
void terminal_find(struct run *run);

/* Returns whether a command that is started now gets the terminal. */
bool terminal_is_ours(const struct run *run);

/* Give it to the command that runs, if it is ours. */
void terminal_give(struct run *run);

/* Take it back, behind the end of a command. */
void terminal_take_back(struct run *run);

/* A start that was to have the terminal has failed: take it back from a group that is gone. */
void terminal_start_failed(struct run *run);

/* Stop, if a shell can continue us. Returns whether one has. */
bool terminal_stop(void);

/* SIGCHLD has come: a command that has the terminal may have stopped. */
void terminal_look(struct run *run);

/* ------------------------------------------------------------------------------------ readiness */

/* Descriptors of one command. */
#define READY_FDS 2

/* Open what it tells by; `child_fd` is for the command. Returns 0 or -errno. */
int ready_open(struct run *run, struct command *command, int *child_fd);
void ready_close(struct command *command);

/* It was started: that may be all that is wanted. */
void ready_started(struct run *run, struct command *command);

/* Returns its environment, to be freed, or NULL: that of this process. */
char **ready_environment(const struct run *run, const struct command *command);

/* Read what has come. */
void ready_read(struct run *run, struct command *command);

/* ------------------------------------------------------------------------------------------ log */

/* Print a message of that level, unless it would block. */
enum { SAY_ERROR, SAY_WARNING, SAY_INFO, SAY_DEBUG };
extern int say_verbosity;
void say(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Returns false: told. */
bool log_open(struct run *run);

/* From now on write messages without waiting, if that can be had. */
void log_own_messages(void);

/*
 * Open what `fd` is open to once more, so that writes do not wait for a reader, and others that
 * write there are not changed. Returns the descriptor; or `fd`, where there is no need or no way.
 */
int log_own(int fd);

/* Write all of it without waiting for room. Returns false, and errno: it was not. */
bool log_write(int fd, const char *text, size_t length);

void log_start(struct run *run, const struct command *command);
void log_not_started(struct run *run, const struct command *command, int error);
void log_exit(struct run *run, const struct command *command, const struct exitbus_event *event);
/* A word about a command, or NULL about all. */
void log_word(struct run *run, const char *word, const struct command *command);

/* ---------------------------------------------------------------------------------------- words */

/* Returns the number of "TERM", "SIGTERM" or "15"; 0 for "0"; or -1. */
int words_signal(const char *text);

/* Returns "TERM". The text is valid until the next call. */
const char *words_signal_name(int signal);

/* Read a number that `end` follows, and move on behind that. Returns false if it is none. */
bool words_number(const char **text, char end, int64_t max, int64_t *value);
bool words_seconds(const char **text, char end, int64_t *ns);

/* ----------------------------------------------------------------------------------------- loop */

/* Returns CLOCK_MONOTONIC. */
int64_t loop_now(void);

/* Run until all commands are over. */
void loop_run(struct run *run);

#endif
