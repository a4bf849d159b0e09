# SPDX-License-Identifier: MIT OR Apache-2.0
"""Events, and the topics that choose them."""

import ctypes
import enum
import errno
import os
import struct
from typing import NamedTuple, Optional

from ._c import ID_MAX, C, CEvent, CEventDetails, CTopic, check, error_of, text_of


class EventKind(enum.IntEnum):
    PID = 1
    EXEC = 2
    EMPTY = 3
    STARTED = 4
    LEADER_DIED = 5
    OOM = 6


class EventFlag(enum.IntFlag):
    CORE_DUMPED = 0x01
    STATUS_LOST = 0x02
    CUT_SHORT = 0x04
    DETAILS = 0x08


class Details(NamedTuple):
    """What the kernel told of a process before it was reaped (ReaperFlag.DETAILS)."""

    start_ns: int
    inode: int
    comm: str


class Event(NamedTuple):
    """One exit. The members are those of struct exitbus_event."""

    seq: int = 0
    pid: int = 0
    kind: int = EventKind.PID
    flags: int = 0
    status: int = 0
    exit_code: int = 0
    monotonic_ns: int = 0
    realtime_ns: int = 0
    user_us: int = 0
    system_us: int = 0
    max_rss_kib: int = 0
    container_id: str = ""
    exec_id: str = ""
    details: Optional[Details] = None

    @property
    def lost(self):
        """Whether another waiter took the status."""
        return bool(self.flags & EventFlag.STATUS_LOST)

    @property
    def returncode(self):
        """As that of subprocess: the exit code, or minus the signal. None: lost."""
        return None if self.lost else os.waitstatus_to_exitcode(self.status)


# The numbers of struct exitbus_event, without the sizes of ids.
_NUMBERS = struct.Struct("@QiBBxxiiQQQQQ")
# Of each event in an array: pid, flags, status.
BRIEF = struct.Struct(f"@8xixB2xi{ctypes.sizeof(CEvent) - 20}x")


def _details(raw):
    details = CEventDetails()
    check(C.event_details(raw, details))
    return Details(details.start_ns, details.inode, os.fsdecode(details.comm))


def event_of(raw):
    """The Event of a CEvent."""
    numbers = _NUMBERS.unpack_from(raw)
    if numbers[2] != EventKind.PID:
        return Event(*numbers, os.fsdecode(raw.container_id), os.fsdecode(raw.exec_id))
    if numbers[3] & EventFlag.DETAILS:
        return Event(*numbers, details=_details(raw))
    return Event(*numbers)


def _id_of(text):
    data = text_of(text)
    if len(data) > ID_MAX:
        raise error_of(-errno.EINVAL)
    return data


def fill(raw, event):
    """Fill a CEvent in for a publish. The details stay behind."""
    _NUMBERS.pack_into(raw, 0, *event[:11])
    raw.flags &= ~int(EventFlag.DETAILS)
    raw.container_id = _id_of(event.container_id)
    raw.exec_id = _id_of(event.exec_id)


class Topic(NamedTuple):
    """What a subscription matches. Made by the functions below."""

    kind: int
    pid: int = 0
    container_id: str = ""
    exec_id: str = ""

    @classmethod
    def all(cls):
        """Every event."""
        return cls(1)

    @classmethod
    def any_pid(cls):
        """The exit of every process."""
        return cls(2)

    @classmethod
    def of_pid(cls, pid):
        """The exit of one process."""
        return cls(3, pid)

    @classmethod
    def any_exec(cls):
        """Every event that has ids."""
        return cls(4)

    @classmethod
    def container(cls, container_id):
        """The events of one container, and of its execs."""
        return cls(5, 0, container_id)

    @classmethod
    def exec(cls, container_id, exec_id):
        """The events of one exec. "" is the container itself."""
        return cls(6, 0, container_id, exec_id)


def topic_of(topic):
    """The CTopic of a Topic."""
    return CTopic(topic.kind, topic.pid, text_of(topic.container_id), text_of(topic.exec_id))
