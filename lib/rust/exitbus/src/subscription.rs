// SPDX-License-Identifier: MIT OR Apache-2.0
//! A subscription, and receives.
use crate::bus::Bus;
use crate::error::{check, unless, Error, Result};
use crate::event::Event;
use crate::handle::{descriptor, nanoseconds};
use crate::sys;
use libc::{c_int, pid_t};
use std::os::unix::io::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most events that one [`Subscription::recv_batch`] takes.
const BATCH: usize = 256;

/// A subscription, and its place in the events that match.
///
/// Any number of threads may receive on it: each event goes to one of them. A drop unsubscribes, on
/// any thread. [`close`](Subscription::close) does so while others receive.
#[derive(Debug)]
pub struct Subscription {
    handle: NonNull<sys::exitbus_subscription>,
    /// The reference that subscribe gave has been given up. Until the drop we have one more, so the
    /// handle is valid for every call that borrows us.
    closed: AtomicBool,
    /// Dropped last.
    _bus: Bus,
}

// Unsubscribe and receive may be called on any thread, at the same time.
unsafe impl Send for Subscription {}
unsafe impl Sync for Subscription {}

impl Subscription {
    /// Take over what a subscribe of C has returned.
    ///
    /// # Safety
    /// `handle` is a subscription of `bus`, and nothing else gives up this reference to it.
    pub unsafe fn from_raw(
        bus: &Bus,
        handle: *mut sys::exitbus_subscription,
    ) -> Result<Subscription> {
        let handle = NonNull::new(handle).ok_or(Error::InvalidArgument)?;
        if let Err(error) = check(sys::exitbus_subscription_ref(handle.as_ptr())) {
            sys::exitbus_unsubscribe(handle.as_ptr());
            return Err(error);
        }
        Ok(Subscription { handle, closed: AtomicBool::new(false), _bus: bus.clone() })
    }

    /// The subscription that `call` makes.
    pub(crate) fn made_by(
        bus: &Bus,
        call: impl FnOnce(*mut *mut sys::exitbus_subscription) -> Result<()>,
    ) -> Result<Subscription> {
        let mut handle = ptr::null_mut();
        call(&mut handle)?;
        unsafe { Subscription::from_raw(bus, handle) }
    }

    /// The handle, for calls of [`sys`]. It is valid as long as this subscription.
    pub fn as_ptr(&self) -> *mut sys::exitbus_subscription {
        self.handle.as_ptr()
    }

    /// Unsubscribe. Once this has returned no receive takes an event any more, on any thread.
    /// Blocked receivers wake with [`Error::Closed`]. Non-blocking. A further call does nothing.
    pub fn close(&self) -> Result<()> {
        // Relaxed: it only chooses one call; the library orders what matters.
        if self.closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        check(unsafe { sys::exitbus_unsubscribe(self.as_ptr()) }).map(drop)
    }

    /// Receive the next event, and wait for it.
    ///
    /// Errors: [`Error::Closed`]; [`Error::Stale`].
    pub fn recv(&self) -> Result<Event> {
        self.receive(-1)
    }

    /// Receive the next event, if there is one.
    ///
    /// Errors: [`Error::Closed`]; [`Error::Stale`]; [`Error::NoMemory`] an event lacks memory to be
    /// queued: free some, and try again.
    pub fn try_recv(&self) -> Result<Option<Event>> {
        unless(self.receive(0), Error::TryAgain)
    }

    /// Receive the next event, and wait for it at most so long.
    ///
    /// Errors: [`Error::Closed`]; [`Error::Stale`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Event>> {
        unless(self.receive(nanoseconds(timeout)), Error::TimedOut)
    }

    fn receive(&self, timeout_ns: i64) -> Result<Event> {
        let mut event = Event::empty();
        check(unsafe { sys::exitbus_receive(self.as_ptr(), event.as_mut_ptr(), timeout_ns) })?;
        Ok(event)
    }

    /// Receive up to `most` events (and at most 256) that are consecutive in this subscription.
    /// Waits for the first at most so long; `None`: as long as it takes. Empty: none came.
    ///
    /// Errors: as [`recv`](Subscription::recv), and only if no event was received;
    /// [`Error::InvalidArgument`] for `most` 0.
    pub fn recv_batch(&self, most: usize, timeout: Option<Duration>) -> Result<Vec<Event>> {
        let mut events = vec![Event::empty(); most.min(BATCH)];
        let timeout_ns = timeout.map_or(-1, nanoseconds);
        let received = unsafe {
            // An Event is nothing but its struct of C.
            let raw = events.as_mut_ptr().cast::<sys::exitbus_event>();
            sys::exitbus_receive_batch(self.as_ptr(), raw, events.len(), timeout_ns)
        };
        let result = check(received as c_int); // at most BATCH, or an errno value
        let received = unless(result, Error::TimedOut)?.unwrap_or(0);
        events.truncate(received as usize);
        Ok(events)
    }

    /// Receive until the exit of process `pid` comes, and return that one, if it comes in time
    /// (`None`: as long as it takes). The number is of events of others that were discarded.
    pub fn recv_pid(&self, pid: pid_t, timeout: Option<Duration>) -> (Result<Option<Event>>, u64) {
        let (mut event, mut discarded) = (Event::empty(), 0);
        let timeout_ns = timeout.map_or(-1, nanoseconds);
        let result = check(unsafe {
            let place = event.as_mut_ptr();
            sys::exitbus_receive_pid(self.as_ptr(), pid, place, &mut discarded, timeout_ns)
        });
        (unless(result.map(|_| event), Error::TimedOut), discarded)
    }

    /// How many events wait.
    pub fn pending(&self) -> Result<usize> {
        let pending = unsafe { sys::exitbus_subscription_pending(self.as_ptr()) };
        usize::try_from(pending).map_err(|_| Error::from_errno(-pending as c_int))
    }

    /// A descriptor that polls readable while events are pending, and for good once the
    /// subscription is closed. An edge-triggered loop receives until there is none before it waits
    /// again. Take it out of the loop before the subscription is dropped. Never read or write it.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        unsafe { descriptor(sys::exitbus_subscription_fd(self.as_ptr())) }
    }

    /// The events, each waited for, until the subscription is closed.
    pub fn iter(&self) -> Iter<'_> {
        Iter { subscription: self, ended: false }
    }
}

impl Drop for Subscription {
    /// In a forked child this has no effect.
    fn drop(&mut self) {
        // What fails here has nothing left to undo.
        let _ = self.close();
        unsafe { sys::exitbus_subscription_unref(self.as_ptr()) };
    }
}

impl<'a> IntoIterator for &'a Subscription {
    type Item = Result<Event>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of a subscription, each waited for. It ends when the subscription is closed. Another
/// error, as in a forked child, comes once and is the last item.
#[derive(Debug)]
pub struct Iter<'a> {
    subscription: &'a Subscription,
    ended: bool,
}

impl Iterator for Iter<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.ended {
            return None;
        }
        let result = self.subscription.recv();
        self.ended = result.is_err();
        match result {
            Err(Error::Closed) => None,
            result => Some(result),
        }
    }
}

impl std::iter::FusedIterator for Iter<'_> {}

const _: () = assert!(std::mem::size_of::<Event>() == std::mem::size_of::<sys::exitbus_event>());
