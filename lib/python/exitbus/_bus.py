# SPDX-License-Identifier: MIT OR Apache-2.0
"""Buses, subscriptions and reapers."""

import ctypes
import enum
import errno
from typing import NamedTuple

from ._c import BATCH_MAX, C, CEvent, CReaperOptions, CRusage, CStats, Closed, Handle
from ._c import Owner, check, error_of, text_of, wait
from ._event import Topic, event_of, fill, topic_of

_NO_PID = (1 << 31) - 1  # higher than the kernel's highest


class _BusHandle(Handle):
    """A bus. It lives as long as what was made on it.

    - `guards` are subscriptions. The memory of a destroyed bus stays while there is one, so calls
      of other threads that begin late say ESHUTDOWN.
    - The collector of cycles may drop a bus before its reaper. Then the reaper `owes` the destroy.
    """

    __slots__ = ("guards", "owes")

    def __init__(self, pointer):
        super().__init__(pointer)
        self.guards = []
        self.owes = False

    def __del__(self, destroy=C.destroy, unsubscribe=C.unsubscribe):
        self.owes = destroy(self) == -errno.EBUSY
        for guard in self.guards:
            unsubscribe(guard)


class Stats(NamedTuple):
    """Figures of a bus, as struct exitbus_stats has them."""

    published: int
    delivered: int
    dropped: int
    subscriptions: int
    bytes: int
    helped: int
    sleeping_receivers: int


def _usage_of(usage):
    """The struct rusage of what os.wait4() gives; of it the library reads three members."""
    raw = CRusage(ru_maxrss=usage.ru_maxrss)
    for name in "ru_utime", "ru_stime":
        seconds, micro = divmod(round(getattr(usage, name) * 1_000_000), 1_000_000)
        time = getattr(raw, name)
        time.tv_sec, time.tv_usec = seconds, micro
    return raw


class Bus(Owner):
    """A bus of exit events. Bus.default() is the one of the process."""

    __slots__ = ()

    def __init__(self):
        pointer = ctypes.c_void_p()
        check(C.create(pointer, None))
        self._handle = _BusHandle(pointer.value)

    @classmethod
    def default(cls):
        """The bus that lives as long as the process. A forked child has its own."""
        pointer = C.default()
        if not pointer:
            raise error_of(-ctypes.get_errno())
        self = cls.__new__(cls)
        self._handle = _BusHandle(pointer)  # whose destroy says EPERM
        return self

    def publish(self, event):
        """Publish an Event, without its details and its seq. Returns the new seq."""
        raw, seq = CEvent(), ctypes.c_uint64()
        fill(raw, event)
        check(C.publish(self._handle, raw, seq))
        return seq.value

    def publish_batch(self, events):
        """Publish up to BATCH_MAX events in a row. Returns the seq of the first."""
        events = list(events)
        if len(events) > BATCH_MAX:
            raise error_of(-errno.EINVAL)
        raw = (CEvent * len(events))()
        for place, event in zip(raw, events):
            fill(place, event)
        seq = ctypes.c_uint64()
        check(C.publish_batch(self._handle, raw, len(events), seq))
        return seq.value

    def publish_pid(self, pid, exit_code):
        """Publish that a process has exited."""
        check(C.publish_pid(self._handle, pid, exit_code))

    def publish_exec(self, container_id, exec_id, exit_code):
        """Publish that an exec has exited. "" is the container itself."""
        check(C.publish_exec(self._handle, text_of(container_id), text_of(exec_id), exit_code))

    def publish_wait(self, pid, status, usage=None):
        """Publish what os.waitpid() or os.wait4() has said."""
        raw = None if usage is None else _usage_of(usage)
        check(C.publish_wait(self._handle, pid, status, raw))

    def stats(self):
        """The figures of the bus."""
        raw = CStats()
        check(C.stats(self._handle, raw))
        return Stats(*(getattr(raw, name) for name in Stats._fields))

    @property
    def closed(self):
        """Whether close() has been called."""
        return bool(self._handle.guards)

    def close(self):
        """Destroy it, and close all of its subscriptions. Its reapers must have been closed.

        Calls of other threads say ESHUTDOWN from then on. Closing again does nothing.
        """
        handle, guard = self._handle, ctypes.c_void_p()
        result = C.subscribe(handle, topic_of(Topic.of_pid(_NO_PID)), 0, guard)
        if result in (-errno.ESHUTDOWN, -errno.ESTALE):
            return
        check(result)
        handle.guards.append(guard)
        result = C.destroy(handle)
        if result in (-errno.EBUSY, -errno.EPERM):
            handle.guards.remove(guard)
            C.unsubscribe(guard)
        if result != -errno.ESHUTDOWN:  # another thread was faster
            check(result)


class SubscribeFlag(enum.IntFlag):
    ONE_SHOT = 0x01
    STICKY = 0x02


class _SubscriptionHandle(Handle):
    """A reference for the calls, besides the one that an unsubscribe gives up."""

    __slots__ = ("_open",)

    def __init__(self, pointer, bus):
        super().__init__(pointer, bus)
        self._open = [None]

    def unsubscribe(self, unsubscribe=C.unsubscribe):
        try:
            self._open.pop()  # for one thread only
        except IndexError:
            return
        unsubscribe(self)

    def __del__(self, unref=C.subscription_unref):
        self.unsubscribe()
        unref(self)


class BaseSubscription(Owner):
    """What the subscriptions for threads and those for asyncio have in common."""

    __slots__ = ("flags",)

    def __init__(self, bus, topic, flags=0):
        pointer = ctypes.c_void_p()
        check(C.subscribe(bus._handle, topic_of(topic), flags, pointer))
        C.subscription_ref(pointer)  # does not fail for an open one
        self._handle = _SubscriptionHandle(pointer.value, bus._handle)
        self.flags = flags

    def close(self):
        """Receive no event from now on, on any thread. Blocked receivers end with Closed."""
        handle = self._handle
        if handle is not None:
            handle.unsubscribe()
            self._handle = None

    def fileno(self):
        """A descriptor that is readable while there are events, and for good once it is closed."""
        return check(C.subscription_fd(self._live))

    def pending(self):
        """How many events wait."""
        return check(C.subscription_pending(self._live))

    def _refuse_sticky(self):
        if self.flags & SubscribeFlag.STICKY:
            raise TypeError("a sticky subscription has one event, for ever: receive() it")


class Subscription(BaseSubscription):
    """A subscription, and an iterator over its events until it is closed."""

    __slots__ = ()

    def receive(self, timeout=None):
        """The next event. `timeout` is in seconds; 0 tries once, None waits for ever."""
        handle, raw = self._live, CEvent()
        wait(lambda ns: C.receive(handle, raw, ns), lambda: C.subscription_fd(handle), timeout)
        return event_of(raw)

    def receive_batch(self, capacity=BATCH_MAX, timeout=None):
        """The next events, at least one, as a list."""
        handle, raw = self._live, (CEvent * capacity)()
        count = wait(
            lambda ns: C.receive_batch(handle, raw, capacity, ns),
            lambda: C.subscription_fd(handle),
            timeout,
        )
        return [event_of(raw[i]) for i in range(count)]

    def __iter__(self):
        self._refuse_sticky()
        return self

    def __next__(self):
        try:
            return self.receive()
        except Closed:
            raise StopIteration from None


class ReaperMode(enum.IntEnum):
    ALL = 1
    WATCHED = 2


class ReaperFlag(enum.IntFlag):
    SUBREAPER = 0x01
    POLLED = 0x02
    SIGNALFD = 0x04
    ORPHANS = 0x08
    DETAILS = 0x10


_REAPER_GOES_ON = (
    -errno.EAGAIN,
    -errno.EINVAL,  # after unshare(CLONE_NEWPID)
    -errno.EMFILE,
    -errno.ENFILE,
    -errno.ENOMEM,
    -errno.ENOSPC,
)


class _ReaperHandle(Handle):
    """A reaper. `results` has the result of its stop, once it was tried."""

    __slots__ = ("results",)

    def __init__(self, pointer, bus):
        super().__init__(pointer, bus)
        self.results = []

    def __del__(self, stop=C.reaper_stop, destroy=C.destroy):
        self.results.append(stop(self))
        if self.keep.owes:
            destroy(self.keep)


class Reaper(Owner):
    """Collects the exits of children, and publishes them."""

    __slots__ = ("bus", "mode", "flags")

    def __init__(self, bus, mode=ReaperMode.WATCHED, flags=0):
        options, pointer = CReaperOptions(mode, flags), ctypes.c_void_p()
        check(C.reaper_start(bus._handle, options, pointer))
        self._handle = _ReaperHandle(pointer.value, bus._handle)
        self.bus, self.mode, self.flags = bus, mode, flags

    def watch(self, pid):
        """WATCHED: collect the exit of a child."""
        check(C.reaper_watch(self._live, pid))

    def fileno(self):
        """POLLED: a descriptor that is readable when there is something to poll()."""
        return check(C.reaper_fd(self._live))

    def poll(self):
        """POLLED: collect and publish what has exited. Returns how many."""
        return check(C.reaper_poll(self._live))

    def close(self):
        """Stop it. After EAGAIN, EINVAL, EMFILE, ENFILE, ENOMEM and ENOSPC it goes on.

        If another thread is in a call, the reaper stops at the end of that, and no error is told.
        """
        handle, self._handle = self._handle, None
        if handle is None:
            return
        pointer, bus, results = handle._as_parameter_, handle.keep, handle.results
        del handle  # mostly the last reference
        if results and results[0] in _REAPER_GOES_ON:
            self._handle = _ReaperHandle(pointer, bus)
        if results and results[0] != -errno.ESTALE:
            check(results[0])
