// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a subscription matches.
use crate::error::{Error, Result};
use crate::sys;
use libc::pid_t;
use std::ffi::CString;

/// What a subscription matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic<'a> {
    /// Every event.
    All,
    /// Every exit of a process.
    AnyPid,
    /// The exit of one process.
    Pid(pid_t),
    /// Every event that has ids.
    AnyExec,
    /// One container's execs, and the container itself.
    Container(&'a str),
    /// One exec of a container; an empty exec id is the container itself.
    Exec(&'a str, &'a str),
}

impl Topic<'_> {
    /// Call `use_it` with the struct of C, whose strings live as long as the call.
    pub(crate) fn with_raw<T>(self, use_it: impl FnOnce(sys::exitbus_topic) -> T) -> Result<T> {
        match self {
            Topic::All => Ok(use_it(unsafe { sys::exitbus_topic_all() })),
            Topic::AnyPid => Ok(use_it(unsafe { sys::exitbus_topic_any_pid() })),
            Topic::Pid(pid) => Ok(use_it(unsafe { sys::exitbus_topic_pid(pid) })),
            Topic::AnyExec => Ok(use_it(unsafe { sys::exitbus_topic_any_exec() })),
            Topic::Container(container_id) => {
                let container_id = c_string(container_id)?;
                Ok(use_it(unsafe { sys::exitbus_topic_container(container_id.as_ptr()) }))
            }
            Topic::Exec(container_id, exec_id) => {
                let (container_id, exec_id) = (c_string(container_id)?, c_string(exec_id)?);
                let topic =
                    unsafe { sys::exitbus_topic_exec(container_id.as_ptr(), exec_id.as_ptr()) };
                Ok(use_it(topic))
            }
        }
    }
}

/// A string for C. Errors: [`Error::InvalidArgument`] for one that holds a NUL.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(text).map_err(|_| Error::InvalidArgument)
}
