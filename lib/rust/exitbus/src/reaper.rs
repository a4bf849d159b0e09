// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reapers, and the record that they write.
use crate::bus::Bus;
use crate::error::{check, unless, Error, Result};
use crate::event::Event;
use crate::handle::descriptor;
use crate::sys;
use libc::pid_t;
use std::os::unix::io::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Collects the exits of child processes and publishes them. A drop stops it.
///
/// It keeps its bus: the bus is not destroyed before it is stopped.
#[derive(Debug)]
pub struct Reaper {
    /// None once it is stopped.
    handle: Option<NonNull<sys::exitbus_reaper>>,
    _bus: Bus,
}

// The library's calls may be made on any thread; stop takes the reaper for itself.
unsafe impl Send for Reaper {}
unsafe impl Sync for Reaper {}

/// How a reaper is to be: which children, and how it learns of them.
#[derive(Clone, Copy, Debug)]
pub struct ReaperOptions<'a> {
    raw: sys::exitbus_reaper_options,
    record: std::marker::PhantomData<BorrowedFd<'a>>,
}

impl<'a> ReaperOptions<'a> {
    /// Every child of the process. There is one such reaper in a process.
    pub fn all() -> ReaperOptions<'a> {
        ReaperOptions::of_mode(sys::EXITBUS_REAPER_ALL)
    }

    /// Children that are handed over by [`Reaper::watch`] or a spawn.
    pub fn watched() -> ReaperOptions<'a> {
        ReaperOptions::of_mode(sys::EXITBUS_REAPER_WATCHED)
    }

    fn of_mode(mode: sys::exitbus_reaper_mode) -> ReaperOptions<'a> {
        let raw = sys::exitbus_reaper_options { mode, flags: 0, record_fd: 0 };
        ReaperOptions { raw, record: std::marker::PhantomData }
    }

    fn with(mut self, flag: u32) -> ReaperOptions<'a> {
        self.raw.flags |= flag;
        self
    }

    /// `all`: adopt orphans, too.
    pub fn subreaper(self) -> ReaperOptions<'a> {
        self.with(sys::EXITBUS_REAPER_SUBREAPER)
    }

    /// No thread: a loop of the caller's calls [`Reaper::poll`].
    pub fn polled(self) -> ReaperOptions<'a> {
        self.with(sys::EXITBUS_REAPER_POLLED)
    }

    /// `all`: the host has SIGCHLD blocked in all threads, and leaves it to the reaper.
    pub fn signalfd(self) -> ReaperOptions<'a> {
        self.with(sys::EXITBUS_REAPER_SIGNALFD)
    }

    /// `all`: leave children in this process's own cgroup alone.
    pub fn orphans(self) -> ReaperOptions<'a> {
        self.with(sys::EXITBUS_REAPER_ORPHANS)
    }

    /// Events say more: [`Event::details`].
    pub fn details(self) -> ReaperOptions<'a> {
        self.with(sys::EXITBUS_REAPER_DETAILS)
    }

    /// Exits are written to a file, open for appending, before they are told. The reaper has a copy
    /// of the descriptor.
    pub fn record(self, file: BorrowedFd<'a>) -> ReaperOptions<'a> {
        let mut options = self.with(sys::EXITBUS_REAPER_RECORD);
        options.raw.record_fd = file.as_raw_fd();
        options
    }

    /// Start it.
    pub fn start(self, bus: &Bus) -> Result<Reaper> {
        let mut handle = ptr::null_mut();
        check(unsafe { sys::exitbus_reaper_start(bus.as_ptr(), &self.raw, &mut handle) })?;
        Ok(Reaper { handle: NonNull::new(handle), _bus: bus.clone() })
    }
}

impl Reaper {
    /// The handle; NULL once it is stopped, which each call refuses.
    fn as_ptr(&self) -> *mut sys::exitbus_reaper {
        self.handle.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Stop it. Blocks until it has finished its current pass. After [`Error::TryAgain`],
    /// [`Error::NoMemory`], [`Error::TooManyFiles`], [`Error::TooManyFilesInSystem`],
    /// [`Error::NoSpace`] and [`Error::InvalidArgument`] it goes on; after others it is stopped.
    pub fn stop(&mut self) -> Result<()> {
        let result = check(unsafe { sys::exitbus_reaper_stop(self.as_ptr()) }).map(drop);
        let goes_on = matches!(
            result,
            Err(Error::TryAgain
                | Error::NoMemory
                | Error::TooManyFiles
                | Error::TooManyFilesInSystem
                | Error::NoSpace
                | Error::InvalidArgument)
        );
        if !goes_on {
            self.handle = None;
        }
        result
    }

    /// `watched`: collect the exit of `pid`, a child of this process, also if it is a zombie.
    pub fn watch(&self, pid: pid_t) -> Result<()> {
        check(unsafe { sys::exitbus_reaper_watch(self.as_ptr(), pid) }).map(drop)
    }

    /// Go on with another file to record exits in.
    pub fn record(&self, file: BorrowedFd<'_>) -> Result<()> {
        check(unsafe { sys::exitbus_reaper_record(self.as_ptr(), file.as_raw_fd()) }).map(drop)
    }

    /// `polled`: the descriptor to poll for input. Take it out of the loop before the reaper is
    /// dropped.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        unsafe { descriptor(sys::exitbus_reaper_fd(self.as_ptr())) }
    }

    /// `polled`: collect and publish what has exited. Returns how many. Never blocks.
    pub fn poll(&self) -> Result<usize> {
        check(unsafe { sys::exitbus_reaper_poll(self.as_ptr()) }).map(|count| count as usize)
    }
}

impl Drop for Reaper {
    /// One that can't be stopped goes on, and so does its bus. In a forked child this has no
    /// effect.
    fn drop(&mut self) {
        unsafe { sys::exitbus_reaper_stop(self.as_ptr()) };
    }
}

/// Read one exit from a record that reapers have written. `offset` is where to begin, 0 at first,
/// and is moved on. `None`: there is no further one now.
///
/// Errors: [`Error::Damaged`] read on.
pub fn read_record(file: BorrowedFd<'_>, offset: &mut u64) -> Result<Option<Event>> {
    let mut event = Event::empty();
    let result =
        check(unsafe { sys::exitbus_record_read(file.as_raw_fd(), offset, event.as_mut_ptr()) });
    unless(result.map(|_| event), Error::NoData)
}
