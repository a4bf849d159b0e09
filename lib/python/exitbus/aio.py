# SPDX-License-Identifier: MIT OR Apache-2.0
"""exitbus for asyncio: subscriptions, processes and groups to await, and a child watcher.

    async for event in aio.Subscription(bus, exitbus.Topic.any_pid()): ...
    event = await aio.Process.spawn(bus, ["make"]).wait()
    asyncio.set_child_watcher(aio.ChildWatcher())  # up to Python 3.13

An object belongs to the loop in which it was awaited first; close() may be called on any thread.
Loops may be level- or edge-triggered: a task waits for a descriptor only after the library has
said that there is nothing.
"""

import asyncio
import collections
import contextlib
import ctypes
import errno
import logging
import os
import sys
import threading
import warnings

from ._bus import BaseSubscription, Bus, Reaper, ReaperFlag, ReaperMode
from ._c import BATCH_MAX, C, CEvent, Closed, Error, check
from ._event import BRIEF, EventFlag, Topic, event_of
from ._process import BaseGroup, BaseProcess

_NO_MEMORY_S = 0.1  # after which a receive that lacks memory tries again, as in C
_logger = logging.getLogger(__name__)


class _Waiters:
    """Tasks that wait for one descriptor. The loop has one reader of it."""

    __slots__ = ("_loop", "_fd", "_futures")

    def __init__(self):
        self._loop = None
        self._fd = -1  # while there is a reader
        self._futures = collections.deque()

    def __bool__(self):
        return bool(self._futures)

    async def wait(self, fd, ready):
        """Wait until wake(). `ready` is called in the loop when the descriptor is readable."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the object belongs to another event loop")
        if self._fd < 0:
            loop.add_reader(fd, ready)
            self._fd = fd
        future = loop.create_future()
        self._futures.append(future)
        try:
            await future
        except asyncio.CancelledError:
            self._withdraw(future)
            raise

    def _withdraw(self, future):
        if not future.cancelled():
            self.wake(1)  # another task
        elif future in self._futures:
            self._futures.remove(future)
            if not self._futures:
                self.pause()

    def wake(self, count=None):
        """Wake so many tasks. None: all."""
        while self._futures and count != 0:
            future = self._futures.popleft()
            if not future.done():
                future.set_result(None)
                count = None if count is None else count - 1

    def pause(self):
        """Take the descriptor out of the loop, until a task waits."""
        if self._fd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self._fd = -1

    def _finish(self, _handle):
        self.pause()
        self.wake()

    def finish(self, handle):
        """Wake all for good. The handle keeps the descriptor until it is out of the loop."""
        if self._loop is None:
            return
        if asyncio._get_running_loop() is self._loop:
            self._finish(handle)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._finish, handle)


class Subscription(BaseSubscription):
    """A subscription, and an asynchronous iterator over its events until it is closed."""

    __slots__ = ("_raw", "_events", "_waiters")

    def __init__(self, bus, topic, flags=0):
        super().__init__(bus, topic, flags)
        self._raw = (CEvent * BATCH_MAX)()
        self._events = collections.deque()  # received in a batch, and not yet given out
        self._waiters = _Waiters()

    def close(self):
        handle = self._handle
        super().close()
        self._events.clear()
        self._waiters.finish(handle)

    def pending(self):
        return len(self._events) + super().pending()

    def _take(self):
        count = C.receive_batch(self._live, self._raw, BATCH_MAX, 0)
        for i in range(count):
            self._events.append(event_of(self._raw[i]))
        return count

    def _ready(self):
        if not self._waiters:
            self._waiters.pause()
            return
        count = self._take()
        if count > 0:
            self._waiters.wake(count)
        elif count != -errno.EAGAIN:
            self._waiters.pause()
            self._waiters.wake()  # each sees the error itself

    async def receive(self):
        """The next event."""
        while not self._events:
            count = self._take()
            if count == -errno.EAGAIN:
                await self._waiters.wait(self.fileno(), self._ready)
            elif count == -errno.ENOMEM:
                await asyncio.sleep(_NO_MEMORY_S)
            else:
                check(count)
        return self._events.popleft()

    def __aiter__(self):
        self._refuse_sticky()
        return self

    async def __anext__(self):
        try:
            return await self.receive()
        except Closed:
            raise StopAsyncIteration from None


class _Ending:
    """What ends once: the part that Process and Group have in common."""

    __slots__ = ()

    def __new__(cls):
        self = super().__new__(cls)
        self._waiters = _Waiters()
        return self

    def close(self):
        handle = self._handle
        super().close()
        self._waiters.finish(handle)

    def _ready(self):
        self._waiters.pause()
        self._waiters.wake()

    async def wait(self):
        """Its event, once it has ended; again and again."""
        raw = CEvent()
        while (result := self._ask(self._live, raw, 0)) == -errno.EAGAIN:
            await self._waiters.wait(self.fileno(), self._ready)
        check(result)
        return event_of(raw)


class Process(_Ending, BaseProcess):
    """One process, whatever becomes of its pid."""

    __slots__ = ("_waiters",)
    _ask = C.process_wait


class Group(_Ending, BaseGroup):
    """Processes that are ended together."""

    __slots__ = ("_waiters",)
    _ask = C.group_wait


with warnings.catch_warnings():
    # From Python 3.12 on the base class is deprecated, and 3.14 has none.
    warnings.simplefilter("ignore", DeprecationWarning)

    class ChildWatcher(getattr(asyncio, "AbstractChildWatcher", object)):
        """Tells asyncio of the exits of its children.

        By default it has a bus of its own, and a reaper that the loop polls: one descriptor for
        all children, no thread and no signal. A program with a reaper gives that one: only so is
        there a watcher beside an ALL reaper. If it is POLLED, only the watcher polls it.

        The loop that it is attached to must run. Loops of other threads may start children.
        """

        def __init__(self, reaper=None):
            if sys.version_info >= (3, 14):
                raise NotImplementedError("asyncio has no child watchers any more")
            self._given = reaper
            self._loop = None
            self._open()

        def _open(self):
            self._owner = os.getpid()
            self._handlers = {}
            self._spawning = set()  # threads between __enter__() and add_child_handler()
            self._unknown = {}  # exits that came meanwhile and have no handler
            self._reaper = self._given or Reaper(Bus(), ReaperMode.WATCHED, ReaperFlag.POLLED)
            self._exits = BaseSubscription(self._reaper.bus, Topic.any_pid())
            self._polled = bool(self._reaper.flags & ReaperFlag.POLLED)
            self._fd = (self._reaper if self._polled else self._exits).fileno()
            self._buffer = bytearray(BATCH_MAX * ctypes.sizeof(CEvent))
            self._raw = (CEvent * BATCH_MAX).from_buffer(self._buffer)

        def __enter__(self):
            self._spawning.add(threading.get_ident())
            return self

        def __exit__(self, *exception):
            self._spawning.discard(threading.get_ident())
            if not self._spawning:
                self._unknown.clear()

        def is_active(self):
            return self._loop is not None and self._loop.is_running()

        def attach_loop(self, loop):
            if os.getpid() != self._owner:
                # The old loop's epoll is the parent's, too: it must not be touched.
                self._loop, self._exits = None, None
            pending = self._loop is not None and self._detach()
            if loop is not None:
                if self._exits is None:
                    self._open()
                loop.add_reader(self._fd, self._collect)
                self._loop = loop
            elif pending:
                warnings.warn("a loop is detached with pending handlers", RuntimeWarning, 2)

        def _detach(self):
            """Returns whether there were handlers."""
            pending = bool(self._handlers)
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._handlers.clear()
            self._loop = None
            return pending

        def close(self):
            self.attach_loop(None)
            if self._exits is None:
                return
            self._exits.close()
            self._exits = None
            if self._given is None:
                self._reaper.close()
                self._reaper.bus.close()

        def add_child_handler(self, pid, callback, *args):
            self._handlers[pid] = callback, args
            self._spawning.discard(threading.get_ident())
            try:
                if self._reaper.mode == ReaperMode.WATCHED:
                    self._reaper.watch(pid)
                elif exit := self._unknown.pop(pid, None):
                    self._tell(pid, *exit)
            except Error as error:
                if error.errno == errno.ECHILD:
                    self._tell(pid, EventFlag.STATUS_LOST, -1)
                    return
                self._handlers.pop(pid, None)
                raise

        def remove_child_handler(self, pid):
            return self._handlers.pop(pid, None) is not None

        def _collect(self):
            try:
                if self._polled:
                    self._reaper.poll()
                self._receive()
            except Error:
                self._give_up()
                raise

        def _receive(self):
            exits, view = self._exits._live, memoryview(self._buffer)
            while (count := C.receive_batch(exits, self._raw, BATCH_MAX, 0)) > 0:
                for pid, flags, status in BRIEF.iter_unpack(view[: count * BRIEF.size]):
                    self._tell(pid, flags, status)
            if count != -errno.EAGAIN and count != -errno.ENOMEM:
                check(count)

        def _tell(self, pid, flags, status):
            handler = self._handlers.pop(pid, None)
            if handler is None and self._spawning:
                self._unknown[pid] = flags, status
                handler = self._handlers.pop(pid, None)  # another thread may have added it
            if handler is None:
                return
            if flags & EventFlag.STATUS_LOST:
                _logger.warning("the status of child %d was taken: reported as 255", pid)
                code = 255
            else:
                code = os.waitstatus_to_exitcode(status)
            handler[0](pid, code, *handler[1])

        def _give_up(self):
            """No exit comes any more: tell all handlers so, and be inactive."""
            self._loop.remove_reader(self._fd)
            self._loop = None
            for pid in list(self._handlers):
                self._tell(pid, EventFlag.STATUS_LOST, -1)
