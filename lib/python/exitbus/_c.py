# SPDX-License-Identifier: MIT OR Apache-2.0
"""The C library: structs, calls and errors of <exitbus/exitbus.h>.

- Structs have the names of C without "exitbus_", in capitals of Python.
- Handle: a reference in C that lives as long as Python can use it.
- wait(): a call that blocks, and that Ctrl-C ends all the same.
"""

import ctypes
import errno
import math
import os
import select
import threading
import time
from ctypes import POINTER, Structure, c_char, c_char_p, c_int, c_int32, c_int64, c_long
from ctypes import c_size_t, c_ssize_t, c_uint8, c_uint32, c_uint64, c_void_p

ID_MAX = 127
BATCH_MAX = 64

# ------------------------------------------------------------------------------------ structs


class CEvent(Structure):
    _fields_ = [
        ("seq", c_uint64),
        ("pid", c_int32),
        ("kind", c_uint8),
        ("flags", c_uint8),
        ("container_id_size", c_uint8),
        ("exec_id_size", c_uint8),
        ("status", c_int32),
        ("exit_code", c_int32),
        ("monotonic_ns", c_uint64),
        ("realtime_ns", c_uint64),
        ("user_us", c_uint64),
        ("system_us", c_uint64),
        ("max_rss_kib", c_uint64),
        ("container_id", c_char * (ID_MAX + 1)),
        ("exec_id", c_char * (ID_MAX + 1)),
    ]


class CEventDetails(Structure):
    _fields_ = [
        ("start_ns", c_uint64),
        ("inode", c_uint64),
        ("comm", c_char * 16),
        ("reserved", c_uint64 * 4),
    ]


class CStats(Structure):
    _fields_ = [
        ("published", c_uint64),
        ("delivered", c_uint64),
        ("dropped", c_uint64),
        ("subscriptions", c_uint64),
        ("bytes", c_uint64),
        ("helped", c_uint64),
        ("sleeping_receivers", c_uint64),
        ("reserved", c_uint64 * 9),
    ]


class CTopic(Structure):
    _fields_ = [
        ("kind", c_int),
        ("pid", c_int),
        ("container_id", c_char_p),
        ("exec_id", c_char_p),
    ]


class CReaperOptions(Structure):
    _fields_ = [("mode", c_int), ("flags", c_uint32), ("record_fd", c_int)]


class CSpawnAction(Structure):
    _fields_ = [
        ("kind", c_int),
        ("fd", c_int),
        ("source_fd", c_int),
        ("path", c_char_p),
        ("open_flags", c_int),
        ("mode", c_uint32),
    ]


class CSpawnReport(Structure):
    _fields_ = [
        ("step", c_int),
        ("error", c_int),
        ("index", c_size_t),
        ("reserved", c_uint64 * 2),
    ]


class CSpawnAttributes(Structure):
    _fields_ = [
        ("set", c_uint32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("groups", POINTER(c_uint32)),
        ("group_count", c_size_t),
        ("umask", c_uint32),
        ("nice", c_int),
        ("scheduler", c_int),
        ("scheduler_priority", c_int),
        ("cpus", c_void_p),
        ("cpus_size", c_size_t),
        ("limits", c_void_p),
        ("limit_count", c_size_t),
        ("death_signal", c_int),
        ("cgroup_fd", c_int),
        ("namespaces", c_uint64),
        ("root", c_char_p),
        ("terminal_fd", c_int),
        ("program_fd", c_int),
        ("pidfd", POINTER(c_int)),
        ("reserved", c_uint64 * 4),
    ]


class CSpawnOptions(Structure):
    _fields_ = [
        ("path", c_char_p),
        ("argv", POINTER(c_char_p)),
        ("envp", POINTER(c_char_p)),
        ("directory", c_char_p),
        ("actions", POINTER(CSpawnAction)),
        ("action_count", c_size_t),
        ("flags", c_uint32),
        ("process_group", c_int),
        ("signal_mask", c_void_p),
        ("signal_default", c_void_p),
        ("report", POINTER(CSpawnReport)),
        ("attributes", POINTER(CSpawnAttributes)),
    ]


class CGroupOptions(Structure):
    _fields_ = [
        ("kind", c_int),
        ("flags", c_uint32),
        ("name", c_char_p),
        ("leader", c_void_p),
        ("cgroup_fd", c_int),
    ]


class CTimeval(Structure):
    _fields_ = [("tv_sec", c_long), ("tv_usec", c_long)]


class CRusage(Structure):  # of <sys/resource.h>
    _fields_ = [
        ("ru_utime", CTimeval),
        ("ru_stime", CTimeval),
        ("ru_maxrss", c_long),
        ("others", c_long * 13),
    ]


# -------------------------------------------------------------------------------------- calls

_HANDLE = [c_void_p]
_WAIT = [c_void_p, POINTER(CEvent), c_int64]
_CALLS = {
    "version": [],
    "strerror": [c_int],
    "event_details": [POINTER(CEvent), POINTER(CEventDetails)],
    "create": [POINTER(c_void_p), c_void_p],
    "destroy": _HANDLE,
    "default": [],
    "stats": [c_void_p, POINTER(CStats)],
    "publish": [c_void_p, POINTER(CEvent), POINTER(c_uint64)],
    "publish_pid": [c_void_p, c_int, c_int],
    "publish_exec": [c_void_p, c_char_p, c_char_p, c_int],
    "publish_wait": [c_void_p, c_int, c_int, POINTER(CRusage)],
    "publish_batch": [c_void_p, POINTER(CEvent), c_size_t, POINTER(c_uint64)],
    "subscribe": [c_void_p, CTopic, c_uint32, POINTER(c_void_p)],
    "unsubscribe": _HANDLE,
    "subscription_ref": _HANDLE,
    "subscription_unref": _HANDLE,
    "receive": _WAIT,
    "receive_batch": [c_void_p, POINTER(CEvent), c_size_t, c_int64],
    "subscription_fd": _HANDLE,
    "subscription_pending": _HANDLE,
    "reaper_start": [c_void_p, POINTER(CReaperOptions), POINTER(c_void_p)],
    "reaper_stop": _HANDLE,
    "reaper_watch": [c_void_p, c_int],
    "reaper_fd": _HANDLE,
    "reaper_poll": _HANDLE,
    "process_spawn": [c_void_p, POINTER(CSpawnOptions), POINTER(c_void_p)],
    "spawn_strerror": [POINTER(CSpawnReport)],
    "process_adopt": [c_void_p, c_int, c_uint32, POINTER(c_void_p)],
    "process_adopt_pidfd": [c_void_p, c_int, c_uint32, POINTER(c_void_p)],
    "process_wait": _WAIT,
    "process_fd": _HANDLE,
    "process_signal": [c_void_p, c_int, c_uint32],
    "process_pid": _HANDLE,
    "process_pidfd": _HANDLE,
    "process_start_time": [c_void_p, POINTER(c_uint64)],
    "process_unref": _HANDLE,
    "group_create": [c_void_p, POINTER(CGroupOptions), POINTER(c_void_p)],
    "group_add": [c_void_p, c_void_p],
    "group_end": [c_void_p, c_int, c_int64],
    "group_wait": _WAIT,
    "group_fd": _HANDLE,
    "group_unref": _HANDLE,
}
_RESULTS = {
    "version": c_char_p,
    "strerror": c_char_p,
    "spawn_strerror": c_char_p,
    "default": c_void_p,
    "receive_batch": c_ssize_t,
    "subscription_pending": c_ssize_t,
}


class _Library:
    """The calls, as attributes without "exitbus_"."""

    def __init__(self):
        name = os.environ.get("EXITBUS_LIBRARY") or "libexitbus.so.0"
        try:
            library = ctypes.CDLL(name, use_errno=True)
            for call, arguments in _CALLS.items():
                function = getattr(library, "exitbus_" + call)
                function.argtypes = arguments
                function.restype = _RESULTS.get(call, c_int)
                setattr(self, call, function)
        except (OSError, AttributeError) as error:
            hint = "install it, or let EXITBUS_LIBRARY name the file"
            raise ImportError(f"no usable libexitbus: {error}; {hint}") from error


C = _Library()

# ------------------------------------------------------------------------------------- errors


class Error(OSError):
    """A call of the library has failed, and has changed nothing: `errno`, and its own text."""


class Closed(Error):
    """ESHUTDOWN: the subscription, or the bus, is closed."""


class Timeout(Error, TimeoutError):
    """ETIMEDOUT, or EAGAIN for timeout 0: there was nothing in time."""


_KINDS = {errno.ESHUTDOWN: Closed, errno.ETIMEDOUT: Timeout}


def error_of(result):
    """The exception for a negative result."""
    code = -result
    return _KINDS.get(code, Error)(code, C.strerror(code).decode())


def check(result):
    """Return a result that is no error."""
    if result < 0:
        raise error_of(result)
    return result


# ------------------------------------------------------------------------------------ handles


class Handle:
    """A reference in C, which the subclass gives back when Python has none to it any more.

    A call in progress has one, on its stack. So no call is overtaken by the release, on whatever
    thread. `keep` is the handle that has to live longer. In a forked child a release says ESTALE,
    and does nothing.
    """

    __slots__ = ("_as_parameter_", "keep")

    def __init__(self, pointer, keep=None):
        self._as_parameter_ = pointer
        self.keep = keep


class Owner:
    """The base of what has one handle, is closed once, and may be a context manager."""

    __slots__ = ("_handle", "__weakref__")

    @property
    def _live(self):
        handle = self._handle
        if handle is None:
            raise error_of(-errno.ESHUTDOWN)
        return handle

    @property
    def closed(self):
        return self._handle is None

    def close(self):
        """Give it up. Calls in progress on other threads go on. Closing again does nothing."""
        self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


# -------------------------------------------------------------------------------------- waits

_AGAIN = (-errno.EAGAIN, -errno.ENOMEM)
_POLL_MS_MAX = 86_400_000
_NO_MEMORY_S = 0.1  # after which a receive that lacks memory tries again, as in C


def nanoseconds(timeout):
    """A timeout in seconds as C has it. None: for ever. Less than 0: a try."""
    if timeout is None or timeout == math.inf:
        return -1
    return min(max(math.ceil(timeout * 1e9), 0), (1 << 63) - 1)


def _left(deadline):
    return math.inf if deadline is None else deadline - time.monotonic()


def _wait_interruptible(call, descriptor, timeout):
    deadline = None if timeout is None else time.monotonic() + timeout
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while (result := call(0)) in _AGAIN:
        left = _left(deadline)
        if left <= 0:
            return -errno.ETIMEDOUT
        if result == -errno.ENOMEM:
            time.sleep(min(_NO_MEMORY_S, left))
        else:
            poller.poll(min(math.ceil(left * 1e3) if left < 1e6 else math.inf, _POLL_MS_MAX))
    return result


def wait(call, descriptor, timeout):
    """call(timeout_ns) until there is a result. `descriptor()` makes it pollable.

    Only the main thread runs signal handlers, Ctrl-C among them, and only in Python. So it sleeps
    in poll(), and other threads sleep in C.
    """
    limit = nanoseconds(timeout)
    if limit == 0 or threading.get_ident() != threading.main_thread().ident:
        result = call(limit)
    elif (result := call(0)) in _AGAIN:
        number = descriptor()
        if number < 0:  # none is free: a wait that no signal ends
            result = call(limit)
        else:
            result = _wait_interruptible(call, number, None if limit < 0 else timeout)
    if result == -errno.EAGAIN:
        raise Timeout(errno.EAGAIN, C.strerror(errno.EAGAIN).decode())
    return check(result)


def file_number(file):
    """A descriptor: a number, or what has fileno()."""
    return file if isinstance(file, int) else file.fileno()


def text_of(text):
    """A string for C."""
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data
