// SPDX-License-Identifier: MIT OR Apache-2.0
//! What both faces share: subscriptions by number, and the way to the bus.
use crate::{ExitEvent, Result, Subject, Topic};
use exitbus::{Bus, Error, Event, EventKind, Subscription};
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// The open subscriptions of one process. Their receivers own them.
struct Registry {
    process: u32,
    open: Mutex<HashMap<i64, Weak<Subscription>>>,
}

static NEXT_ID: AtomicI64 = AtomicI64::new(0);
static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(ptr::null_mut());

/// The list of this process. A forked child makes one of its own: in the one that it has inherited
/// the lock may be held by a thread that it does not have.
fn open() -> MutexGuard<'static, HashMap<i64, Weak<Subscription>>> {
    let process = std::process::id();
    let mut current = REGISTRY.load(Ordering::Acquire);
    loop {
        // Never freed, so the reference stays valid. One is leaked for each fork that uses it.
        match unsafe { current.as_ref() } {
            Some(registry) if registry.process == process => {
                return registry.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            _ => {}
        }
        let new = Box::into_raw(Box::new(Registry { process, open: Mutex::default() }));
        match REGISTRY.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => current = new,
            Err(faster) => {
                drop(unsafe { Box::from_raw(new) }); // which nobody has seen
                current = faster;
            }
        }
    }
}

pub(crate) fn subscribe(topic: Topic) -> Result<(i64, Arc<Subscription>)> {
    let topic = match topic {
        Topic::Pid => exitbus::Topic::AnyPid,
        Topic::Exec => exitbus::Topic::AnyExec,
        Topic::All => exitbus::Topic::All,
    };
    let subscription = Arc::new(Bus::process_wide()?.subscribe(topic)?);
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    open().insert(id, Arc::downgrade(&subscription));
    Ok((id, subscription))
}

/// Close the subscription of that number, if there is one.
pub(crate) fn unsubscribe(id: i64) -> Result<()> {
    let subscription = open().remove(&id);
    subscription.and_then(|weak| weak.upgrade()).map_or(Ok(()), |subscription| subscription.close())
}

/// The receiver of that number is dropped, and its subscription with it.
pub(crate) fn forget(id: i64) {
    open().remove(&id);
}

pub(crate) fn notify_by_pid(pid: i32, exit_code: i32) -> Result<()> {
    Bus::process_wide()?.publish_pid(pid, exit_code)
}

pub(crate) fn notify_by_exec(id: &str, exec_id: &str, exit_code: i32) -> Result<()> {
    Bus::process_wide()?.publish_exec(id, exec_id, exit_code)
}

/// The next exit; waits for it.
pub(crate) fn recv(subscription: &Subscription) -> Result<ExitEvent> {
    loop {
        if let Some(exit) = exit_event(&subscription.recv()?) {
            return Ok(exit);
        }
    }
}

/// The next exit, if there is one. What lacks memory is not there yet.
pub(crate) fn try_recv(subscription: &Subscription) -> Result<Option<ExitEvent>> {
    loop {
        let event = match subscription.try_recv() {
            Ok(Some(event)) => event,
            Ok(None) | Err(Error::NoMemory) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(exit) = exit_event(&event) {
            return Ok(Some(exit));
        }
    }
}

/// The exit that `event` tells of, if it is one.
pub(crate) fn exit_event(event: &Event) -> Option<ExitEvent> {
    let subject = match event.kind() {
        EventKind::Pid => Subject::Pid(event.pid()),
        EventKind::Exec => {
            let container = event.container_id().to_string_lossy().into_owned();
            Subject::Exec(container, event.exec_id().to_string_lossy().into_owned())
        }
        _ => return None,
    };
    Some(ExitEvent { subject, exit_code: event.exit_code().unwrap_or(-1) })
}
