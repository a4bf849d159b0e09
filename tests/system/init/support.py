# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the tests of exitbus-run share."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

# A hang is a failure. Nothing is expected to take long, but for 10,000 orphans on a busy machine.
TIMEOUT_S = 600 if os.environ.get("EXITBUS_LONG") == "1" else 60
PYTHON = sys.executable
program = orphans = record = source = None
started = []

# A child that prints each signal that it gets, and "ready" first. All are blocked, so that none is
# missed, and none does what it does by default.
ECHO = """
import os, signal, sys
all = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, all)
os.write(1, b"ready %d\\n" % os.getpid())
while True:
    os.write(1, b"%d\\n" % signal.sigwait(all))
"""


class Skip(Exception):
    """This machine does not allow the test."""


def test(function):
    function.is_test = True
    return function


def setup(*paths):
    global program, orphans, record, source
    program, orphans, record, source = map(os.path.abspath, paths)
    os.environ.pop("NOTIFY_SOCKET", None)
    os.environ.pop("EXITBUS_RUN_OPTIONS", None)


def start(*arguments, prefix=(), **options):
    """exitbus-run with these arguments; its output, and that of its commands, is to be read."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    process = subprocess.Popen([*prefix, program, *arguments], **options)
    started.append(process)
    return process


def run(*arguments, **options):
    """To its end. Returns the exit status, what was printed, and what was said."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def end_all():
    """Kill what a test has left, by the pids that it has started."""
    for process in started:
        if process.poll() is None:
            for pid in [*descendants(process.pid), process.pid]:
                kill(pid, signal.SIGKILL)
        process.wait()
        for stream in process.stdin, process.stdout, process.stderr:
            if stream:
                stream.close()
    started.clear()


def kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def await_that(condition, what):
    deadline = time.monotonic() + TIMEOUT_S
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return result


def stat(pid):
    """The fields of /proc/PID/stat behind the name: state, parent, group, session …"""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as text:
            return text.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def state(pid):
    fields = stat(pid)
    return fields[0] if fields else None


def is_gone(pid):
    return state(pid) in (None, "Z", "X")


def children(pid):
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [each for each in pids if (fields := stat(each)) and int(fields[1]) == pid]


def descendants(pid):
    """From one look at /proc: with thousands of processes, one for each takes minutes."""
    below = {}
    for each in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if fields := stat(each):
            below.setdefault(int(fields[1]), []).append(each)
    found = list(below.get(pid, []))
    for each in found:  # it grows on the way
        found += below.get(each, [])
    return found


def status_field(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as text:
        return int(re.search(rf"^{name}:\s*(\w+)", text.read(), re.M).group(1), 16)


def signals_of(mask):
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


class Echo:
    """exitbus-run with a child that prints the signals it gets."""

    def __init__(self, *options, **more):
        self.process = start("-q", *options, "--", PYTHON, "-c", ECHO, **more)
        self.pid = self.process.pid
        self.child = int(self.line().split()[1])

    def line(self):
        return self.process.stdout.readline().decode().strip()

    def send(self, number):
        self.process.send_signal(number)

    def expect(self, *numbers):
        got = [int(self.line()) for _ in numbers]
        assert got == list(numbers), f"got {got}, not {list(numbers)}"


def can_unshare():
    return (
        subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


def as_pid_1():
    """What makes the program PID 1 of a pid namespace."""
    if not can_unshare():
        raise Skip("a pid namespace takes privileges")
    return ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def temporary(name):
    return os.path.join(tempfile.mkdtemp(prefix="exitbus-init-"), name)


def lines_of_log(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
