// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handles of processes.
use crate::bus::Bus;
use crate::error::{check, Result};
use crate::handle::{handle, waits};
use crate::sys;
use libc::{c_int, pid_t};
use std::os::unix::io::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

handle! {
    /// One process: signals that hit no other, and an exit that stays. Clones are the same process.
    ///
    /// A drop gives up the handle. The process runs on, and its exit is still published.
    Process, exitbus_process, exitbus_process_ref, exitbus_process_unref
}
waits!(Process, exitbus_process_wait, exitbus_process_fd);

impl Process {
    /// Make a handle for a child of this process that other code has made, alive or a zombie. From
    /// then on the bus's reaper collects it: let nothing else wait for it.
    pub fn adopt(bus: &Bus, pid: pid_t) -> Result<Process> {
        Process::made_by(bus, |handle| unsafe {
            sys::exitbus_process_adopt(bus.as_ptr(), pid, 0, handle)
        })
    }

    /// Make a handle for the process of a pidfd, which may be no child of this one.
    pub fn adopt_pidfd(bus: &Bus, pidfd: BorrowedFd<'_>) -> Result<Process> {
        Process::made_by(bus, |handle| unsafe {
            sys::exitbus_process_adopt_pidfd(bus.as_ptr(), pidfd.as_raw_fd(), 0, handle)
        })
    }

    /// Its pid, also after its end, when another process may have that.
    pub fn pid(&self) -> Result<pid_t> {
        check(unsafe { sys::exitbus_process_pid(self.as_ptr()) })
    }

    /// Send a signal, which hits this process or none; 0 tells whether one could be sent.
    pub fn signal(&self, signal: c_int) -> Result<()> {
        check(unsafe { sys::exitbus_process_signal(self.as_ptr(), signal, 0) }).map(drop)
    }

    /// Send a signal to the process group that it leads or has led.
    pub fn signal_group(&self, signal: c_int) -> Result<()> {
        let flags = sys::EXITBUS_SIGNAL_GROUP;
        check(unsafe { sys::exitbus_process_signal(self.as_ptr(), signal, flags) }).map(drop)
    }

    /// A pidfd of the process.
    pub fn pidfd(&self) -> Result<OwnedFd> {
        let pidfd = check(unsafe { sys::exitbus_process_pidfd(self.as_ptr()) })?;
        // It is the caller's own.
        Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
    }

    /// When it was started, since the machine was booted. With the pid it names the process for as
    /// long as the machine runs.
    pub fn start_time(&self) -> Result<Duration> {
        let mut start = 0;
        check(unsafe { sys::exitbus_process_start_time(self.as_ptr(), &mut start) })?;
        Ok(Duration::from_nanos(start))
    }
}
