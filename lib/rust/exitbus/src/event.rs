// SPDX-License-Identifier: MIT OR Apache-2.0
//! One event, as it was published.
use crate::error::{check, Error, Result};
use crate::sys;
use libc::{c_char, pid_t};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A process has exited.
    Pid,
    /// An exec in a container has exited, or the container itself: then the exec id is empty.
    Exec,
    /// A group was ended, and no process is left in it.
    Empty,
    /// An exec of a task was bound to a process, or started again.
    Started,
    /// A task's leader has exited. Its `Exec` follows those of its members.
    LeaderDied,
    /// The kernel has killed processes of a task's cgroup: their number is the exit code.
    Oom,
    /// A kind that a later version of the library has.
    Other(u8),
}

/// One exit, or one of the other events.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(sys::exitbus_event);

/// What the kernel told of a process before it was reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// When the process was started, since the machine was booted. With the pid it names the
    /// process for as long as the machine runs.
    pub start: Duration,
    /// The inode of its pidfds, if it is known.
    pub inode: Option<u64>,
    comm: [u8; 16],
}

impl Details {
    /// The name of the process in /proc, as it was last.
    pub fn comm(&self) -> &OsStr {
        let end = self.comm.iter().position(|&byte| byte == 0).unwrap_or(self.comm.len());
        OsStr::from_bytes(&self.comm[..end])
    }
}

impl Event {
    pub(crate) fn empty() -> Event {
        // All zero is a valid value: numbers, and ids that are empty.
        Event(unsafe { std::mem::zeroed() })
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut sys::exitbus_event {
        &mut self.0
    }

    /// An event to publish: process `pid` has exited with `exit_code`.
    pub fn of_pid(pid: pid_t, exit_code: i32) -> Event {
        let mut event = Event::empty();
        event.0.kind = sys::EXITBUS_EVENT_PID as u8;
        event.0.pid = pid;
        event.0.exit_code = exit_code;
        event.0.status = (exit_code & 0xff) << 8;
        event
    }

    /// An event to publish: exec `exec_id` of container `container_id` has exited. An empty exec id
    /// is the container itself.
    ///
    /// Errors: [`Error::InvalidArgument`] for an id that is too long or holds a NUL.
    pub fn of_exec(container_id: &str, exec_id: &str, exit_code: i32) -> Result<Event> {
        let mut event = Event::of_pid(0, exit_code);
        event.0.kind = sys::EXITBUS_EVENT_EXEC as u8;
        set_id(&mut event.0.container_id, container_id)?;
        set_id(&mut event.0.exec_id, exec_id)?;
        Ok(event)
    }

    /// The struct of C, with all its members.
    pub fn as_raw(&self) -> &sys::exitbus_event {
        &self.0
    }

    /// What has happened.
    pub fn kind(&self) -> EventKind {
        match self.0.kind.into() {
            sys::EXITBUS_EVENT_PID => EventKind::Pid,
            sys::EXITBUS_EVENT_EXEC => EventKind::Exec,
            sys::EXITBUS_EVENT_EMPTY => EventKind::Empty,
            sys::EXITBUS_EVENT_STARTED => EventKind::Started,
            sys::EXITBUS_EVENT_LEADER_DIED => EventKind::LeaderDied,
            sys::EXITBUS_EVENT_OOM => EventKind::Oom,
            _ => EventKind::Other(self.0.kind),
        }
    }

    /// Its place in the bus-wide order: 1, 2, 3 …; 0 if it was not published.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// The process id; 0 if it is not known.
    pub fn pid(&self) -> pid_t {
        self.0.pid
    }

    /// As a shell gives it: the exit code, or 128 + signal. `None`: another waiter took it.
    pub fn exit_code(&self) -> Option<i32> {
        (!self.has(sys::EXITBUS_EVENT_STATUS_LOST)).then_some(self.0.exit_code)
    }

    /// The wait status. `None`: another waiter took it.
    pub fn status(&self) -> Option<ExitStatus> {
        (!self.has(sys::EXITBUS_EVENT_STATUS_LOST)).then(|| ExitStatus::from_raw(self.0.status))
    }

    /// Whether the process has left a core dump.
    pub fn core_dumped(&self) -> bool {
        self.has(sys::EXITBUS_EVENT_CORE_DUMPED)
    }

    /// Whether a leader's exit was told before those of all members: the task's bound was over.
    pub fn cut_short(&self) -> bool {
        self.has(sys::EXITBUS_EVENT_CUT_SHORT)
    }

    /// The container id, or the name of a group.
    pub fn container_id(&self) -> &OsStr {
        id(&self.0.container_id)
    }

    /// The exec id; empty: the container itself.
    pub fn exec_id(&self) -> &OsStr {
        id(&self.0.exec_id)
    }

    /// CLOCK_MONOTONIC when the exit was collected.
    pub fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.monotonic_ns)
    }

    /// The time when the exit was collected.
    pub fn realtime(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0.realtime_ns)
    }

    /// CPU time in user mode.
    pub fn user_time(&self) -> Duration {
        Duration::from_micros(self.0.user_us)
    }

    /// CPU time in the kernel.
    pub fn system_time(&self) -> Duration {
        Duration::from_micros(self.0.system_us)
    }

    /// The largest resident set, in KiB.
    pub fn max_rss_kib(&self) -> u64 {
        self.0.max_rss_kib
    }

    /// What a reaper with [`details`](crate::ReaperOptions::details) has found in /proc, if it has.
    pub fn details(&self) -> Option<Details> {
        let mut details: sys::exitbus_event_details = unsafe { std::mem::zeroed() };
        check(unsafe { sys::exitbus_event_details(&self.0, &mut details) }).ok()?;
        Some(Details {
            start: Duration::from_nanos(details.start_ns),
            inode: (details.inode != 0).then_some(details.inode),
            comm: details.comm.map(|letter| letter as u8),
        })
    }

    fn has(&self, flag: u32) -> bool {
        u32::from(self.0.flags) & flag != 0
    }
}

/// Any value will do: publish checks what it is given.
impl From<sys::exitbus_event> for Event {
    fn from(event: sys::exitbus_event) -> Event {
        Event(event)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("seq", &self.seq())
            .field("kind", &self.kind())
            .field("pid", &self.pid())
            .field("exit_code", &self.exit_code())
            .field("container_id", &self.container_id())
            .field("exec_id", &self.exec_id())
            .finish_non_exhaustive()
    }
}

fn id(letters: &[c_char]) -> &OsStr {
    let end = letters.iter().position(|&letter| letter == 0).unwrap_or(letters.len());
    let bytes = letters[..end].as_ptr().cast::<u8>();
    // The same bytes, as unsigned ones.
    OsStr::from_bytes(unsafe { std::slice::from_raw_parts(bytes, end) })
}

fn set_id(place: &mut [c_char], id: &str) -> Result<()> {
    if id.len() > sys::EXITBUS_ID_MAX || id.contains('\0') {
        return Err(Error::InvalidArgument);
    }
    for (letter, byte) in place.iter_mut().zip(id.bytes()) {
        *letter = byte as c_char;
    }
    Ok(())
}
