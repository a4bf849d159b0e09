# SPDX-License-Identifier: MIT OR Apache-2.0
"""exitbus-run at a terminal: a pty whose session is the test's own child."""

import os
import pty
import re
import select
import signal
import termios

import support
from support import test


def prepare(fd):
    """No echo, and output as it was written."""
    attributes = termios.tcgetattr(fd)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def read_all(fd):
    text = b""
    try:
        while chunk := os.read(fd, 4096):
            text += chunk
    except OSError:  # the last to have the terminal open has closed it
        pass
    return text.decode()


def read_until(fd, wanted):
    text = b""
    while wanted not in text:
        text += os.read(fd, 4096)
    return text.decode()


def read_count(fd, wanted, count):
    """Read until `wanted` has come so often; not for ever."""
    text = b""
    while text.count(wanted) < count:
        assert select.select([fd], [], [], support.TIMEOUT_S)[0], text
        text += os.read(fd, 4096)


def at_terminal(*arguments):
    """exitbus-run as the leader of a session with a terminal. Returns its pid, and the terminal."""
    ready, go = os.pipe()
    pid, fd = pty.fork()
    if pid == 0:
        os.close(go)
        os.read(ready, 1)
        os.execv(support.program, [support.program, "-q", *arguments])
    prepare(fd)
    os.close(ready)
    os.close(go)
    return pid, fd


def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@test
def command_reads_and_writes_the_terminal():
    for options in [], ["--session"], ["--child-only"]:
        pid, fd = at_terminal(*options, "tac")
        os.write(fd, b"1\n2\n3\n\x04")
        assert read_all(fd) == "3\n2\n1\n"
        assert end(pid) == 0
        os.close(fd)


@test
def shell_has_job_control():
    for options in [], ["--session"]:
        pid, fd = at_terminal(*options, "bash", "--norc", "-m")
        os.write(fd, b'echo "flags are [[$-]]"; exit 0\n')
        text = read_all(fd)
        assert end(pid) == 0, text
        assert "m" in re.search(r"flags are \[\[(\w+)\]\]", text).group(1), text
        assert "no job control" not in text, text
        os.close(fd)


@test
def hang_up_of_the_hand_over_is_dropped():
    """The leader of a session gives its terminal away, which makes SIGHUP and SIGCONT."""
    pid, fd = at_terminal("--session", support.PYTHON, "-c", support.ECHO)
    text = read_until(fd, b"ready")
    os.kill(pid, signal.SIGUSR1)
    os.kill(pid, signal.SIGHUP)
    while text.count("\n") < 3:
        text += os.read(fd, 4096).decode()
    assert sorted(map(int, text.split()[2:])) == [signal.SIGHUP, signal.SIGUSR1], text
    for each in support.descendants(pid):
        os.kill(each, signal.SIGKILL)
    assert end(pid) == 128 + signal.SIGKILL
    os.close(fd)


@test
def interrupt_goes_to_the_command():
    """^C goes to the one command that has the terminal, and to all if there are several."""
    pid, fd = at_terminal("sh", "-c", "echo up; exec sleep 1000")
    read_until(fd, b"up")
    os.write(fd, b"\x03")
    assert end(pid) == 128 + signal.SIGINT
    os.close(fd)
    sleep = ["sh", "-c", "echo up; exec sleep 1000"]
    pid, fd = at_terminal(*sleep, ":::", *sleep)
    read_count(fd, b"up", 2)
    os.write(fd, b"\x03")
    assert end(pid) == 128 + signal.SIGINT
    os.close(fd)


@test
def stop_without_a_shell_does_not_hang():
    """^Z where nobody could continue the command: it goes on."""
    pid, fd = at_terminal("sh", "-c", "echo up; read line; echo got $line")
    read_until(fd, b"up")
    os.write(fd, b"\x1a")
    os.write(fd, b"on\n")
    assert "got on" in read_all(fd)
    assert end(pid) == 0
    os.close(fd)


@test
def stop_of_several_without_a_shell_does_not_hang():
    """^Z comes to exitbus-run, which passes it on, and then continues them at once."""
    for options in [], ["--session"]:
        echo = [support.PYTHON, "-c", support.ECHO]
        pid, fd = at_terminal(*options, *echo, ":::", *echo)
        read_count(fd, b"ready", 2)
        os.write(fd, b"\x1a")
        read_count(fd, b"%d\n" % signal.SIGCONT, 2)
        for each in support.descendants(pid):
            os.kill(each, signal.SIGKILL)
        assert end(pid) == 128 + signal.SIGKILL
        os.close(fd)


def be_a_shell(result, arguments):
    """In the child of a pty: run a job, see it stop, continue it, and see it end."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(support.program, [support.program, "-q", *arguments])
    _, status = os.waitpid(job, os.WUNTRACED)
    said = "stopped" if os.WIFSTOPPED(status) else "ended"
    os.tcsetpgrp(0, os.getpgrp())
    os.write(result, said.encode() + b"\n")
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
    _, status = os.waitpid(job, 0)
    foreground = os.tcgetpgrp(0)
    said = f"{os.waitstatus_to_exitcode(status)} {'back' if foreground == job else foreground}\n"
    os.write(result, said.encode())
    os._exit(0)


@test
def shell_stops_and_continues_it():
    """^Z stops the command and exitbus-run; fg continues both; the foreground is put back."""
    reader, writer = os.pipe()
    go_reader, go = os.pipe()
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.close(go)
            os.read(go_reader, 1)
            be_a_shell(writer, ["sh", "-c", "echo up; read line; echo got $line; exit 5"])
        finally:
            os._exit(9)
    prepare(fd)
    os.close(go)
    os.close(go_reader)
    os.close(writer)
    result = os.fdopen(reader)
    read_until(fd, b"up")
    os.write(fd, b"\x1a")
    assert result.readline() == "stopped\n"
    os.write(fd, b"on\n")
    assert "got on" in read_until(fd, b"got on")
    assert result.readline() == "5 back\n"
    assert end(pid) == 0
    os.close(fd)


@test
def shell_stops_and_continues_several():
    reader, writer = os.pipe()
    pid, fd = pty.fork()
    if pid == 0:
        try:
            sleep = ["sh", "-c", "echo up; exec sleep 1000"]
            be_a_shell(writer, [*sleep, ":::", *sleep])
        finally:
            os._exit(9)
    os.close(writer)
    result = os.fdopen(reader)
    read_count(fd, b"up", 2)
    os.write(fd, b"\x1a")
    assert result.readline() == "stopped\n"
    support.await_that(lambda: os.tcgetpgrp(fd) != pid, "it has the foreground again")
    os.write(fd, b"\x03")
    assert result.readline() == f"{128 + signal.SIGINT} back\n"
    assert end(pid) == 0
    os.close(fd)


@test
def failed_start_leaves_the_foreground():
    """The group of a program that is not there was the foreground one, and is no more."""
    reader, writer = os.pipe()
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        job = os.fork()
        if job == 0:
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
            os.execv(support.program, [support.program, "-q", "/doesnotexist"])
        os.waitpid(job, 0)
        os.write(writer, b"back" if os.tcgetpgrp(0) == job else b"lost")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 16) == b"back"
    assert end(pid) == 0
    os.close(reader)
    os.close(fd)


@test
def background_job_takes_no_terminal():
    """A group that is not in the foreground leaves the terminal where it is."""
    reader, writer = os.pipe()
    pid, fd = pty.fork()
    if pid == 0:
        job = os.fork()
        if job == 0:
            os.setpgid(0, 0)
            os.execv(support.program, [support.program, "-q", "true"])
        os.waitpid(job, 0)
        os.write(writer, b"ours" if os.tcgetpgrp(0) == os.getpgrp() else b"taken")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 16) == b"ours"
    assert end(pid) == 0
    os.close(reader)
    os.close(fd)
