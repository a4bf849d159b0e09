// SPDX-License-Identifier: MIT OR Apache-2.0
//! A drop-in for the `monitor` module of containerd's shim crate for Rust: the same names and
//! signatures, on the process-wide bus of exitbus. A monitor tells its subscribers of exits.
//!
//! Without a feature the names at the top of the crate are those of [`synchronous`]; with the
//! feature `async` those of [`asynchronous`], which is for tokio.
//!
//! What is other than with a list of channels behind a lock:
//!
//! - A notify takes no lock and waits for nobody. It fails for a pid that is not positive, and for
//!   ids that are too long, hold a NUL, or name no container.
//! - After an unsubscribe nothing is received any more, also of what was there before.
//! - An event of which nobody has a subscription costs nothing; one that many have is kept once.
//! - Events of others on the process-wide bus are received, too: a reaper may replace the loop that
//!   waits for children and notifies.
//! - A forked child has a monitor of its own. What it has inherited is closed.
#![warn(missing_docs)]

#[cfg(feature = "async")]
pub mod asynchronous;
mod registry;
pub mod synchronous;

#[cfg(feature = "async")]
pub use asynchronous::*;
pub use exitbus::{Error, Result};
#[cfg(not(feature = "async"))]
pub use synchronous::*;

use std::fmt;

/// What a subscription is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Exits of processes.
    Pid,
    /// Exits of execs, and of containers.
    Exec,
    /// Both.
    All,
}

/// What has exited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A process.
    Pid(i32),
    /// An exec: container id and exec id. An empty exec id is the container itself.
    Exec(String, String),
}

/// An exit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExitEvent {
    /// What has exited.
    pub subject: Subject,
    /// Its exit code; -1 if another waiter took it.
    pub exit_code: i32,
}

impl fmt::Display for ExitEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Pid(pid) => write!(f, "process {pid}")?,
            Subject::Exec(container, exec) if exec.is_empty() => {
                write!(f, "container {container}")?
            }
            Subject::Exec(container, exec) => write!(f, "exec {exec} of container {container}")?,
        }
        write!(f, " has exited with {}", self.exit_code)
    }
}

/// The block in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
