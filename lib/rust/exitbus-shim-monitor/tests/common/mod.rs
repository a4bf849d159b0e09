// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both faces by one interface, so each test is one for both. They share the process-wide bus, so
//! a test that runs has it alone.
#![allow(dead_code)] // not every suite calls everything
use exitbus_shim_monitor::{synchronous, ExitEvent, Result, Topic};
use std::sync::{Mutex, MutexGuard};

/// A face of the monitor.
pub trait Face: 'static {
    type Subscription: Send + 'static;

    fn subscribe(topic: Topic) -> Result<Self::Subscription>;
    fn unsubscribe(id: i64) -> Result<()>;
    fn id(subscription: &Self::Subscription) -> i64;
    /// Wait for the next; `None`: closed.
    fn recv(subscription: &mut Self::Subscription) -> Option<ExitEvent>;
    /// `Ok(None)`: none is there. `Err`: closed.
    fn try_recv(
        subscription: &mut Self::Subscription,
    ) -> std::result::Result<Option<ExitEvent>, ()>;
    fn notify_by_pid(pid: i32, exit_code: i32) -> Result<()>;
    fn notify_by_exec(id: &str, exec_id: &str, exit_code: i32) -> Result<()>;
    fn wait_pid(pid: i32, subscription: Self::Subscription) -> i32;
}

pub struct OfThreads;

impl Face for OfThreads {
    type Subscription = synchronous::Subscription;

    fn subscribe(topic: Topic) -> Result<Self::Subscription> {
        synchronous::monitor_subscribe(topic)
    }

    fn unsubscribe(id: i64) -> Result<()> {
        synchronous::monitor_unsubscribe(id)
    }

    fn id(subscription: &Self::Subscription) -> i64 {
        subscription.id
    }

    fn recv(subscription: &mut Self::Subscription) -> Option<ExitEvent> {
        subscription.rx.recv().ok()
    }

    fn try_recv(
        subscription: &mut Self::Subscription,
    ) -> std::result::Result<Option<ExitEvent>, ()> {
        use std::sync::mpsc::TryRecvError;
        match subscription.rx.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }

    fn notify_by_pid(pid: i32, exit_code: i32) -> Result<()> {
        synchronous::monitor_notify_by_pid(pid, exit_code)
    }

    fn notify_by_exec(id: &str, exec_id: &str, exit_code: i32) -> Result<()> {
        synchronous::monitor_notify_by_exec(id, exec_id, exit_code)
    }

    fn wait_pid(pid: i32, subscription: Self::Subscription) -> i32 {
        synchronous::wait_pid(pid, subscription)
    }
}

#[cfg(feature = "async")]
pub struct OfTokio;

/// One runtime for all tests of a suite.
#[cfg(feature = "async")]
pub fn runtime() -> &'static tokio::runtime::Runtime {
    use tokio::runtime::{Builder, Runtime};
    static RUNTIME: Mutex<Option<&'static Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap();
    runtime.get_or_insert_with(|| {
        Box::leak(Box::new(
            Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
        ))
    })
}

#[cfg(feature = "async")]
impl Face for OfTokio {
    type Subscription = exitbus_shim_monitor::asynchronous::Subscription;

    fn subscribe(topic: Topic) -> Result<Self::Subscription> {
        runtime().block_on(exitbus_shim_monitor::asynchronous::monitor_subscribe(topic))
    }

    fn unsubscribe(id: i64) -> Result<()> {
        runtime().block_on(exitbus_shim_monitor::asynchronous::monitor_unsubscribe(id))
    }

    fn id(subscription: &Self::Subscription) -> i64 {
        subscription.id
    }

    fn recv(subscription: &mut Self::Subscription) -> Option<ExitEvent> {
        runtime().block_on(subscription.rx.recv())
    }

    fn try_recv(
        subscription: &mut Self::Subscription,
    ) -> std::result::Result<Option<ExitEvent>, ()> {
        use tokio::sync::mpsc::error::TryRecvError;
        match subscription.rx.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }

    fn notify_by_pid(pid: i32, exit_code: i32) -> Result<()> {
        runtime()
            .block_on(exitbus_shim_monitor::asynchronous::monitor_notify_by_pid(pid, exit_code))
    }

    fn notify_by_exec(id: &str, exec_id: &str, exit_code: i32) -> Result<()> {
        use exitbus_shim_monitor::asynchronous::monitor_notify_by_exec;
        runtime().block_on(monitor_notify_by_exec(id, exec_id, exit_code))
    }

    fn wait_pid(pid: i32, subscription: Self::Subscription) -> i32 {
        runtime().block_on(exitbus_shim_monitor::asynchronous::wait_pid(pid, subscription))
    }
}

pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A test for each face: `fn NAME<F: Face>()` becomes `threads::NAME` and `tokio::NAME`.
#[macro_export]
macro_rules! for_each_face {
    ($($name:ident),* $(,)?) => {
        mod threads {
            $(#[test]
            fn $name() {
                let _alone = $crate::common::alone();
                super::$name::<$crate::common::OfThreads>();
            })*
        }

        #[cfg(feature = "async")]
        mod tokio {
            $(#[test]
            fn $name() {
                let _alone = $crate::common::alone();
                super::$name::<$crate::common::OfTokio>();
            })*
        }
    };
}

/// All that is there.
pub fn drain<F: Face>(subscription: &mut F::Subscription) -> Vec<ExitEvent> {
    std::iter::from_fn(|| F::try_recv(subscription).expect("open")).collect()
}

/// EXITBUS_LONG=1: ten times as many.
pub fn scaled(count: i32) -> i32 {
    if std::env::var_os("EXITBUS_LONG").is_some() {
        10 * count
    } else {
        count
    }
}
