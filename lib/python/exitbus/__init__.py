# SPDX-License-Identifier: MIT OR Apache-2.0
"""exitbus: exit events of processes, in one order for all that listen.

    import exitbus

    with exitbus.Bus() as bus:
        process = exitbus.Process.spawn(bus, ["make", "-j2"])
        print(process.wait(timeout=60).returncode)

- Every object may be used on any thread, and closed at any time, twice, and in any order.
- In a forked child, what it has inherited raises Error with ESTALE.
- Timeouts are in seconds; None waits for ever, and Ctrl-C ends a wait in the main thread.
- exitbus.aio is for asyncio.
"""

from ._bus import Bus, Reaper, ReaperFlag, ReaperMode, Stats, SubscribeFlag, Subscription
from ._c import BATCH_MAX, ID_MAX, C as _C, Closed, Error, Timeout
from ._event import Details, Event, EventFlag, EventKind, Topic
from ._process import Group, Process, SpawnError, SpawnFlag, SpawnStep

__all__ = [
    "BATCH_MAX",
    "Bus",
    "Closed",
    "Details",
    "Error",
    "Event",
    "EventFlag",
    "EventKind",
    "Group",
    "ID_MAX",
    "Process",
    "Reaper",
    "ReaperFlag",
    "ReaperMode",
    "SpawnError",
    "SpawnFlag",
    "SpawnStep",
    "Stats",
    "SubscribeFlag",
    "Subscription",
    "Timeout",
    "Topic",
    "library_version",
]


def library_version():
    """MAJOR.MINOR.PATCH of the library in use."""
    return _C.version().decode()
