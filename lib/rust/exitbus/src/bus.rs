// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bus, and what publishes on it.
use crate::error::{check, Error, Result};
use crate::event::Event;
use crate::subscription::Subscription;
use crate::sys;
use crate::topic::{c_string, Topic};
use libc::{c_int, pid_t, rusage};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Figures of a bus, as in C.
pub use crate::sys::exitbus_stats as Stats;

/// A bus. Clones are the same bus.
///
/// What is made of a bus keeps it: subscriptions, reapers, handles. With the last of them, or of
/// its clones, the bus is destroyed. That drop waits for a grace period (about 20 ms).
#[derive(Clone, Debug)]
pub struct Bus {
    handle: NonNull<sys::exitbus>,
    /// None for the process-wide bus, which is never destroyed.
    _owner: Option<Arc<Owner>>,
}

// The library's calls may be made on any thread.
unsafe impl Send for Bus {}
unsafe impl Sync for Bus {}

#[derive(Debug)]
struct Owner(NonNull<sys::exitbus>);

unsafe impl Send for Owner {}
unsafe impl Sync for Owner {}

impl Drop for Owner {
    /// No call with this handle is in progress: each borrows a clone of the bus, or what keeps one.
    /// In a forked child this has no effect. Inside a read-side section of liburcu the bus is
    /// leaked, and so it is with a reaper that could not be stopped.
    fn drop(&mut self) {
        unsafe { sys::exitbus_destroy(self.0.as_ptr()) };
    }
}

impl Bus {
    /// Make a bus.
    pub fn new() -> Result<Bus> {
        let mut bus = ptr::null_mut();
        check(unsafe { sys::exitbus_create(&mut bus, ptr::null()) })?;
        unsafe { Bus::from_raw(bus) }
    }

    /// Take over a bus of C, as one that has an allocator of its own.
    ///
    /// # Safety
    /// `handle` is a bus, and nothing else destroys it.
    pub unsafe fn from_raw(handle: *mut sys::exitbus) -> Result<Bus> {
        let handle = NonNull::new(handle).ok_or(Error::InvalidArgument)?;
        Ok(Bus { handle, _owner: Some(Arc::new(Owner(handle))) })
    }

    /// The process-wide bus, which is never destroyed. A forked child gets one of its own.
    pub fn process_wide() -> Result<Bus> {
        match NonNull::new(unsafe { sys::exitbus_default() }) {
            Some(handle) => Ok(Bus { handle, _owner: None }),
            None => {
                let errno = io::Error::last_os_error().raw_os_error();
                Err(Error::from_errno(errno.unwrap_or(libc::ENOMEM)))
            }
        }
    }

    /// The handle, for calls of [`sys`]. It is valid as long as this bus.
    pub fn as_ptr(&self) -> *mut sys::exitbus {
        self.handle.as_ptr()
    }

    /// Figures of the bus. Exact while the bus is quiet.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats: Stats = unsafe { std::mem::zeroed() };
        check(unsafe { sys::exitbus_stats(self.as_ptr(), &mut stats) })?;
        Ok(stats)
    }

    /// Subscribe to a topic: every matching event whose publish begins after this has returned.
    ///
    /// Errors: [`Error::InvalidArgument`] for a topic that is not valid.
    pub fn subscribe(&self, topic: Topic<'_>) -> Result<Subscription> {
        self.subscribe_with(topic, 0)
    }

    /// Subscribe to the first exit that matches. Then the subscription closes itself.
    pub fn subscribe_one_shot(&self, topic: Topic<'_>) -> Result<Subscription> {
        self.subscribe_with(topic, sys::EXITBUS_SUBSCRIBE_ONE_SHOT)
    }

    /// Subscribe to the first exit that matches, which stays: each receive returns it.
    pub fn subscribe_sticky(&self, topic: Topic<'_>) -> Result<Subscription> {
        self.subscribe_with(topic, sys::EXITBUS_SUBSCRIBE_STICKY)
    }

    fn subscribe_with(&self, topic: Topic<'_>, flags: u32) -> Result<Subscription> {
        Subscription::made_by(self, |handle| {
            let result = topic.with_raw(|topic| unsafe {
                sys::exitbus_subscribe(self.as_ptr(), topic, flags, handle)
            });
            check(result?).map(drop)
        })
    }

    /// Publish one event. Returns its place in the order.
    pub fn publish(&self, event: &Event) -> Result<u64> {
        let mut seq = 0;
        check(unsafe { sys::exitbus_publish(self.as_ptr(), event.as_raw(), &mut seq) })?;
        Ok(seq)
    }

    /// Publish up to [`sys::EXITBUS_BATCH_MAX`] events, consecutive in the order; all or none.
    /// Returns the place of the first.
    pub fn publish_batch(&self, events: &[Event]) -> Result<u64> {
        let mut first = 0;
        // An Event is nothing but its struct of C.
        let raw = events.as_ptr().cast::<sys::exitbus_event>();
        check(unsafe { sys::exitbus_publish_batch(self.as_ptr(), raw, events.len(), &mut first) })?;
        Ok(first)
    }

    /// Publish that process `pid` has exited with `exit_code`.
    pub fn publish_pid(&self, pid: pid_t, exit_code: i32) -> Result<()> {
        check(unsafe { sys::exitbus_publish_pid(self.as_ptr(), pid, exit_code) }).map(drop)
    }

    /// Publish that exec `exec_id` of container `container_id` has exited. An empty exec id is the
    /// container itself.
    pub fn publish_exec(&self, container_id: &str, exec_id: &str, exit_code: i32) -> Result<()> {
        let (container_id, exec_id) = (c_string(container_id)?, c_string(exec_id)?);
        check(unsafe {
            let (container_id, exec_id) = (container_id.as_ptr(), exec_id.as_ptr());
            sys::exitbus_publish_exec(self.as_ptr(), container_id, exec_id, exit_code)
        })
        .map(drop)
    }

    /// Publish an exit from a wait4() loop of the caller's, with what the kernel gave.
    pub fn publish_wait(&self, pid: pid_t, status: c_int, usage: Option<&rusage>) -> Result<()> {
        let usage = usage.map_or(ptr::null(), |usage| usage as *const rusage);
        check(unsafe { sys::exitbus_publish_wait(self.as_ptr(), pid, status, usage) }).map(drop)
    }
}

/// Make the calling thread's record now, for which there may have to be memory.
pub fn prepare_thread() -> Result<()> {
    check(unsafe { sys::exitbus_thread_prepare() }).map(drop)
}
