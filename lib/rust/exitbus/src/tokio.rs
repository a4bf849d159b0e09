// SPDX-License-Identifier: MIT OR Apache-2.0
//! For tokio: a [`Stream`] of events, and waits for processes, groups and execs. Feature `tokio`.
//!
//! Both need a runtime with I/O enabled. tokio's reactor is edge-triggered, so the events are
//! received until there is none before a descriptor counts as not ready. A descriptor leaves the
//! reactor before it is closed.
use crate::error::{Error, Result};
use crate::event::Event;
use crate::subscription::Subscription;
use ::tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use ::tokio::io::Interest;
use futures_core::ready;
use futures_core::stream::{FusedStream, Stream};
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::unix::io::{AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A descriptor that is in the reactor, and leaves it when it is dropped, before it is closed.
#[derive(Debug)]
struct Registered<T: AsRawFd> {
    source: ManuallyDrop<AsyncFd<T>>,
    process: u32,
}

impl<T: AsRawFd> Registered<T> {
    fn new(source: T) -> Result<Registered<T>> {
        let source = AsyncFd::with_interest(source, Interest::READABLE).map_err(of_reactor)?;
        Ok(Registered { source: ManuallyDrop::new(source), process: std::process::id() })
    }

    /// Whether the reactor is this process's. A parent's never tells a forked child anything.
    fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    /// Wait until the reactor says readable. Errors: [`Error::Stale`] in a forked child.
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<AsyncFdReadyGuard<'_, T>>> {
        if !self.is_own() {
            return Poll::Ready(Err(Error::Stale));
        }
        self.source.poll_read_ready(context).map_err(of_reactor)
    }
}

impl<T: AsRawFd> Drop for Registered<T> {
    /// A forked child shares the reactor's epoll with its parent, and must take nothing out of it:
    /// there the source is leaked.
    fn drop(&mut self) {
        if self.is_own() {
            unsafe { ManuallyDrop::drop(&mut self.source) };
        }
    }
}

/// The events of a subscription. It ends when the subscription is closed.
///
/// [`Error::NoMemory`] is an item of which nothing is lost: poll again after a while. Another
/// error is the last item; [`Error::Cancelled`]: the runtime has ended; [`Error::Stale`]: this is a
/// forked child.
#[derive(Debug)]
pub struct Events {
    /// None once it has ended.
    registered: Option<Registered<Source>>,
}

/// The descriptor of a subscription, which is open as long as the subscription.
#[derive(Debug)]
struct Source {
    descriptor: RawFd,
    subscription: Arc<Subscription>,
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor
    }
}

impl Events {
    /// The events of `subscription`. A clone of an `Arc` can [`close`](Subscription::close) it from
    /// elsewhere. Panics outside of a runtime with I/O.
    ///
    /// Errors: [`Error::Exists`] this runtime has the subscription already;
    /// [`Error::TooManyFiles`] and other errors of the system.
    pub fn new(subscription: impl Into<Arc<Subscription>>) -> Result<Events> {
        let subscription = subscription.into();
        let descriptor = subscription.fd()?.as_raw_fd();
        let registered = Registered::new(Source { descriptor, subscription })?;
        Ok(Events { registered: Some(registered) })
    }

    /// The next event; as [`Stream::poll_next`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        let item = ready!(self.poll_once(context));
        match item {
            Ok(_) | Err(Error::NoMemory) => return Poll::Ready(Some(item)),
            Err(_) => self.registered = None,
        }
        Poll::Ready(item.err().filter(|&error| error != Error::Closed).map(Err))
    }

    fn poll_once(&mut self, context: &mut Context<'_>) -> Poll<Result<Event>> {
        let registered = match &self.registered {
            Some(registered) => registered,
            None => return Poll::Ready(Err(Error::Closed)),
        };
        loop {
            let mut guard = ready!(registered.poll_ready(context))?;
            if let Some(event) = registered.source.get_ref().subscription.try_recv()? {
                return Poll::Ready(Ok(event));
            }
            // Nothing is there, and the next publish makes an edge.
            guard.clear_ready();
        }
    }

    /// The next event, or `None` when the subscription is closed. A wait that is dropped loses
    /// nothing.
    pub fn recv(&mut self) -> impl Future<Output = Option<Result<Event>>> + Send + '_ {
        Receive(self)
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event>>> {
        self.poll_recv(context)
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.registered.is_none()
    }
}

struct Receive<'a>(&'a mut Events);

impl Future for Receive<'_> {
    type Output = Option<Result<Event>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_recv(context)
    }
}

/// What has an event that stays: [`crate::Process`], [`crate::Group`], [`crate::Exec`].
pub trait Waits {
    /// Its event, if it is there.
    fn answer(&self) -> Result<Option<Event>>;
    /// Readable from then on.
    fn descriptor(&self) -> Result<BorrowedFd<'_>>;
}

/// A handle whose [`wait`](Async::wait) is for `await`. Its other calls are those of the handle.
#[derive(Clone, Debug)]
pub struct Async<T>(pub T);

/// A process to `await`.
pub type Process = Async<crate::Process>;
/// A group to `await`.
pub type Group = Async<crate::Group>;
/// An exec to `await`.
pub type Exec = Async<crate::Exec>;

impl<T: Waits> Async<T> {
    /// Wait for its event, which stays. Any number of tasks may wait, in any runtime with I/O; a
    /// wait that is dropped loses nothing. Panics outside of a runtime with I/O.
    ///
    /// Errors: those of the handle's `wait`, and of the system; [`Error::Cancelled`] also if the
    /// runtime has ended.
    pub async fn wait(&self) -> Result<Event> {
        if let Some(event) = self.0.answer()? {
            return Ok(event);
        }
        // Each wait has a copy, since a reactor takes a descriptor once.
        let descriptor = self.0.descriptor()?.try_clone_to_owned().map_err(of_reactor)?;
        let registered = Registered::new(descriptor)?;
        loop {
            let mut guard = Ready(&registered).await?;
            if let Some(event) = self.0.answer()? {
                return Ok(event);
            }
            guard.clear_ready();
        }
    }
}

struct Ready<'a, T: AsRawFd>(&'a Registered<T>);

impl<'a, T: AsRawFd> Future for Ready<'a, T> {
    type Output = Result<AsyncFdReadyGuard<'a, T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let registered = self.0;
        registered.poll_ready(context)
    }
}

impl<T> From<T> for Async<T> {
    fn from(handle: T) -> Async<T> {
        Async(handle)
    }
}

impl<T> Deref for Async<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// An error of the system, or of a runtime that has ended, which has no errno.
fn of_reactor(error: io::Error) -> Error {
    error.raw_os_error().map_or(Error::Cancelled, Error::from_errno)
}
