# SPDX-License-Identifier: MIT OR Apache-2.0
"""exitbus for asyncio: subscriptions, processes and groups to await, and a child watcher.

    async for event in aio.Subscription(bus, exitbus.Topic.any_pid()): ...
    event = await aio.Process.spawn(bus, ["make"]).wait()
    asyncio.set_child_watcher(aio.ChildWatcher())           # up to Python 3.13

An object belongs to the loop in which it was awaited first. Loops may be level- or edge-triggered:
a task waits for a descriptor only after the library has said that there is nothing.
"""

import asyncio
import collections
import errno
import os
import warnings

from ._bus import BaseSubscription, Bus, Reaper, ReaperFlag, ReaperMode, SubscribeFlag
from ._c import BATCH_MAX, C, CEvent, Closed, Error, check, error_of
from ._event import BRIEF, EventFlag, Topic, event_of
from ._process import BaseGroup, BaseProcess

__all__ = ["ChildWatcher", "Group", "Process", "Subscription"]

_NO_MEMORY_S = 0.1  # after which a receive that lacks memory tries again, as in C


class _Waiters:
    """Tasks that wait for one descriptor. The loop has one reader of it."""

    __slots__ = ("_loop", "_fd", "_ready", "_futures")

    def __init__(self, ready):
        self._loop = None
        self._fd = -1  # while there is a reader
        self._ready = ready
        self._futures = collections.deque()

    def __len__(self):
        return len(self._futures)

    async def wait(self, fd):
        """Wait until wake()."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(f"{self!r} belongs to another event loop")
        if self._fd < 0:
            loop.add_reader(fd, self._ready)
            self._fd = fd
        future = loop.create_future()
        self._futures.append(future)
        try:
            await future
        finally:
            if future in self._futures:  # cancelled
                self._futures.remove(future)

    def wake(self, count):
        """Wake so many tasks."""
        while count > 0 and self._futures:
            future = self._futures.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    def pause(self):
        """Take the descriptor out of the loop, until a task waits."""
        if self._fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self._fd = -1
