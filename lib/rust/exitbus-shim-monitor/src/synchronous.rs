// SPDX-License-Identifier: MIT OR Apache-2.0
//! The face for threads.
use crate::{registry, ExitEvent, Result, Subject, Topic};
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, LockResult};
use std::time::{Duration, Instant};

/// Subscribe: every exit of which the notify begins after this has returned.
pub fn monitor_subscribe(topic: Topic) -> Result<Subscription> {
    let (id, subscription) = registry::subscribe(topic)?;
    Ok(Subscription { id, rx: Receiver { id, subscription } })
}

/// Unsubscribe: from the return on nothing is received. A number that is not open does nothing.
pub fn monitor_unsubscribe(sub_id: i64) -> Result<()> {
    registry::unsubscribe(sub_id)
}

/// Tell that process `pid` has exited.
pub fn monitor_notify_by_pid(pid: i32, exit_code: i32) -> Result<()> {
    registry::notify_by_pid(pid, exit_code)
}

/// Tell that exec `exec_id` of container `id` has exited; empty: the container itself.
pub fn monitor_notify_by_exec(id: &str, exec_id: &str, exit_code: i32) -> Result<()> {
    registry::notify_by_exec(id, exec_id, exit_code)
}

/// Receive until the exit of process `pid` comes, and return its exit code; -1 if the subscription
/// is closed before.
pub fn wait_pid(pid: i32, s: Subscription) -> i32 {
    let exit = s.rx.iter().find(|event| event.subject == Subject::Pid(pid));
    exit.map_or(-1, |event| event.exit_code)
}

/// A subscription. A drop unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    /// Its number, for [`monitor_unsubscribe`].
    pub id: i64,
    /// Where its exits come.
    pub rx: Receiver,
}

/// Where the exits of a subscription come. It has the calls of a channel's receiver, and may be
/// shared by threads, too.
#[derive(Debug)]
pub struct Receiver {
    id: i64,
    subscription: Arc<exitbus::Subscription>,
}

impl Receiver {
    /// The next exit; waits for it.
    pub fn recv(&self) -> std::result::Result<ExitEvent, RecvError> {
        registry::recv(&self.subscription).map_err(|_| RecvError)
    }

    /// The next exit, if there is one.
    pub fn try_recv(&self) -> std::result::Result<ExitEvent, TryRecvError> {
        match registry::try_recv(&self.subscription) {
            Ok(exit) => exit.ok_or(TryRecvError::Empty),
            Err(_) => Err(TryRecvError::Disconnected),
        }
    }

    /// The next exit, if it comes in time.
    pub fn recv_timeout(
        &self,
        timeout: Duration,
    ) -> std::result::Result<ExitEvent, RecvTimeoutError> {
        let begin = Instant::now();
        loop {
            let left = timeout.saturating_sub(begin.elapsed());
            let event = match self.subscription.recv_timeout(left) {
                Ok(Some(event)) => event,
                Ok(None) => return Err(RecvTimeoutError::Timeout),
                Err(_) => return Err(RecvTimeoutError::Disconnected),
            };
            if let Some(exit) = registry::exit_event(&event) {
                return Ok(exit);
            }
        }
    }

    /// The exits, each waited for, until the subscription is closed.
    pub fn iter(&self) -> impl Iterator<Item = ExitEvent> + '_ {
        std::iter::from_fn(move || self.recv().ok())
    }

    /// The exits that are there.
    pub fn try_iter(&self) -> impl Iterator<Item = ExitEvent> + '_ {
        std::iter::from_fn(move || self.try_recv().ok())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        registry::forget(self.id);
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
    /// Never fails, and never waits.
    pub fn lock(&self) -> LockResult<Monitor> {
        Ok(Monitor(()))
    }
}

impl Monitor {
    /// [`monitor_subscribe`]
    pub fn subscribe(&mut self, topic: Topic) -> Result<Subscription> {
        monitor_subscribe(topic)
    }

    /// [`monitor_notify_by_pid`]
    pub fn notify_by_pid(&self, pid: i32, exit_code: i32) -> Result<()> {
        registry::notify_by_pid(pid, exit_code)
    }

    /// [`monitor_notify_by_exec`]
    pub fn notify_by_exec(&self, cid: &str, exec_id: &str, exit_code: i32) -> Result<()> {
        registry::notify_by_exec(cid, exec_id, exit_code)
    }

    /// [`monitor_unsubscribe`]
    pub fn unsubscribe(&mut self, id: i64) -> Result<()> {
        registry::unsubscribe(id)
    }
}
