# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the tests share."""

import errno
import os
import sys
import time
import unittest

import exitbus

LONG = bool(os.environ.get("EXITBUS_LONG"))
AWHILE_S = 60  # no test waits so long, unless something hangs


def until(condition):
    """Wait until a condition holds, which another process or thread brings about."""
    deadline = time.monotonic() + AWHILE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it has not come")
        time.sleep(0.001)


def open_files():
    """The descriptors of this process, but for the one that lists them."""
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}


def threads(name):
    """The threads of this process that have a name."""
    count = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm", encoding="utf-8") as file:
                count += file.read().strip() == name
        except OSError:  # it has just ended
            pass
    return count


def children():
    """The pids of the children of this process, zombies among them."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                if int(file.read().rsplit(")", 1)[1].split()[1]) == os.getpid():
                    found.add(int(pid))
        except OSError:  # it has just ended
            pass
    return found


def passes_in_child(function):
    """Whether the function raises nothing in a forked child, which a reaper may reap."""
    sys.stdout.flush()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os.write(write_end, b"passed")
        except BaseException:  # the child must not go on as the parent
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        passed = file.read() == b"passed"
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
    return passed


class Case(unittest.TestCase):
    def setUp(self):
        self.bus = exitbus.Bus()
        self.addCleanup(self.bus.close)

    def assert_error(self, code, function, *arguments, **keywords):
        with self.assertRaises(exitbus.Error) as caught:
            function(*arguments, **keywords)
        self.assertEqual(caught.exception.errno, code, errno.errorcode[caught.exception.errno])
        return caught.exception
