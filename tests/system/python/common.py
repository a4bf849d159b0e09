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
    return set(os.listdir("/proc/self/fd"))


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


def exit_of_child(function):
    """The exit code of a forked child that runs the function."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:  # the child must not go on as the parent
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Case(unittest.TestCase):
    def setUp(self):
        self.bus = exitbus.Bus()
        self.addCleanup(self.bus.close)

    def assert_error(self, code, function, *arguments, **keywords):
        with self.assertRaises(exitbus.Error) as caught:
            function(*arguments, **keywords)
        self.assertEqual(caught.exception.errno, code, errno.errorcode[caught.exception.errno])
        return caught.exception
