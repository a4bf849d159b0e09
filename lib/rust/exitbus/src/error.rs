// SPDX-License-Identifier: MIT OR Apache-2.0
//! What calls fail with.
use crate::sys;
use libc::c_int;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::raw::c_char;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! errors {
    ($($(#[$text:meta])* $name:ident = $errno:ident,)*) => {
        /// Why a call has failed. It had no effect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$text])* $name,)*
            /// Another error of the system: its errno.
            Other(c_int),
        }

        impl Error {
            /// The error of an errno value, which is positive.
            pub fn from_errno(errno: c_int) -> Error {
                match errno {
                    $(libc::$errno => Error::$name,)*
                    errno => Error::Other(errno),
                }
            }

            /// The errno value, positive.
            pub fn errno(self) -> c_int {
                match self {
                    $(Error::$name => libc::$errno,)*
                    Error::Other(errno) => errno,
                }
            }
        }
    };
}

errors! {
    /// An argument is out of range, or holds a NUL. Each call says what else.
    InvalidArgument = EINVAL,
    /// The object was inherited from the parent process by fork.
    Stale = ESTALE,
    /// Closed: by an unsubscribe, or a one-shot has had its event. A group: it was ended.
    Closed = ESHUTDOWN,
    /// No memory. Nothing was done, and nothing is lost: try again later.
    NoMemory = ENOMEM,
    /// Not now. For a bus, reaper or spawn: a thread can't be started.
    TryAgain = EAGAIN,
    /// Not in time.
    TimedOut = ETIMEDOUT,
    /// The call would have to wait inside a read-side section of liburcu.
    WouldDeadlock = EDEADLK,
    /// Another reaper is in the way, or another thread is in this call.
    Busy = EBUSY,
    /// A descriptor is not open, or the host has closed descriptors of the library.
    BadDescriptor = EBADF,
    /// The system does not permit it.
    NotPermitted = EPERM,
    /// 2^47 - 1 events were published: the bus has come to its end.
    Overflow = EOVERFLOW,
    /// There is no such process or group any more, or its exit can't come here.
    NoSuchProcess = ESRCH,
    /// There are no details, or no further exit is in the record.
    NoData = ENODATA,
    /// SIGCHLD is ignored; or the kernel, the mode or the kind can't do this.
    NotSupported = ENOTSUP,
    /// The process has no free descriptor.
    TooManyFiles = EMFILE,
    /// The system has no free descriptor.
    TooManyFilesInSystem = ENFILE,
    /// The user's limit of epoll entries is reached.
    NoSpace = ENOSPC,
    /// The pid is not a child of this process, or it was reaped.
    NotAChild = ECHILD,
    /// A part of the record is damaged: read on.
    Damaged = EBADMSG,
    /// The leader of the task has died: nothing is reserved any more.
    LeaderDied = EOWNERDEAD,
    /// The leader was reserved before; or the descriptor is in this tokio runtime already.
    Exists = EEXIST,
    /// The start of the exec was cancelled: it has no exit.
    Cancelled = ECANCELED,
    /// The exec is bound to a process.
    AlreadyStarted = EALREADY,
    /// An ALL reaper of this process publishes on another bus.
    OtherBus = EXDEV,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(unsafe { sys::exitbus_strerror(self.errno()) }))
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::from_raw_os_error(error.errno())
    }
}

/// A constant text of the library.
pub(crate) fn text(text: *const c_char) -> &'static str {
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("an unknown error")
}

/// The result of a call of C: 0 or more, or a negative errno value.
pub(crate) fn check(result: c_int) -> Result<c_int> {
    if result < 0 {
        return Err(Error::from_errno(-result));
    }
    Ok(result)
}

/// `None` for the error that says so.
pub(crate) fn unless<T>(result: Result<T>, none: Error) -> Result<Option<T>> {
    match result {
        Err(error) if error == none => Ok(None),
        result => result.map(Some),
    }
}
