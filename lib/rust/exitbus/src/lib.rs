// SPDX-License-Identifier: MIT OR Apache-2.0
//! exitbus: a lock-free bus for process-exit events. Publishers, or a reaper, put exits on a
//! [`Bus`]. Every [`Subscription`] whose [`Topic`] matches receives each once, in one order.
//!
//! ```
//! use exitbus::{Bus, Topic};
//!
//! let bus = Bus::new()?;
//! let exits = bus.subscribe(Topic::AnyPid)?;
//! bus.publish_pid(4711, 3)?;
//! let event = exits.recv()?;
//! assert_eq!((event.pid(), event.exit_code()), (4711, Some(3)));
//! # Ok::<(), exitbus::Error>(())
//! ```
//!
//! Who owns what:
//!
//! - A bus lives as long as a [`Bus`], or what was made of it: subscriptions, reapers, handles of
//!   processes, groups and tasks. They may be dropped in any order, on any thread.
//! - A drop of a [`Subscription`] unsubscribes. [`Subscription::close`] does so while others
//!   receive: they get [`Error::Closed`].
//! - In a forked child every call on what its parent has made says [`Error::Stale`], and a drop
//!   does nothing. What the child makes itself works.
//!
//! What a call does, its cost and its errors are said in `<exitbus/exitbus.h>`, under the name of
//! the C function. Options for which there is no method here are in [`sys`].
#![warn(missing_docs)]

mod bus;
mod error;
mod event;
mod group;
mod handle;
mod process;
mod reaper;
mod spawn;
mod subscription;
mod task;
#[cfg(feature = "tokio")]
pub mod tokio;
mod topic;

pub use bus::{prepare_thread, Bus, Stats};
pub use error::{Error, Result};
pub use event::{Details, Event, EventKind};
pub use exitbus_sys as sys;
pub use group::Group;
pub use process::Process;
pub use reaper::{read_record, Reaper, ReaperOptions};
pub use spawn::{Command, SpawnError};
pub use subscription::{Iter, Subscription};
pub use task::{Exec, Task, TaskKill, TaskOptions};
pub use topic::Topic;

/// The version of the library in use, "MAJOR.MINOR.PATCH".
pub fn version() -> &'static str {
    error::text(unsafe { sys::exitbus_version() })
}

/// The blocks of Rust in the documents compile and run.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../../../../docs/guide.md")]
    struct Guide;
}
