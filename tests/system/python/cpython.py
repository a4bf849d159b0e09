# SPDX-License-Identifier: MIT OR Apache-2.0
"""CPython's own tests of asyncio's subprocesses, with this package's child watchers.

They come from test.test_asyncio.test_subprocess (Debian: libpython3.11-testsuite); here is only
what names the watchers. Exit status 77: no such tests.
"""

import sys
import unittest

try:
    from test.test_asyncio import test_subprocess, utils
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

import exitbus
from exitbus import aio

if not hasattr(test_subprocess, "SubprocessWatcherMixin"):
    print("skipped: this Python has no child watchers")
    sys.exit(77)


class _Tests(test_subprocess.SubprocessWatcherMixin):
    def Watcher(self):
        return aio.ChildWatcher(self.reaper())

    def _get_watcher(self):  # of Python 3.12
        return self.Watcher()

    def reaper(self):
        return None


class OwnReaper(_Tests, utils.TestCase):
    """The watcher's own reaper, which the loop polls."""


class _GivenReaper(_Tests):
    mode = exitbus.ReaperMode.WATCHED
    flags = 0

    def reaper(self):
        self.bus = exitbus.Bus()
        self.given = exitbus.Reaper(self.bus, self.mode, self.flags)
        return self.given

    def tearDown(self):
        super().tearDown()
        self.given.close()
        self.bus.close()


class ReaperThread(_GivenReaper, utils.TestCase):
    """A reaper with a thread."""


class AllChildren(_GivenReaper, utils.TestCase):
    """A reaper with a thread, which collects every child, maybe before it has a handler."""

    mode = exitbus.ReaperMode.ALL


class AllChildrenPolled(_GivenReaper, utils.TestCase):
    """The same, without a thread."""

    mode = exitbus.ReaperMode.ALL
    flags = exitbus.ReaperFlag.POLLED


if __name__ == "__main__":
    unittest.main()
