# SPDX-License-Identifier: MIT OR Apache-2.0
"""Processes, and groups of them."""

import contextlib
import ctypes
import enum
import fcntl
import os
import subprocess

from ._c import C, CEvent, CGroupOptions, CSpawnAction, CSpawnAttributes, CSpawnOptions
from ._c import CSpawnReport, Error, Handle, Owner, check, file_number, nanoseconds, text_of, wait
from ._event import event_of


class SpawnStep(enum.IntEnum):
    """What a spawn was doing when it failed."""

    NONE = 0
    ARGUMENTS = 1
    REAPER = 2
    SUBSCRIPTION = 3
    PROCESS = 4
    SIGNALS = 5
    SESSION = 6
    PROCESS_GROUP = 7
    DIRECTORY = 8
    ACTION = 9
    EXEC = 10
    NAMESPACES = 11
    TERMINAL = 12
    CGROUP = 13
    ROOT = 14
    LIMIT = 15
    NICE = 16
    SCHEDULER = 17
    CPUS = 18
    GROUPS = 19
    GID = 20
    UID = 21
    NO_NEW_PRIVS = 22
    DEATH_SIGNAL = 23


class SpawnFlag(enum.IntFlag):
    SEARCH_PATH = 0x01
    SETSID = 0x02
    SETPGROUP = 0x04
    INHERIT_SIGMASK = 0x20
    INHERIT_IGNORED = 0x40
    ATTRIBUTES = 0x80
    NO_NEW_PRIVS = 0x100
    CHILD_PATH = 0x200
    SHELL = 0x400


class SpawnAction(enum.IntEnum):
    DUP2 = 2
    NULL = 7


class Attribute(enum.IntFlag):
    """What Process.spawn() takes as a keyword, in small letters."""

    UID = 0x01
    GID = 0x02
    UMASK = 0x08
    NICE = 0x10
    DEATH_SIGNAL = 0x100
    CGROUP = 0x200
    NAMESPACES = 0x400
    ROOT = 0x800


class SpawnError(Error):
    """A spawn has failed at `step`; no child is left."""

    step = SpawnStep.NONE
    index = 0


def _spawn_error(report):
    error = SpawnError(-report.error, C.spawn_strerror(report).decode())
    error.step, error.index = SpawnStep(report.step), report.index
    return error


def _words(words):
    words = [text_of(word) for word in words]
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


def _above_stdio(descriptor, copies):
    """A descriptor that the actions for 0, 1 and 2 do not overwrite."""
    if descriptor > 2:
        return descriptor
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    copies.callback(os.close, copy)
    return copy


def _stdio_action(target, file, copies):
    if file == subprocess.DEVNULL:
        return CSpawnAction(SpawnAction.NULL, target)
    if file == subprocess.STDOUT and target == 2:
        return CSpawnAction(SpawnAction.DUP2, 2, 1)
    descriptor = file_number(file)
    if descriptor < 0:
        raise ValueError(f"no descriptor: {file!r}")
    return CSpawnAction(SpawnAction.DUP2, target, _above_stdio(descriptor, copies))


def _actions(stdio, pass_fds, copies):
    actions = [
        _stdio_action(target, file, copies)
        for target, file in enumerate(stdio)
        if file is not None
    ]
    actions += [CSpawnAction(SpawnAction.DUP2, fd, fd) for fd in map(file_number, pass_fds)]
    return (CSpawnAction * len(actions))(*actions)


def _attributes(values):
    raw = CSpawnAttributes()
    for name, value in values.items():
        try:
            raw.set |= Attribute[name.upper()]
        except KeyError:
            raise TypeError(f"spawn() has no keyword {name!r}") from None
        if name == "cgroup":
            raw.cgroup_fd = file_number(value)
        else:
            setattr(raw, name, text_of(value) if name == "root" else value)
    return raw


class _ProcessHandle(Handle):
    __slots__ = ()

    def __del__(self, unref=C.process_unref):
        unref(self)


class BaseProcess(Owner):
    """What the processes for threads and those for asyncio have in common."""

    __slots__ = ()

    @classmethod
    def _of(cls, pointer, bus):
        self = cls.__new__(cls)
        self._handle = _ProcessHandle(pointer.value, bus._handle)
        return self

    @classmethod
    def spawn(
        cls,
        bus,
        argv,
        *,
        path=None,
        env=None,
        cwd=None,
        stdin=None,
        stdout=None,
        stderr=None,
        pass_fds=(),
        process_group=None,
        flags=SpawnFlag.SEARCH_PATH,
        **attributes,
    ):
        """Start a child.

        - stdin, stdout, stderr: a file or a descriptor, subprocess.DEVNULL, None: that of this
          process. stderr=subprocess.STDOUT: where stdout goes.
        - pass_fds: descriptors that it inherits; besides them it has those that are inheritable.
        - process_group: the group that it joins. 0: its own.
        - uid, gid, umask, nice, death_signal, cgroup (a directory that is open), namespaces, root:
          see struct exitbus_spawn_attributes.

        The child has an empty signal mask and default actions. Raises SpawnError.
        """
        pointer, report = ctypes.c_void_p(), CSpawnReport()
        options = CSpawnOptions(flags=flags, report=ctypes.pointer(report))
        options.argv = _words(argv)
        if path is not None:
            options.path = text_of(path)
        if env is not None:
            options.envp = _words(os.fsencode(k) + b"=" + os.fsencode(v) for k, v in env.items())
        if cwd is not None:
            options.directory = text_of(cwd)
        if process_group is not None:
            options.flags |= SpawnFlag.SETPGROUP
            options.process_group = process_group
        if attributes:
            options.flags |= SpawnFlag.ATTRIBUTES
            options.attributes = ctypes.pointer(_attributes(attributes))
        with contextlib.ExitStack() as copies:
            actions = _actions((stdin, stdout, stderr), pass_fds, copies)
            options.actions, options.action_count = actions, len(actions)
            if C.process_spawn(bus._handle, options, pointer) < 0:
                raise _spawn_error(report)
        return cls._of(pointer, bus)

    @classmethod
    def adopt(cls, bus, pid):
        """A child that other code has started, alive or a zombie."""
        pointer = ctypes.c_void_p()
        check(C.process_adopt(bus._handle, pid, 0, pointer))
        return cls._of(pointer, bus)

    @classmethod
    def adopt_pidfd(cls, bus, pidfd):
        """The process of a pidfd, which may be no child of this process."""
        pointer = ctypes.c_void_p()
        check(C.process_adopt_pidfd(bus._handle, file_number(pidfd), 0, pointer))
        return cls._of(pointer, bus)

    @property
    def pid(self):
        """Its pid, also after its end, when another process may have that."""
        return check(C.process_pid(self._live))

    def signal(self, signal, group=False):
        """Send a signal to this process and to no other. `group`: to the group that it leads."""
        check(C.process_signal(self._live, signal, group))

    def fileno(self):
        """A descriptor that is readable from the end of the process on, and for good."""
        return check(C.process_fd(self._live))

    def pidfd(self):
        """A new pidfd of it, which is the caller's own."""
        return check(C.process_pidfd(self._live))

    def start_time(self):
        """When it was started: nanoseconds since the machine was booted."""
        result = ctypes.c_uint64()
        check(C.process_start_time(self._live, result))
        return result.value


def wait_for(handle, call, descriptor, timeout):
    """The event of what ends once: call(handle, event, timeout_ns)."""
    raw = CEvent()
    wait(lambda ns: call(handle, raw, ns), lambda: descriptor(handle), timeout)
    return event_of(raw)


class Process(BaseProcess):
    """One process, whatever becomes of its pid."""

    __slots__ = ()

    def wait(self, timeout=None):
        """Its exit, an Event; again and again. `timeout` is in seconds; 0 asks, None waits."""
        return wait_for(self._live, C.process_wait, C.process_fd, timeout)


class GroupKind(enum.IntEnum):
    SET = 1
    PROCESSES = 2
    CGROUP = 3


class _GroupHandle(Handle):
    __slots__ = ()

    def __del__(self, unref=C.group_unref):
        unref(self)


class BaseGroup(Owner):
    """What the groups for threads and those for asyncio have in common."""

    __slots__ = ()

    @classmethod
    def _create(cls, bus, name, **options):
        pointer = ctypes.c_void_p()
        check(C.group_create(bus._handle, CGroupOptions(name=text_of(name), **options), pointer))
        self = cls.__new__(cls)
        self._handle = _GroupHandle(pointer.value, bus._handle)
        return self

    @classmethod
    def set(cls, bus, name):
        """The processes that are added."""
        return cls._create(bus, name, kind=GroupKind.SET)

    @classmethod
    def processes(cls, bus, name, leader):
        """The process group that a Process leads (Linux 6.9)."""
        handle = leader._live
        return cls._create(bus, name, kind=GroupKind.PROCESSES, leader=handle._as_parameter_)

    @classmethod
    def cgroup(cls, bus, name, directory):
        """The processes of a cgroup v2: its directory, which is open."""
        return cls._create(bus, name, kind=GroupKind.CGROUP, cgroup_fd=file_number(directory))

    def add(self, process):
        """Add a process to a set."""
        check(C.group_add(self._live, process._live))

    def end(self, signal, grace=None):
        """Send a signal to all, and SIGKILL to those left after `grace` seconds; None: never."""
        check(C.group_end(self._live, signal, nanoseconds(grace)))

    def fileno(self):
        """A descriptor that is readable once it is ended and empty, and for good."""
        return check(C.group_fd(self._live))


class Group(BaseGroup):
    """Processes that are ended together."""

    __slots__ = ()

    def wait(self, timeout=None):
        """Its event, once it is ended and no process is left."""
        return wait_for(self._live, C.group_wait, C.group_fd, timeout)
