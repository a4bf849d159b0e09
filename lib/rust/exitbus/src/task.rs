// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks: the named processes of a container, and the order of their lives.
use crate::bus::Bus;
use crate::error::{check, Result};
use crate::handle::{grace_ns, handle, waits};
use crate::sys;
use crate::topic::c_string;
use libc::{c_int, pid_t};
use std::os::unix::io::{AsRawFd, BorrowedFd};
use std::time::Duration;

handle! {
    /// What a container shim keeps of a container: its own process (the leader), execs, and in
    /// which order their lives are told.
    ///
    /// A drop gives up the handle. Nothing is signalled.
    Task, exitbus_task, exitbus_task_ref, exitbus_task_unref
}

handle! {
    /// A named process of a task: reserved first, and later bound to a process.
    ///
    /// The drop of the last handle cancels one that is not started.
    Exec, exitbus_exec, exitbus_exec_ref, exitbus_exec_unref
}
waits!(Exec, exitbus_exec_wait, exitbus_exec_fd);

/// What is killed when the leader dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKill {
    /// Nothing.
    None,
    /// The processes of its execs.
    Members,
    /// All processes of its cgroup.
    Cgroup,
}

/// Options of a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskOptions<'a> {
    /// What is killed when the leader dies.
    pub kill: TaskKill,
    /// The directory of its cgroup v2. Without it no OOM is told.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The leader's exit waits no longer for members; `None`: as long as it takes.
    pub bound: Option<Duration>,
}

impl Default for TaskOptions<'_> {
    fn default() -> Self {
        TaskOptions { kill: TaskKill::None, cgroup: None, bound: None }
    }
}

impl Task {
    /// Make a task.
    pub fn new(bus: &Bus, container_id: &str, options: &TaskOptions<'_>) -> Result<Task> {
        let container_id = c_string(container_id)?;
        let raw = sys::exitbus_task_options {
            kill: match options.kill {
                TaskKill::None => sys::EXITBUS_TASK_KILL_NONE,
                TaskKill::Members => sys::EXITBUS_TASK_KILL_MEMBERS,
                TaskKill::Cgroup => sys::EXITBUS_TASK_KILL_CGROUP,
            },
            flags: options.cgroup.map_or(0, |_| sys::EXITBUS_TASK_CGROUP),
            cgroup_fd: options.cgroup.map_or(0, |cgroup| cgroup.as_raw_fd()),
            bound_ns: options.bound.map_or(0, crate::handle::nanoseconds),
        };
        Task::made_by(bus, |handle| unsafe {
            sys::exitbus_task_create(bus.as_ptr(), container_id.as_ptr(), &raw, handle)
        })
    }

    /// Signal the leader and the processes of all execs (0: none), and send SIGKILL to those that
    /// are left after `grace` (`None`: never).
    pub fn end(&self, signal: c_int, grace: Option<Duration>) -> Result<()> {
        let grace_ns = grace_ns(grace);
        check(unsafe { sys::exitbus_task_end(self.as_ptr(), signal, grace_ns) }).map(drop)
    }

    /// Reserve an exec: from now on the leader's exit waits for it. An empty name is the leader.
    ///
    /// Errors: [`Error::LeaderDied`](crate::Error::LeaderDied) start nothing.
    pub fn reserve(&self, exec_id: &str) -> Result<Exec> {
        let exec_id = c_string(exec_id)?;
        Exec::made_by(&self.bus, |handle| unsafe {
            sys::exitbus_exec_reserve(self.as_ptr(), exec_id.as_ptr(), handle)
        })
    }
}

impl Exec {
    /// Say that it has started, and is the child `pid`.
    pub fn started(&self, pid: pid_t) -> Result<()> {
        self.bind(pid, -1)
    }

    /// Say that it has started, by a pidfd, which may be of a process that is no child.
    pub fn started_pidfd(&self, pidfd: BorrowedFd<'_>) -> Result<()> {
        self.bind(0, pidfd.as_raw_fd())
    }

    /// After [`restarting`](Exec::restarting): say that the same process has started again.
    pub fn restarted(&self) -> Result<()> {
        self.bind(0, -1)
    }

    fn bind(&self, pid: pid_t, pidfd: c_int) -> Result<()> {
        check(unsafe { sys::exitbus_exec_started(self.as_ptr(), pid, pidfd) }).map(drop)
    }

    /// Hold its exit back until it is started again, as between create and start of a container.
    pub fn restarting(&self) -> Result<()> {
        check(unsafe { sys::exitbus_exec_restarting(self.as_ptr()) }).map(drop)
    }

    /// The start has failed: give the reservation back.
    pub fn cancel(&self) -> Result<()> {
        check(unsafe { sys::exitbus_exec_cancel(self.as_ptr()) }).map(drop)
    }

    /// Signal its process, and no other.
    pub fn signal(&self, signal: c_int) -> Result<()> {
        check(unsafe { sys::exitbus_exec_signal(self.as_ptr(), signal) }).map(drop)
    }
}
