// SPDX-License-Identifier: MIT OR Apache-2.0
//! What handles of processes, groups and tasks have in common: references, and an event that stays.
use crate::error::{check, Result};
use libc::c_int;
use std::os::unix::io::BorrowedFd;
use std::time::Duration;

/// A timeout of C that waits. One that is 0 still says "not in time", rather than "not now".
pub(crate) fn nanoseconds(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX).max(1)
}

/// How long to wait before SIGKILL, as C has it.
pub(crate) fn grace_ns(grace: Option<Duration>) -> i64 {
    grace.map_or(-1, |grace| i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX))
}

/// A descriptor of a handle.
///
/// # Safety
/// `result` is what a call has returned, and the descriptor stays open for `'a`.
pub(crate) unsafe fn descriptor<'a>(result: c_int) -> Result<BorrowedFd<'a>> {
    Ok(BorrowedFd::borrow_raw(check(result)?))
}

/// A type of handle that counts references. A clone is one more. In a forked child that fails, and
/// the clone is as stale as its original.
macro_rules! handle {
    ($(#[$text:meta])* $name:ident, $raw:ident, $reference:ident, $release:ident) => {
        $(#[$text])*
        #[derive(Debug)]
        pub struct $name {
            handle: std::ptr::NonNull<crate::sys::$raw>,
            /// Dropped last.
            bus: crate::Bus,
        }

        // The library's calls may be made on any thread that has a reference.
        unsafe impl Send for $name {}
        unsafe impl Sync for $name {}

        impl $name {
            /// The handle that `call` makes. It keeps `bus`.
            pub(crate) fn made_by(
                bus: &crate::Bus,
                call: impl FnOnce(*mut *mut crate::sys::$raw) -> libc::c_int,
            ) -> crate::Result<$name> {
                let mut handle = std::ptr::null_mut();
                crate::error::check(call(&mut handle))?;
                let handle = std::ptr::NonNull::new(handle).ok_or(crate::Error::NoMemory)?;
                Ok($name { handle, bus: bus.clone() })
            }

            /// The handle, for calls of [`sys`](crate::sys). It is valid as long as this one.
            pub fn as_ptr(&self) -> *mut crate::sys::$raw {
                self.handle.as_ptr()
            }
        }

        impl Clone for $name {
            fn clone(&self) -> $name {
                unsafe { crate::sys::$reference(self.as_ptr()) };
                $name { handle: self.handle, bus: self.bus.clone() }
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                unsafe { crate::sys::$release(self.as_ptr()) };
            }
        }
    };
}

/// What has an event that stays.
macro_rules! waits {
    ($name:ident, $wait:ident, $fd:ident) => {
        impl $name {
            /// Wait for its event, which stays: every call gets it, on any thread.
            ///
            /// Errors: [`Error::Stale`](crate::Error::Stale);
            /// [`Error::Cancelled`](crate::Error::Cancelled) its start was cancelled.
            pub fn wait(&self) -> crate::Result<crate::Event> {
                self.wait_ns(-1)
            }

            /// Its event, if it is there. Errors: as [`wait`](Self::wait).
            pub fn try_wait(&self) -> crate::Result<Option<crate::Event>> {
                crate::error::unless(self.wait_ns(0), crate::Error::TryAgain)
            }

            /// Its event, if it comes in time. Errors: as [`wait`](Self::wait).
            pub fn wait_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> crate::Result<Option<crate::Event>> {
                let timeout_ns = crate::handle::nanoseconds(timeout);
                crate::error::unless(self.wait_ns(timeout_ns), crate::Error::TimedOut)
            }

            fn wait_ns(&self, timeout_ns: i64) -> crate::Result<crate::Event> {
                let mut event = crate::Event::empty();
                crate::error::check(unsafe {
                    crate::sys::$wait(self.as_ptr(), event.as_mut_ptr(), timeout_ns)
                })?;
                Ok(event)
            }

            /// A descriptor that polls readable once there is an answer, and for good. Take it out
            /// of the loop before the last handle is dropped. Never read or write it.
            pub fn fd(&self) -> crate::Result<std::os::unix::io::BorrowedFd<'_>> {
                unsafe { crate::handle::descriptor(crate::sys::$fd(self.as_ptr())) }
            }
        }

        #[cfg(feature = "tokio")]
        impl crate::tokio::Waits for $name {
            fn answer(&self) -> crate::Result<Option<crate::Event>> {
                self.try_wait()
            }

            fn descriptor(&self) -> crate::Result<std::os::unix::io::BorrowedFd<'_>> {
                self.fd()
            }
        }
    };
}

pub(crate) use {handle, waits};
