# SPDX-License-Identifier: MIT OR Apache-2.0
"""exitbus-run without a terminal."""

import itertools
import json
import os
import pty
import re
import resource
import shutil
import signal
import socket
import subprocess

import support
from support import (
    ECHO, PYTHON, Echo, Skip, as_pid_1, await_that, children, descendants, is_gone, kill,
    lines_of_log, run, signals_of, start, stat, state, status_field, temporary, test)

SUSPEND = [signal.SIGTSTP, signal.SIGTTOU, signal.SIGTTIN]
NOT_SENT = [signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD]
NORMAL = [number for number in range(1, 32) if number not in NOT_SENT + SUSPEND]
LONG = os.environ.get("EXITBUS_LONG") == "1"
MANY = 10000 if LONG else 200

# ------------------------------------------------------------------------------------ exit status


@test
def exit_status_is_that_of_the_command():
    for code in 0, 1, 2, 32, 64, 127, 254, 255:
        for options in [], ["-c", "-vv"]:
            assert run(*options, "sh", "-c", f"exit {code}")[0] == code


@test
def exit_status_of_a_signal():
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL:
        for options in [], ["-c"]:
            command = f"kill -{number:d} $$"
            assert run(*options, "sh", "-c", command)[0] == 128 + number


@test
def exit_codes_are_mapped():
    for code in range(256) if LONG else [*range(5), *range(124, 132), 143, 254, 255]:
        assert run("-q", "-m", f"{code}:0", "--", "sh", "-c", f"exit {code}")[0] == 0
        others = [["-m", f"{other}:0"] for other in range(256) if other != code]
        status = run("-q", *itertools.chain(*others), "sh", "-c", f"exit {code}")[0]
        assert status == code, f"{status} is not {code}"


@test
def ranges_are_mapped():
    for code, expected in (63, 63), (64, 9), (70, 9), (78, 9), (79, 79), (0, 3):
        assert run("-m64-78:9", "-m", "0:3", "sh", "-c", f"exit {code}")[0] == expected


# ---------------------------------------------------------------------------------------- errors


@test
def unknown_command():
    for words in ["/doesnotexist"], ["--", "doesnotexist"], ["-c", "/does/not/exist"], ["", "x"]:
        status, out, err = run("-q", *words)
        assert (status, out) == (127, "") and "No such file or directory" in err, err


@test
def no_permission():
    status, _, err = run("-q", "/etc/passwd")
    assert status == 126 and err == "exitbus-run: /etc/passwd: Permission denied\n", err
    assert run("-q", "/")[0] == 126


@test
def script_without_a_first_line():
    path = temporary("script")
    with open(path, "w", encoding="ascii") as script:
        script.write("exit 6\n")
    os.chmod(path, 0o755)
    assert run("-q", path)[0] == 6


@test
def no_command_is_an_error():
    for words in [], ["--"], ["-v"], [":::"], ["true", ":::"], ["true", ":::", ":::", "true"]:
        status, out, err = run(*words)
        assert status == 125 and out == "" and re.search("command", err), (words, err)


@test
def bad_options():
    for words in (
        ["-z"], ["--nonesuch"], ["-r", "TERM"], ["-r", "TERM:99"], ["-r", "0:TERM"], ["-r", "x:y"],
        ["-r", "KILL:TERM"], ["-r", "CHLD:TERM"], ["-m", "256:0"], ["-m", "1"], ["-m", "1:-1"],
        ["-m", "9-3:0"], ["-g", "x"], ["-g", "-1"], ["-g", "1s"], ["-u", "last"], ["-p", "0"],
        ["-p", "BAD"], ["--restart", "maybe"], ["--backoff", "1"], ["--backoff", "2:1"],
        ["--tally", "0:1"], ["--tally", "5"], ["--ready-fd", "2"], ["--ready-fd", "x"],
        ["--ready-to", "99"], ["--log", "99"], ["--log", "/nonexistent/log"], ["--separator", ""],
        ["--record", "/nonexistent/record"], ["--record", "/dev/null"],
        ["--cgroup", "/nonexistent/group"], ["--cgroup", "/proc"]):
        mark = temporary("mark")
        status, _, err = run("-q", *words, "touch", mark)
        assert status == 125 and "exitbus-run: " in err.replace(support.program, "exitbus-run")
        assert not os.path.exists(mark), words


@test
def options_from_the_environment():
    environment = dict(os.environ, EXITBUS_RUN_OPTIONS="-q --map 5:6")
    assert run("sh", "-c", "exit 5", env=environment) == (6, "", "")
    assert run("-m", "5:7", "sh", "-c", "exit 5", env=environment)[0] == 7
    for wrong in "-z", "true", "-q true":
        assert run("true", env=dict(os.environ, EXITBUS_RUN_OPTIONS=wrong))[0] == 125


@test
def help_and_version():
    for flag in "-h", "--help":
        status, out, err = run(flag)
        assert status == 0 and err == "" and out.startswith("usage: exitbus-run")
    for flag in "-V", "--version":
        status, out, err = run(flag)
        assert status == 0 and re.fullmatch(r"exitbus-run \d+\.\d+\.\d+\n", out) and err == ""


@test
def options_are_documented():
    """The manual page and the table of docs/exitbus-run.md have the options of --help."""
    options = set(re.findall(r"--([a-z-]+)\b", run("--help")[1]))
    with open(f"{support.source}/docs/man/exitbus-run.1", encoding="utf-8") as page:
        paged = set(re.findall(r"^\.It .*Fl -([a-z-]+)", page.read(), re.M))
    assert options == paged, options ^ paged
    with open(f"{support.source}/docs/exitbus-run.md", encoding="utf-8") as document:
        text = document.read()
    missing = [name for name in options if f"--{name}" not in text]
    assert not missing, missing
    here = os.path.dirname(os.path.abspath(__file__))
    names = set()
    for module in "cases", "terminal":
        with open(f"{here}/{module}.py", encoding="utf-8") as tests:
            names |= set(re.findall(r"^def (\w+)\(", tests.read(), re.M))
    unknown = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", text)) - names
    assert not unknown, unknown


@test
def verbose_says_what_happens():
    status, out, err = run("-v", "echo", "oh,", "hi")
    assert (status, out) == (0, "oh, hi\n")
    assert re.search(r"echo \(1\) started as \d+\n.*echo \(1\), which was \d+, exited with 0", err)
    err = run("-v", "-c", "sh", "-c", "kill -9 $$")[2]
    assert "was killed by SIGKILL" in err
    assert run("-q", "true") == (0, "", "")


# --------------------------------------------------------------------------------------- orphans

ORPHAN = "(true & echo $!) | { read pid; until ! kill -0 $pid; do sleep 0.01; done; } 2>/dev/null"


@test
def orphans_are_reaped():
    for prefix in [], ["sh", "-c", 'exec "$0" "$@"']:
        status, _, err = run("--subreaper", support.orphans, "at-once", "20", prefix=prefix)
        assert (status, err) == (0, "")


@test
def orphans_are_reaped_as_pid_1():
    prefix = as_pid_1()
    assert run("-q", support.orphans, "at-once", str(MANY), prefix=prefix)[0] == 0
    status, out, _ = run("-q", support.orphans, "one-by-one", str(MANY), prefix=prefix)
    assert status == 0 and int(out) > 0


@test
def orphans_are_told():
    err = run("-s", "-vvv", support.orphans, "at-once", "3")[2]
    assert len(re.findall("reaped [0-9]+, an orphan", err)) == 3, err
    assert "an orphan" not in run("-s", "-v", support.orphans, "at-once", "3")[2]


@test
def warns_where_orphans_go_elsewhere():
    assert "neither PID 1 nor a subreaper" in run("true")[2]
    assert run("-s", "true")[2] == ""
    assert run("true", prefix=as_pid_1())[2] == ""


@test
def many_commands():
    words = [["sh", "-c", "exit 0", ":::"] for _ in range(99)] + [["true"]]
    assert run("-q", *itertools.chain(*words))[0] == 0


# --------------------------------------------------------------------------------------- signals


@test
def signal_ends_the_command():
    for number in signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2:
        for options in ["-q"], ["-s"]:
            process = start(*options, "sleep", "1000")
            await_that(lambda p=process: children(p.pid), "a child")
            process.send_signal(number)
            assert process.wait(support.TIMEOUT_S) == 128 + number


@test
def signals_to_pid_1():
    """INT to a program that exits with 1 for it, and TERM to one that does nothing."""
    for number, expected in (signal.SIGINT, 1), (signal.SIGTERM, 128 + signal.SIGTERM):
        command = "trap 'exit 1' INT; echo up; while :; do sleep 0.01; done"
        outer = start("-q", "sh", "-c", command, prefix=as_pid_1())
        assert outer.stdout.readline() == b"up\n"
        os.kill(children(outer.pid)[0], number)
        assert outer.wait(support.TIMEOUT_S) == expected


@test
def every_signal_is_passed_on():
    for options in [], ["-c"], ["-S"]:
        echo = Echo(*options)
        for number in NORMAL + [34, 64]:
            echo.send(number)
            echo.expect(number)


@test
def signals_at_any_moment():
    """Sent at once, to a process that has them blocked from its first instruction on. Two are left
    out, which Python as a command ignores while it starts."""
    sent = [*NORMAL, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)]
    sent = [number for number in sent if number not in (signal.SIGPIPE, signal.SIGXFSZ)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        for _ in range(5):
            process = start("-q", "--", PYTHON, "-c", ECHO)
            for number in sent:
                process.send_signal(number)
            process.stdout.readline()
            got = {int(process.stdout.readline()) for _ in sent}
            assert got == set(map(int, sent)), set(sent) ^ got
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@test
def queued_signals_are_all_passed_on():
    echo = Echo()
    for _ in range(200):
        echo.send(signal.SIGRTMIN + 1)
    echo.expect(*[signal.SIGRTMIN + 1] * 200)


@test
def signals_are_rewritten():
    term, interrupt, quit_, cont = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCONT
    for options, sent, expected in (
        ([], [term, quit_, cont, interrupt], [term, quit_, cont, interrupt]),
        (["TERM:INT"], [term, quit_, cont, interrupt], [interrupt, quit_, cont, interrupt]),
        (["SIGTERM:2", "INT:TERM", "3:3"], [term, quit_, cont, interrupt],
         [interrupt, quit_, cont, term]),
        (["1:31", "31:1"], [1, 31], [31, 1])):
        echo = Echo(*[f"-r{each}" for each in options])
        for number, wanted in zip(sent, expected):
            echo.send(number)
            echo.expect(wanted)


@test
def signals_are_ignored():
    echo = Echo("-r", "TERM:QUIT", "-r", "INT:0", "-r", "WINCH:0", "--rewrite", "TSTP:0")
    for number, wanted in (
        (signal.SIGTERM, signal.SIGQUIT), (signal.SIGINT, None), (signal.SIGWINCH, None),
        (signal.SIGTSTP, None), (signal.SIGHUP, signal.SIGHUP)):
        echo.send(number)
        if wanted:
            echo.expect(wanted)


def is_stopped(pid):
    return state(pid) == "T"


def continue_it(echo):
    echo.send(signal.SIGCONT)
    echo.expect(signal.SIGCONT)
    await_that(lambda: state(echo.pid) in ("S", "R"), "it runs again")


@test
def suspends_itself_behind_the_command():
    echo = Echo()
    for number in SUSPEND:
        echo.send(number)
        echo.expect(number)
        await_that(lambda: is_stopped(echo.pid), "exitbus-run stops")
        continue_it(echo)


@test
def suspends_a_session():
    """A session has no shell to stop it: it gets SIGSTOP."""
    echo = Echo("--session")
    for number in SUSPEND:
        echo.send(number)
        await_that(lambda: is_stopped(echo.pid) and is_stopped(echo.child), "both stop")
        continue_it(echo)


@test
def suspends_with_rewritten_signals():
    for options in [], ["--session"]:
        echo = Echo("-rTTIN:TERM", "-rTTOU:INT", "-rTSTP:HUP", *options)
        for number, wanted in zip([signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP],
                                  [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]):
            echo.send(number)
            echo.expect(wanted)
            await_that(lambda each=echo: is_stopped(each.pid), "exitbus-run stops")
            continue_it(echo)


@test
def inherited_signals_stay():
    """What was ignored and blocked is so in the command, and nothing else."""

    def prepare():
        for number in signal.SIGTTOU, signal.SIGSEGV, signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.pthread_sigmask(
            signal.SIG_SETMASK, [signal.SIGTTIN, signal.SIGILL, signal.SIGTERM])

    out = run("-q", "cat", "/proc/self/status", preexec_fn=prepare)[1]
    fields = dict(re.findall(r"^Sig(Blk|Ign|Cgt):\s*(\w+)", out, re.M))
    ignored = signals_of(int(fields["Ign"], 16))
    assert ignored == {signal.SIGTTOU, signal.SIGSEGV, signal.SIGINT}, ignored
    blocked = signals_of(int(fields["Blk"], 16))
    assert blocked == {signal.SIGTTIN, signal.SIGILL, signal.SIGTERM}, blocked


@test
def ignored_sigchld_loses_no_status():
    ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert run("-q", "sh", "-c", "exit 9", preexec_fn=ignore)[0] == 9


@test
def parent_death_is_passed_on():
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        subprocess.Popen(
            [support.program, "-q", "-p", "USR1", "--", PYTHON, "-c", ECHO],
            stdin=subprocess.DEVNULL, stdout=writer)
        signal.pause()
    os.close(writer)
    lines = os.fdopen(reader)
    child = int(lines.readline().split()[1])
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert int(lines.readline()) == signal.SIGUSR1
    os.kill(child, signal.SIGKILL)
    lines.close()


# ---------------------------------------------------------------------------------------- groups


@test
def group_gets_the_signal():
    """A process that ignores USR1 waits for one that does not: both end."""
    command = "trap '' USR1; %s & wait" % (
        PYTHON + " -c 'import signal, time; signal.signal(signal.SIGUSR1, signal.SIG_DFL);"
        " print(1, flush=True); time.sleep(1000)'")
    process = start("-q", "sh", "-c", command)
    assert process.stdout.readline() == b"1\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(support.TIMEOUT_S) == 0


PIPELINE = "yes 'oh, hi' | tail & yes error | tail >&2"


def pipeline(*options):
    process = start("-q", "-s", *options, "sh", "-c", PIPELINE + "; wait")
    await_that(lambda: len(descendants(process.pid)) >= 5, "the pipeline")
    return process, descendants(process.pid)


@test
def pipeline_ends_as_a_whole():
    for options in [], ["-S"]:
        process, pids = pipeline(*options)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=support.TIMEOUT_S)
        await_that(lambda each=pids: all(map(is_gone, each)), "all end")


@test
def child_only_gets_the_signal():
    process, pids = pipeline("--child-only")
    shell = children(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(support.TIMEOUT_S) == 128 + signal.SIGTERM
    rest = [pid for pid in pids if pid not in shell]
    assert len(rest) >= 4 and not any(map(is_gone, rest))
    for pid in rest:
        kill(pid, signal.SIGKILL)


def leave_one_behind(*options, wrapper="", **more):
    """A shell that ends once its background process is ready. Returns that, and what it prints."""
    fifo = temporary("fifo")
    os.mkfifo(fifo)
    script = (f"exec 3<>{fifo}; {wrapper} {PYTHON} -c '{ECHO}' >&3 3<&- & "
              f"read _ pid <{fifo}; echo $pid")
    process = start("-q", "-s", *options, "sh", "-c", script, **more)
    reader = os.open(fifo, os.O_RDWR)
    return process, int(process.stdout.readline()), os.fdopen(reader)


@test
def leftovers_get_term():
    process, pid, lines = leave_one_behind("-g", "1000")
    assert int(lines.readline()) == signal.SIGTERM
    assert process.poll() is None  # it waits for the group
    kill(pid, signal.SIGKILL)
    assert process.wait(support.TIMEOUT_S) == 0
    lines.close()


@test
def child_only_leaves_leftovers():
    process, pid, lines = leave_one_behind("--child-only")
    assert process.wait(support.TIMEOUT_S) == 0
    for number in 1, 2, 3:
        os.kill(pid, number)
        assert int(lines.readline()) == number  # and no SIGTERM before
    kill(pid, signal.SIGKILL)
    lines.close()


@test
def grace_then_kill():
    """TERM, which is ignored, and then KILL."""
    for options in [], ["-c"], ["-S"]:
        echo = Echo("-g", "1000", *options)
        echo.send(signal.SIGTERM)
        echo.expect(signal.SIGTERM)
        assert echo.process.poll() is None
        echo = Echo("-g", "0.1", *options)
        echo.send(signal.SIGTERM)
        assert echo.process.wait(support.TIMEOUT_S) == 128 + signal.SIGKILL


def is_killed_with_it(*options, **more):
    """What a shell leaves behind, which ignores TERM."""
    process, pid, lines = leave_one_behind("-g", "0.1", *options, **more)
    assert process.wait(support.TIMEOUT_S) == 0
    assert is_gone(pid)
    lines.close()


@test
def grandchild_that_ignores_term_is_killed():
    is_killed_with_it()
    is_killed_with_it("--session")


@test
def before_linux_6_9():
    """The same where the kernel signals no process group by a descriptor."""
    trace = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=pidfd_send_signal:error=EINVAL"]
    if not shutil.which("strace") or subprocess.run(
            [*trace, "true"], stdin=subprocess.DEVNULL, capture_output=True,
            check=False).returncode:
        raise Skip("there is no strace, or it may not trace")
    is_killed_with_it(prefix=trace)
    process, pid, lines = leave_one_behind("-g", "1000", prefix=trace)
    assert int(lines.readline()) == signal.SIGTERM
    kill(pid, signal.SIGKILL)
    assert process.wait(support.TIMEOUT_S) == 0
    lines.close()
    assert run("-q", "true", prefix=trace)[0] == 0


@test
def zombies_of_others_hold_nothing_up():
    """A member of the group whose parent, another subreaper, never reaps it."""
    outer = """
import ctypes, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
sys.exit(process.wait())
"""
    words = [PYTHON, "-c", outer, support.program, "-g", "0", "sh", "-c", "sleep 1000 & exit 3"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                          timeout=support.TIMEOUT_S)
    assert done.returncode == 3 and b"is not gone yet" in done.stderr, done


def cgroup():
    for root in "/sys/fs/cgroup/unified", "/sys/fs/cgroup":
        path = f"{root}/exitbus-run-{os.getpid()}"
        if os.path.exists(f"{root}/cgroup.procs"):
            try:
                os.mkdir(path)
                return path
            except OSError:
                pass
    raise Skip("no cgroup v2 can be made")


@test
def cgroup_is_killed():
    """Also what has left the process group and the session, and ignores TERM."""
    path = cgroup()
    try:
        is_killed_with_it("--cgroup", path, wrapper="setsid")
        assert os.path.isdir(path)  # it was there before
        words = ["cat", "/proc/self/cgroup"]
        out = run("-q", "--cgroup", f"{path}/own", *words, ":::", *words)[1]
        name = os.path.basename(path)
        assert sorted(re.findall(rf"{name}/own/(\d)\n", out)) == ["1", "2"], out
        assert not os.path.isdir(f"{path}/own")  # that was not
        enter = f"echo 0 > {path}/cgroup.procs; exec \"$0\" \"$@\""
        status, _, err = run("--cgroup", path, "true", prefix=["sh", "-c", enter])
        assert status == 125 and "itself is there" in err, err
    finally:
        os.rmdir(path)


@test
def cgroup_above_our_own_is_refused():
    """The end of a cgroup also kills what is in those below it."""
    path = cgroup()
    below = f"{path}/one/two"
    try:
        os.makedirs(below)
        enter = f"echo 0 > {below}/cgroup.procs; exec \"$0\" \"$@\""
        for each in path, f"{path}/one", below:
            status, _, err = run("--cgroup", each, "true", prefix=["sh", "-c", enter])
            assert status == 125 and "itself is there" in err, (each, status, err)
        beside = f"{path}/one/three"
        assert run("-q", "--cgroup", beside, "true", prefix=["sh", "-c", enter])[0] == 0
    finally:
        for each in below, f"{path}/one", path:
            os.rmdir(each)


@test
def cgroup_in_the_directory_is_removed():
    """A relative path is one from where exitbus-run was started, also at the end."""
    path = cgroup()
    try:
        for words in ["true"], ["true", ":::", "true"]:
            assert run("-q", "--cgroup", "own", *words, cwd=path)[0] == 0
            assert not os.path.isdir(f"{path}/own"), words
    finally:
        os.rmdir(path)


@test
def cgroup_that_is_empty_early_holds_nothing_up():
    """It is so before its last member is a zombie. Here the command leaves it, and then exits."""
    path = cgroup()
    leave = f"echo 0 >{os.path.dirname(path)}/cgroup.procs; exec sleep 0.2"
    script = f"trap '{leave}' TERM; echo up; while :; do sleep 0.01; done"
    try:
        process = start("-q", "-g", "1000", "--cgroup", path, "sh", "-c", script)
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(support.TIMEOUT_S) == 0
    finally:
        support.end_all()
        os.rmdir(path)


# ------------------------------------------------------------------------------- several commands


@test
def waits_for_all():
    reader, writer = os.pipe()
    process = start("-q", "true", ":::", "sh", "-c", f"read line <&{reader}; exit 0",
                    pass_fds=[reader])
    await_that(lambda: len(children(process.pid)) == 1, "the first ends")
    assert process.poll() is None
    os.write(writer, b"\n")
    assert process.wait(support.TIMEOUT_S) == 0
    os.close(reader)
    os.close(writer)


@test
def first_failure_decides():
    path = temporary("fifo")
    os.mkfifo(path)
    second = f"read pid <{path}; while kill -0 $pid 2>/dev/null; do :; done; exit 5"
    first = f"echo $$ >{path}; exit 4"
    assert run("-q", "true", ":::", "sh", "-c", second, ":::", "sh", "-c", first)[0] == 4


@test
def first_to_end_ends_all():
    assert run("-q", "-u", "first", "sleep", "1000", ":::", "sh", "-c", "exit 3")[0] == 3
    assert run("-q", "-u", "first", "sleep", "1000", ":::", "true")[0] == 0


@test
def command_that_waits_does_not_decide():
    """With --until first, an exit behind which there is to be another start is no end."""
    log = temporary("log")
    wait = f"until grep -q '\"event\":\"exit\"' {log} 2>/dev/null; do sleep 0.01; done; exit 0"
    one, two = ["sh", "-c", "exit 4"], ["sh", "-c", wait]
    for order in [*one, ":::", *two], [*two, ":::", *one]:
        status = run("-q", "--log", log, "-u", "first", "--restart", "on-failure",
                     "--backoff", "1000:1000", *order)[0]
        assert status == 0, status
        os.unlink(log)


@test
def term_from_outside_is_sent_once():
    """It was passed on to both. When the first is over, the other is not told again."""
    fifo, log = temporary("fifo"), temporary("log")
    os.mkfifo(fifo)
    lines = os.fdopen(os.open(fifo, os.O_RDWR))
    first = "trap '' TERM; exec sleep 1000"
    second = f"exec {PYTHON} -c '{ECHO}' >{fifo}"
    process = start("-q", "--log", log, "-u", "first", "sh", "-c", first, ":::", "sh", "-c", second)
    pid = int(lines.readline().split()[1])
    await_that(lambda: status_field(lines_of_log(log)[0]["pid"], "SigIgn") >> 14 & 1, "the trap")
    process.send_signal(signal.SIGTERM)
    assert int(lines.readline()) == signal.SIGTERM
    kill(lines_of_log(log)[0]["pid"], signal.SIGKILL)
    await_that(lambda: lines_of_log(log)[-1]["event"] == "exit", "the first exits")
    process.send_signal(signal.SIGUSR1)
    assert int(lines.readline()) == signal.SIGUSR1  # and not SIGTERM again
    kill(pid, signal.SIGKILL)
    assert process.wait(support.TIMEOUT_S) == 128 + signal.SIGKILL
    lines.close()


@test
def main_command_ends_all():
    for words in ["sh", "-c", "exit 3"], ["true"]:
        expected = 3 if words[0] == "sh" else 0
        others = [":::", "sh", "-c", "exit 9", ":::", "sleep", "1000"]
        assert run("-q", "--until", "main", *words, *others)[0] == expected


@test
def failed_start_ends_the_others():
    for words in ["sleep", "1000", ":::", "nonesuch"], ["nonesuch", ":::", "sleep", "1000"]:
        status, _, err = run("-q", *words)
        assert status == 127 and "nonesuch" in err


@test
def separator_is_a_word():
    assert run("-q", "--separator", "AND", "echo", ":::", "AND", "true")[1] == ":::\n"


@test
def signal_goes_to_all():
    process = start("-q", "sleep", "1000", ":::", "sleep", "1001")
    await_that(lambda: len(children(process.pid)) == 2, "two children")
    process.send_signal(signal.SIGTERM)
    assert process.wait(support.TIMEOUT_S) == 128 + signal.SIGTERM


# -------------------------------------------------------------------------------------- restarts


@test
def restarts_on_failure():
    path = temporary("count")
    script = f"echo x >> {path}; [ $(wc -l < {path}) -ge 3 ] && exit 0; exit 1"
    words = ["-q", "--backoff", "0:0", "--restart", "on-failure", "sh", "-c", script]
    assert run(*words)[0] == 0
    with open(path, encoding="ascii") as text:
        assert text.read() == "x\n" * 3


@test
def restarts_until_the_tally():
    log = temporary("log")
    for code, expected in (0, 1), (7, 7):
        words = ["-q", "--log", log, "--backoff", "0:0", "--tally", "5:1000", "--restart", "always"]
        status, _, err = run(*words, "sh", "-c", f"exit {code}")
        assert status == expected and "5 times" in err, err
        lines = lines_of_log(log)
        assert [line["start"] for line in lines if line["event"] == "start"] == [1, 2, 3, 4, 5]
        assert lines[-1]["event"] == "given-up"
        os.unlink(log)


@test
def restarts_never():
    log = temporary("log")
    assert run("-q", "--log", log, "sh", "-c", "exit 7")[0] == 7
    assert [line["event"] for line in lines_of_log(log)] == ["start", "exit"]


@test
def restart_of_what_is_gone():
    """A program that can't be started any more counts as a death."""
    path = temporary("script")
    with open(path, "w", encoding="ascii") as script:
        script.write(f"#!/bin/sh\nrm {path}\nexit 1\n")
    os.chmod(path, 0o755)
    words = ["-q", "--backoff", "0:0", "--tally", "3:1000", "--restart", "on-failure"]
    assert run(*words, path)[0] == 127


@test
def back_off_is_waited_for():
    """A signal that ends it also ends the wait for the next start."""
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT:
        log = temporary("log")
        process = start("-q", "--log", log, "--restart", "always", "--backoff", "1000:1000",
                        "sh", "-c", "exit 4")
        await_that(lambda p=log: os.path.exists(p) and len(lines_of_log(p)) == 2, "its exit")
        process.send_signal(number)
        assert process.wait(support.TIMEOUT_S) == 4
        assert len(lines_of_log(log)) == 2


@test
def no_restart_behind_term():
    process = start("-q", "--restart", "always", "--backoff", "0:0", "sleep", "1000")
    await_that(lambda: children(process.pid), "a child")
    process.send_signal(signal.SIGTERM)
    assert process.wait(support.TIMEOUT_S) == 128 + signal.SIGTERM


@test
def killed_child_is_restarted():
    process = start("-q", "--restart", "on-failure", "--backoff", "0:0", "sleep", "1000")
    first = await_that(lambda: children(process.pid), "a child")
    os.kill(first[0], signal.SIGUSR1)
    second = await_that(lambda: [each for each in children(process.pid) if each not in first],
                        "another child")
    assert second != first
    process.send_signal(signal.SIGTERM)
    assert process.wait(support.TIMEOUT_S) == 128 + signal.SIGTERM


@test
def leftovers_end_before_the_restart():
    log = temporary("log")
    script = "trap '' TERM; sleep 1000 & exit 1"
    words = ["-q", "-s", "--log", log, "-g", "0.05", "--restart", "on-failure", "--backoff", "0:0"]
    process = start(*words, "--tally", "4:1000", "sh", "-c", script)
    assert process.wait(support.TIMEOUT_S) == 1
    assert len([line for line in lines_of_log(log) if line["event"] == "start"]) == 4


# ------------------------------------------------------------------------------------- readiness


class Upstream:
    """What systemd would be."""

    def __init__(self):
        self.path = temporary("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(support.TIMEOUT_S)
        self.socket.bind(self.path)
        self.environment = dict(os.environ, NOTIFY_SOCKET=self.path, WATCHDOG_PID="1")

    def message(self):
        return self.socket.recv(4096).decode()


NOTIFY = """
import os, socket, sys
path = os.environ["NOTIFY_SOCKET"]
assert path[0] == "@" and "WATCHDOG_PID" not in os.environ
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for message in sys.argv[1:]:
    s.sendto(message.encode(), "\\0" + path[1:])
"""


@test
def readiness_by_descriptor():
    upstream = Upstream()
    reader, writer = os.pipe()
    words = ["sh", "-c", "echo >&5; exec 5>&-; read line", ":::", "sh", "-c", "echo >&5; read line"]
    process = start("-q", "--ready-fd", "5", "--ready-to", str(writer), "--log", "1", *words,
                    stdin=subprocess.PIPE, pass_fds=[writer], env=upstream.environment)
    os.close(writer)
    assert upstream.message() == "READY=1"
    assert os.read(reader, 16) == b"\n"
    process.stdin.write(b"\n\n")
    out, _ = process.communicate(timeout=support.TIMEOUT_S)
    assert [json.loads(line)["event"] for line in out.splitlines()].count("ready") == 1
    assert process.returncode == 0
    os.close(reader)


@test
def readiness_by_socket():
    upstream = Upstream()
    command = [PYTHON, "-c", NOTIFY, "STATUS=a\nMAINPID=7", "READY=1\nSTATUS=b", "BARRIER=1"]
    process = start("-q", "--notify", *command, ":::", *command, env=upstream.environment)
    messages = [upstream.message() for _ in range(5)]
    assert sorted(messages) == ["READY=1", "STATUS=a\n", "STATUS=a\n", "STATUS=b\n", "STATUS=b\n"]
    assert process.wait(support.TIMEOUT_S) == 0


@test
def not_ready_is_not_told():
    upstream = Upstream()
    words = ["sh", "-c", "exit 0", ":::", "sh", "-c", "echo >&5"]
    assert run("-q", "--ready-fd", "5", *words, env=upstream.environment)[0] == 0
    upstream.socket.setblocking(False)
    try:
        raise AssertionError(upstream.message())
    except BlockingIOError:
        pass


@test
def notify_socket_is_left_alone():
    out = run("-q", "sh", "-c", "echo $NOTIFY_SOCKET", env=dict(os.environ, NOTIFY_SOCKET="/x"))[1]
    assert out == "/x\n"


# --------------------------------------------------------------------------------------- reports


@test
def log_lines_are_json():
    log = temporary("log")
    odd = ['"\\/\b\n\t\x01\x7f', "ä€𝄞", b"\xff\xc0\x80\xed\xa0\x80\xf5", "x" * 5000, "end"]
    status = run("-q", "--log", log, "sh", "-c", "kill -TERM $$", *odd)[0]
    assert status == 128 + signal.SIGTERM
    begin, end = lines_of_log(log)
    assert begin["argv"][3:5] == odd[:2] and begin["argv"][5].strip("\ufffd") == ""
    assert begin["argv"][6].startswith("x" * 1000) and begin["argv"][6].endswith("…")
    with open(log, "rb") as lines:
        assert all(len(line) <= 4096 for line in lines)
    assert (end["event"], end["code"], end["signal"], end["status"]) == ("exit", 143, "TERM", 143)
    assert end["pid"] == begin["pid"] and end["core"] is False and end["max_rss_kib"] > 0


@test
def log_has_what_was_not_started():
    out = run("-q", "--log", "1", "-m", "3:0", "sh", "-c", "exit 3", ":::", "nonesuch")[1]
    lines = [json.loads(line) for line in out.splitlines()]
    wrong = [line for line in lines if line["event"] == "not-started"]
    assert wrong[0]["status"] == 127 and "No such file" in wrong[0]["error"]


@test
def full_log_holds_nothing_up():
    """A pipe that nobody reads: lines are dropped, and counted."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while os.write(writer, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    path = temporary("starts")
    process = start("-q", "--log", str(writer), "--restart", "on-failure", "--backoff", "0:0",
                    "sh", "-c", f"echo x >>{path}; read line; [ \"$line\" = end ]",
                    stdin=subprocess.PIPE, pass_fds=[writer])
    os.close(writer)

    def starts():
        return os.path.exists(path) and os.path.getsize(path) // 2

    await_that(lambda: starts() == 1, "the first start")
    process.stdin.write(b"again\n")
    process.stdin.flush()
    await_that(lambda: starts() == 2, "the second start")
    process.stdin.write(b"end\n")
    process.stdin.close()
    text = b""
    while chunk := os.read(reader, 65536):  # the end comes with that of exitbus-run
        text += chunk
    os.close(reader)
    process.wait(support.TIMEOUT_S)
    assert process.returncode == 0
    lines = [json.loads(line) for line in text.lstrip(b"x").splitlines()]
    dropped = sum(line.get("dropped", 0) for line in lines)
    assert dropped >= 2 and dropped + len(lines) <= 4, lines


@test
def full_terminal_holds_nothing_up():
    """A terminal that nobody reads takes a part of a line, and then a writer waits."""
    master, slave = pty.openpty()
    words = ["sh", "-c", "exit 0", "x" * 3000, ":::"] * 60 + ["sh", "-c", "exit 5"]
    process = start("-q", "--log", "1", *words, stdout=slave)
    assert process.wait(support.TIMEOUT_S) == 5
    os.close(slave)
    os.close(master)


@test
def full_log_file_harms_no_command():
    """A file may grow no more: the SIGXFSZ of a write of our own is for no command."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    command = "trap 'exit 5' USR1; echo up; while :; do sleep 0.01; done"
    process = start("-q", "--log", temporary("log"), "sh", "-c", command, preexec_fn=limit)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(support.TIMEOUT_S) == 5


@test
def messages_to_nobody_hold_nothing_up():
    """Standard error is a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    assert run("-vvv", "sh", "-c", "exit 6", stderr=writer)[0] == 6
    os.close(writer)


@test
def record_is_readable():
    path = temporary("record")
    status = run("-q", "-s", "--record", path, "sh", "-c", "sleep 0 & kill -9 $$")[0]
    assert status == 128 + signal.SIGKILL
    out = subprocess.run([support.record, path], capture_output=True, check=True, text=True).stdout
    assert "137 sh" in out and "0 sleep" in out or "143 s" in out, out


# ----------------------------------------------------------------------------------- surroundings


@test
def working_directory_is_left():
    script = "readlink /proc/$PPID/cwd && readlink /proc/$$/cwd"
    for options in [], ["-c"], ["-v"]:
        reader, writer = os.pipe()
        process = start(*options, "sh", "-c", f"read line <&{reader}; {script}", cwd="/tmp",
                        pass_fds=[reader])
        await_that(lambda p=process: os.readlink(f"/proc/{p.pid}/cwd") == "/", "it leaves")
        os.write(writer, b"\n")
        assert process.communicate(timeout=support.TIMEOUT_S)[0] == b"/\n/tmp\n"
        os.close(reader)
        os.close(writer)


@test
def closed_descriptors():
    """Any of 0, 1 and 2 closed: the command has what was open, and nothing else."""
    for closed in itertools.chain(*(itertools.combinations(range(3), n) for n in range(4))):
        path = temporary("fds")
        redirect = " ".join(f"{fd}>&-" if fd else "0<&-" for fd in closed)
        words = ["sh", "-c", f"exec \"$0\" \"$@\" {redirect}", support.program, "-vvv"]
        script = f"import os; open({path!r}, 'w').write(' '.join(os.listdir('/proc/self/fd')))"
        done = subprocess.run([*words, PYTHON, "-Sc", script + "; os._exit(3)"], check=False,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=support.TIMEOUT_S)
        with open(path, encoding="ascii") as text:
            fds = {int(fd) for fd in text.read().split()}  # of which two are Python's own
        kept = {0, 1, 2} - set(closed)
        assert kept <= fds and len(fds - kept) <= 2, (closed, fds)
        assert done.returncode == 3, (closed, done)


@test
def is_small_and_static():
    stripped = temporary("stripped")
    subprocess.run(["strip", "-o", stripped, support.program], check=True)
    assert os.path.getsize(stripped) <= 1024 * 1024
    headers = subprocess.run(["readelf", "-lW", stripped], capture_output=True, check=True)
    assert b"INTERP" not in headers.stdout
    assert subprocess.run([stripped, "-q", "true"], check=False).returncode == 0


@test
def nothing_runs_at_rest():
    """No thread wakes up while nothing happens."""
    process = start("-q", "sleep", "1000")
    await_that(lambda: children(process.pid), "a child")

    def switches():
        return [open(f"/proc/{process.pid}/task/{task}/status", encoding="ascii").read()
                .split("voluntary_ctxt_switches:")[1].split()[0]
                for task in os.listdir(f"/proc/{process.pid}/task")]

    def is_asleep():
        before = switches()
        return all(state(process.pid) == "S" and switches() == before for _ in range(100))

    await_that(is_asleep, "it sleeps")
