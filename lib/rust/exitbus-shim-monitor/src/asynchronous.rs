// SPDX-License-Identifier: MIT OR Apache-2.0
//! The face for tokio. Its runtime needs I/O enabled. Feature `async`.
use crate::{registry, ExitEvent, Result, Subject, Topic};
use exitbus::tokio::Events;
use exitbus::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc::error::TryRecvError;

/// Subscribe: every exit of which the notify begins after this has returned.
pub async fn monitor_subscribe(topic: Topic) -> Result<Subscription> {
    subscribe(topic)
}

/// Unsubscribe: from the return on nothing is received. A number that is not open does nothing.
pub async fn monitor_unsubscribe(sub_id: i64) -> Result<()> {
    registry::unsubscribe(sub_id)
}

/// Tell that process `pid` has exited. Is ready at once: nobody is waited for.
pub async fn monitor_notify_by_pid(pid: i32, exit_code: i32) -> Result<()> {
    registry::notify_by_pid(pid, exit_code)
}

/// Tell that exec `exec_id` of container `id` has exited; empty: the container itself. Is ready at
/// once.
pub async fn monitor_notify_by_exec(id: &str, exec_id: &str, exit_code: i32) -> Result<()> {
    registry::notify_by_exec(id, exec_id, exit_code)
}

/// Receive until the exit of process `pid` comes, and return its exit code; -1 if the subscription
/// is closed before.
pub async fn wait_pid(pid: i32, mut s: Subscription) -> i32 {
    while let Some(event) = s.rx.recv().await {
        if event.subject == Subject::Pid(pid) {
            return event.exit_code;
        }
    }
    -1
}

fn subscribe(topic: Topic) -> Result<Subscription> {
    let (id, subscription) = registry::subscribe(topic)?;
    let rx = Receiver { id, subscription, events: None };
    // Where there is none, it is said here: a receive could not.
    rx.subscription.fd()?;
    Ok(Subscription { id, rx })
}

/// A subscription. A drop of its receiver unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    /// Its number, for [`monitor_unsubscribe`].
    pub id: i64,
    /// Where its exits come.
    pub rx: Receiver,
}

/// Where the exits of a subscription come. It has the calls of a channel's receiver.
#[derive(Debug)]
pub struct Receiver {
    id: i64,
    /// Made by the first receive in a runtime, and again if that has ended. Dropped first.
    events: Option<Events>,
    subscription: Arc<exitbus::Subscription>,
}

impl Receiver {
    /// The next exit, or `None` when the subscription is closed. A wait that is dropped loses
    /// nothing. Panics outside of a runtime with I/O.
    pub async fn recv(&mut self) -> Option<ExitEvent> {
        Receive(self).await
    }

    /// As [`recv`](Receiver::recv), for a future by hand.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<ExitEvent>> {
        loop {
            match self.poll_event(context) {
                Poll::Ready(Some(Ok(event))) => {
                    if let Some(exit) = registry::exit_event(&event) {
                        return Poll::Ready(Some(exit));
                    }
                }
                // No memory, here or in the reactor. Nothing is lost: try again at the next turn.
                Poll::Ready(Some(Err(Error::NoMemory | Error::NoSpace))) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<exitbus::Result<exitbus::Event>>> {
        if let Some(events) = &mut self.events {
            let item = events.poll_recv(context);
            if !matches!(item, Poll::Ready(Some(Err(Error::Cancelled)))) {
                return item;
            }
            self.events = None; // its runtime has ended
        }
        match Events::new(Arc::clone(&self.subscription)) {
            Ok(events) => self.events.insert(events).poll_recv(context),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// The next exit, if there is one.
    pub fn try_recv(&mut self) -> std::result::Result<ExitEvent, TryRecvError> {
        match registry::try_recv(&self.subscription) {
            Ok(exit) => exit.ok_or(TryRecvError::Empty),
            Err(_) => Err(TryRecvError::Disconnected),
        }
    }

    /// The next exit, for a thread that is in no runtime.
    pub fn blocking_recv(&mut self) -> Option<ExitEvent> {
        registry::recv(&self.subscription).ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        registry::forget(self.id);
    }
}

struct Receive<'a>(&'a mut Receiver);

impl Future for Receive<'_> {
    type Output = Option<ExitEvent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ExitEvent>> {
        self.0.poll_recv(context)
    }
}

/// The monitor of the process. A lock of it locks nothing: it is there for code that takes one.
pub static MONITOR: Lock = Lock(());

/// See [`MONITOR`].
#[derive(Debug)]
pub struct Lock(());

/// The monitor, as a value.
#[derive(Debug)]
pub struct Monitor(());

impl Lock {
    /// Is ready at once.
    pub async fn lock(&self) -> Monitor {
        Monitor(())
    }
}

impl Monitor {
    /// [`monitor_subscribe`]
    pub fn subscribe(&mut self, topic: Topic) -> Result<Subscription> {
        subscribe(topic)
    }

    /// [`monitor_notify_by_pid`]
    pub async fn notify_by_pid(&self, pid: i32, exit_code: i32) -> Result<()> {
        registry::notify_by_pid(pid, exit_code)
    }

    /// [`monitor_notify_by_exec`]
    pub async fn notify_by_exec(&self, cid: &str, exec_id: &str, exit_code: i32) -> Result<()> {
        registry::notify_by_exec(cid, exec_id, exit_code)
    }

    /// [`monitor_unsubscribe`]
    pub fn unsubscribe(&mut self, id: i64) -> Result<()> {
        registry::unsubscribe(id)
    }
}
