// SPDX-License-Identifier: MIT OR Apache-2.0
//! Start children.
use crate::bus::Bus;
use crate::error::{check, text, Error, Result};
use crate::process::Process;
use crate::subscription::Subscription;
use crate::sys;
use crate::topic::c_string;
use libc::{c_char, c_int, pid_t};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// A program to start as a child, whose exit can't be missed. It starts with an empty signal mask
/// and default actions.
#[derive(Debug)]
pub struct Command {
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, Option<OsString>>,
    clean: bool,
    directory: Option<OsString>,
    actions: Vec<Action>,
    close_from: Option<RawFd>,
    flags: u32,
    process_group: pid_t,
    set: u32,
    cgroup: Option<OwnedFd>,
    death_signal: c_int,
}

#[derive(Debug)]
enum Action {
    Copy(RawFd, OwnedFd),
    Null(RawFd),
}

/// Why a spawn has failed, and at which step. No child is left.
#[derive(Clone, Copy, Debug)]
pub struct SpawnError(sys::exitbus_spawn_report);

impl SpawnError {
    /// The error.
    pub fn error(&self) -> Error {
        Error::from_errno(-self.0.error)
    }

    /// The step that has failed: one of [`sys`]'s `EXITBUS_SPAWN_STEP_…`.
    pub fn step(&self) -> sys::exitbus_spawn_step {
        self.0.step
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(unsafe { sys::exitbus_spawn_strerror(&self.0) }))
    }
}

impl std::error::Error for SpawnError {}

impl From<SpawnError> for Error {
    fn from(why: SpawnError) -> Error {
        why.error()
    }
}

impl From<SpawnError> for io::Error {
    fn from(why: SpawnError) -> io::Error {
        why.error().into()
    }
}

impl Command {
    /// A program; without a slash in its name it is looked up along PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command {
            arguments: vec![program.as_ref().into()],
            environment: BTreeMap::new(),
            clean: false,
            directory: None,
            actions: Vec::new(),
            close_from: None,
            flags: sys::EXITBUS_SPAWN_SEARCH_PATH,
            process_group: 0,
            set: 0,
            cgroup: None,
            death_signal: 0,
        }
    }

    /// Add an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Command {
        self.arguments.push(argument.as_ref().into());
        self
    }

    /// Add arguments.
    pub fn args<T: AsRef<OsStr>>(&mut self, list: impl IntoIterator<Item = T>) -> &mut Command {
        self.arguments.extend(list.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    /// Set a variable of the environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.environment.insert(name.as_ref().into(), Some(value.as_ref().into()));
        self
    }

    /// Do not pass a variable on.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Command {
        self.environment.insert(name.as_ref().into(), None);
        self
    }

    /// Pass no variable on, and forget those that were set.
    pub fn env_clear(&mut self) -> &mut Command {
        self.environment.clear();
        self.clean = true;
        self
    }

    /// The working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<OsStr>) -> &mut Command {
        self.directory = Some(directory.as_ref().into());
        self
    }

    /// Make the child's descriptor `target` a copy of `source`: 0, 1 and 2 are its standard input,
    /// output and error.
    pub fn fd(&mut self, target: RawFd, source: impl Into<OwnedFd>) -> &mut Command {
        self.actions.push(Action::Copy(target, source.into()));
        self
    }

    /// Make the child's descriptor `target` one of /dev/null.
    pub fn fd_null(&mut self, target: RawFd) -> &mut Command {
        self.actions.push(Action::Null(target));
        self
    }

    /// Close every descriptor of the child from `first` on, when the others are in place.
    pub fn close_from(&mut self, first: RawFd) -> &mut Command {
        self.close_from = Some(first);
        self
    }

    /// Make it the leader of a new session.
    pub fn setsid(&mut self) -> &mut Command {
        self.flags |= sys::EXITBUS_SPAWN_SETSID;
        self
    }

    /// Put it into a process group; 0: its own.
    pub fn process_group(&mut self, group: pid_t) -> &mut Command {
        self.flags |= sys::EXITBUS_SPAWN_SETPGROUP;
        self.process_group = group;
        self
    }

    /// Start it in a cgroup v2, whose directory this is.
    pub fn cgroup(&mut self, directory: impl Into<OwnedFd>) -> &mut Command {
        self.set |= sys::EXITBUS_ATTRIBUTE_CGROUP;
        self.cgroup = Some(directory.into());
        self
    }

    /// The signal that it is sent when the thread that spawns it ends.
    pub fn death_signal(&mut self, signal: c_int) -> &mut Command {
        self.set |= sys::EXITBUS_ATTRIBUTE_DEATH_SIGNAL;
        self.death_signal = signal;
        self
    }

    /// Further flags: [`sys`]'s `EXITBUS_SPAWN_…`. Those that need a member for which there is no
    /// method here are [`Error::InvalidArgument`] when it is spawned.
    pub fn flags(&mut self, flags: u32) -> &mut Command {
        self.flags |= flags;
        self
    }

    /// Start it, with a handle.
    pub fn spawn(&self, bus: &Bus) -> std::result::Result<Process, SpawnError> {
        self.run(|options| {
            Process::made_by(bus, |handle| unsafe {
                sys::exitbus_process_spawn(bus.as_ptr(), options, handle)
            })
        })
    }

    /// Start it, with a one-shot subscription to its exit. Returns its pid, too.
    pub fn spawn_subscribed(
        &self,
        bus: &Bus,
    ) -> std::result::Result<(pid_t, Subscription), SpawnError> {
        self.run(|options| {
            let mut pid = 0;
            let subscription = Subscription::made_by(bus, |handle| {
                check(unsafe { sys::exitbus_spawn(bus.as_ptr(), options, &mut pid, handle) })
                    .map(drop)
            })?;
            Ok((pid, subscription))
        })
    }

    /// Call `spawn` with the struct of C, whose pointers live as long as the call.
    fn run<T>(
        &self,
        spawn: impl FnOnce(&sys::exitbus_spawn_options) -> Result<T>,
    ) -> std::result::Result<T, SpawnError> {
        let mut report: sys::exitbus_spawn_report = unsafe { std::mem::zeroed() };
        let result = self.with_options(&mut report, spawn);
        result.map_err(|error| {
            if report.error == 0 {
                report.step = sys::EXITBUS_SPAWN_STEP_ARGUMENTS;
                report.error = -error.errno();
            }
            SpawnError(report)
        })
    }

    fn with_options<T>(
        &self,
        report: &mut sys::exitbus_spawn_report,
        spawn: impl FnOnce(&sys::exitbus_spawn_options) -> Result<T>,
    ) -> Result<T> {
        let arguments = c_strings(self.arguments.iter().map(|argument| argument.as_bytes()))?;
        let environment = self.environment()?;
        let directory =
            self.directory.as_ref().map(|path| c_string(path.as_bytes())).transpose()?;
        let (argv, envp) = (pointers(&arguments), environment.as_deref().map(pointers));
        let aside = self.sources_aside()?;
        let actions = self.raw_actions(&aside);
        let mut attributes: sys::exitbus_spawn_attributes = unsafe { std::mem::zeroed() };
        attributes.set = self.set;
        attributes.death_signal = self.death_signal;
        attributes.cgroup_fd = self.cgroup.as_ref().map_or(0, AsRawFd::as_raw_fd);

        let members = sys::EXITBUS_SPAWN_SIGMASK | sys::EXITBUS_SPAWN_SIGDEFAULT;
        if self.flags & members != 0 {
            return Err(Error::InvalidArgument);
        }
        spawn(&sys::exitbus_spawn_options {
            path: ptr::null(),
            argv: argv.as_ptr(),
            envp: envp.as_ref().map_or(ptr::null(), |list| list.as_ptr()),
            directory: directory.as_ref().map_or(ptr::null(), |path| path.as_ptr()),
            actions: actions.as_ptr(),
            action_count: actions.len(),
            flags: self.flags | sys::EXITBUS_SPAWN_ATTRIBUTES,
            process_group: self.process_group,
            signal_mask: ptr::null(),
            signal_default: ptr::null(),
            report,
            attributes: &attributes,
        })
    }

    /// Copies of the sources that have the number of a target, which an action would replace.
    fn sources_aside(&self) -> Result<BTreeMap<RawFd, OwnedFd>> {
        let targets: Vec<RawFd> = self.actions.iter().map(Action::target).collect();
        let above = targets.iter().max().map_or(0, |most| most.saturating_add(1));
        let mut aside = BTreeMap::new();
        for action in &self.actions {
            let number = match action {
                Action::Copy(_, source) => source.as_raw_fd(),
                Action::Null(_) => continue,
            };
            if targets.contains(&number) {
                let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, above) };
                if copy < 0 {
                    let errno = io::Error::last_os_error().raw_os_error();
                    return Err(Error::from_errno(errno.unwrap_or(libc::EBADF)));
                }
                aside.insert(number, unsafe { OwnedFd::from_raw_fd(copy) });
            }
        }
        Ok(aside)
    }

    fn raw_actions(&self, aside: &BTreeMap<RawFd, OwnedFd>) -> Vec<sys::exitbus_spawn_action> {
        let raw = |kind, fd, source_fd| {
            let path = ptr::null();
            sys::exitbus_spawn_action { kind, fd, source_fd, path, open_flags: 0, mode: 0 }
        };
        let actions = self.actions.iter().map(|action| match action {
            Action::Copy(target, source) => {
                let source = aside.get(&source.as_raw_fd()).unwrap_or(source);
                raw(sys::EXITBUS_SPAWN_DUP2, *target, source.as_raw_fd())
            }
            Action::Null(target) => raw(sys::EXITBUS_SPAWN_NULL, *target, 0),
        });
        let last = self.close_from.map(|first| raw(sys::EXITBUS_SPAWN_CLOSE_FROM, first, 0));
        actions.chain(last).collect()
    }

    /// The variables, if they are not those of the caller.
    fn environment(&self) -> Result<Option<Vec<CString>>> {
        if self.environment.is_empty() && !self.clean {
            return Ok(None);
        }
        let inherited = if self.clean { None } else { Some(std::env::vars_os()) };
        let mut all: BTreeMap<OsString, OsString> = inherited.into_iter().flatten().collect();
        for (name, value) in &self.environment {
            match value {
                Some(value) => all.insert(name.clone(), value.clone()),
                None => all.remove(name),
            };
        }
        c_strings(all.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name.into_vec()
        }))
        .map(Some)
    }
}

impl Action {
    fn target(&self) -> RawFd {
        match self {
            Action::Copy(target, _) | Action::Null(target) => *target,
        }
    }
}

fn c_strings<T: Into<Vec<u8>>>(list: impl Iterator<Item = T>) -> Result<Vec<CString>> {
    list.map(c_string).collect()
}

/// A list for C: ends with NULL, and lives as long as its strings.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    let list = strings.iter().map(|string| string.as_ptr() as *mut c_char);
    list.chain([ptr::null_mut()]).collect()
}
