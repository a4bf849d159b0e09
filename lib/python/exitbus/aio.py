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
from ._c import BATCH_MAX, C, CEvent, Closed, Error, check, error_of
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

    def _join(self, loop):
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the object belongs to another event loop")

    async def wait(self, owner):
        """Wait until wake(). The loop calls owner._ready() when the descriptor is readable.

        First the loop, then the descriptor: a close() on another thread sees the loop, and keeps
        the descriptor until _finish() has run there, or fileno() raises Closed.
        """
        loop = asyncio.get_running_loop()
        self._join(loop)
        fd = owner.fileno()
        if self._fd < 0:
            loop.add_reader(fd, owner._ready)
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
        handle = self._handle
        if handle is None:  # closed, maybe on another thread
            return -errno.ESHUTDOWN
        count = C.receive_batch(handle, self._raw, BATCH_MAX, 0)
        for i in range(count):
            self._events.append(event_of(self._raw[i]))
        return count

    def _ready(self):
        if not self._waiters:
            self._waiters.pause()
            return
        while self._waiters:  # no further edge comes before EAGAIN
            count = self._take()
            if count > 0:
                self._waiters.wake(count)
                continue
            if count != -errno.EAGAIN:
                self._waiters.pause()
                self._waiters.wake()  # each sees the error itself
            return

    async def receive(self):
        """The next event."""
        while not self._events:
            count = self._take()
            if count == -errno.EAGAIN:
                await self._waiters.wait(self)
            elif count == -errno.ENOMEM:
                await asyncio.sleep(_NO_MEMORY_S)
            else:
                self._waiters.wake(check(count) - 1)  # for the rest of the batch
        try:
            return self._events.popleft()
        except IndexError:  # close() on another thread has just emptied it
            raise error_of(-errno.ESHUTDOWN) from None

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
            await self._waiters.wait(self)
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


def _exit_code(pid, flags, status):
    if flags & EventFlag.STATUS_LOST:
        _logger.warning("the status of child %d was taken: reported as 255", pid)
        return 255
    try:
        return os.waitstatus_to_exitcode(status)
    except ValueError:  # no status of an exit; asyncio hands it on, too
        return status


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
            self._lock = threading.Lock()  # of the next three
            self._handlers = {}
            self._spawning = 0  # how many blocks of __enter__() to __exit__() there are
            self._unknown = {}  # exits that came meanwhile and have no handler
            self._retry = None  # the timer of a receive that lacked memory
            self._reaper = self._given or Reaper(Bus(), ReaperMode.WATCHED, ReaperFlag.POLLED)
            self._polled = bool(self._reaper.flags & ReaperFlag.POLLED)
            self._buffer = bytearray(BATCH_MAX * ctypes.sizeof(CEvent))
            self._raw = (CEvent * BATCH_MAX).from_buffer(self._buffer)
            self._subscribe()

        def _subscribe(self):
            exits = BaseSubscription(self._reaper.bus, Topic.any_pid())
            self._fd = (self._reaper if self._polled else exits).fileno()
            self._exits = exits

        def __enter__(self):
            with self._lock:
                self._spawning += 1
            return self

        def __exit__(self, *exception):
            with self._lock:
                self._spawning = max(self._spawning - 1, 0)  # 0: entered before a fork
                if self._spawning == 0:
                    self._unknown.clear()

        def is_active(self):
            return self._loop is not None and self._loop.is_running()

        def attach_loop(self, loop):
            if os.getpid() != self._owner:
                # The old loop's epoll is the parent's, too: it must not be touched.
                self._loop = self._exits = self._reaper = None
            pending = self._loop is not None and self._detach()
            if loop is not None:
                self._reopen()
                loop.add_reader(self._fd, self._collect)
                self._loop = loop
            elif pending:
                warnings.warn("a loop is detached with pending handlers", RuntimeWarning, 2)

        def _reopen(self):
            if self._reaper is None:
                self._open()
            elif self._exits is None:
                self._subscribe()

        def _detach(self):
            """Returns whether there were handlers."""
            pending = bool(self._handlers)
            self._leave()
            self._handlers.clear()
            return pending

        def _leave(self):
            """Leave the loop. Exits that come while there is none are not kept."""
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._loop = None
            self._end_exits()

        def _end_exits(self):
            if self._exits is not None:
                self._exits.close()
                self._exits = None

        def close(self):
            self.attach_loop(None)
            self._end_exits()
            if self._given is None and self._reaper is not None:
                self._reaper.close()
                self._reaper.bus.close()
            self._reaper = None

        def add_child_handler(self, pid, callback, *args):
            if self._exits is None:
                raise RuntimeError("the child watcher has no loop attached")
            with self._lock:
                self._handlers[pid] = callback, args
                exit = self._unknown.pop(pid, None)
            try:
                if self._reaper.mode == ReaperMode.WATCHED:
                    self._reaper.watch(pid)
                elif exit is not None:
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
            """Tell all exits that are there, as long as no handler detaches the loop."""
            exits, view = self._exits, memoryview(self._buffer)
            count = 1
            while count > 0 and exits is self._exits:
                count = C.receive_batch(exits._live, self._raw, BATCH_MAX, 0)
                for pid, flags, status in BRIEF.iter_unpack(view[: max(count, 0) * BRIEF.size]):
                    self._tell(pid, flags, status)
            if count == -errno.ENOMEM:
                self._receive_later()
            elif count != -errno.EAGAIN:
                check(count)

        def _receive_later(self):
            """Nobody else tries again: the reaper's descriptor does not show what was received."""
            if self._retry is None:
                self._retry = self._loop.call_later(_NO_MEMORY_S, self._receive_again)

        def _receive_again(self):
            self._retry = None
            self._collect()

        def _tell(self, pid, flags, status):
            with self._lock:
                handler = self._handlers.pop(pid, None)
                if handler is None and self._spawning > 0:
                    self._unknown[pid] = flags, status
            if handler is None:
                return
            try:
                handler[0](pid, _exit_code(pid, flags, status), *handler[1])
            except Exception:  # of one handler; the others get their exits
                _logger.exception("the handler of child %d has failed", pid)

        def _give_up(self):
            """No exit comes any more: tell all handlers so, and be inactive."""
            if self._loop is None:
                return
            self._leave()
            for pid in list(self._handlers):
                self._tell(pid, EventFlag.STATUS_LOST, -1)
