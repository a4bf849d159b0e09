// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups of processes that end together.
use crate::bus::Bus;
use crate::error::{check, Result};
use crate::handle::{grace_ns, handle, waits};
use crate::process::Process;
use crate::sys;
use crate::topic::c_string;
use libc::c_int;
use std::os::unix::io::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

handle! {
    /// Several processes that end together. Its event has the group's name as container id.
    ///
    /// A drop gives up the handle. A group that was ended goes on to end.
    Group, exitbus_group, exitbus_group_ref, exitbus_group_unref
}
waits!(Group, exitbus_group_wait, exitbus_group_fd);

impl Group {
    /// The processes that [`add`](Group::add) adds.
    pub fn set(bus: &Bus, name: &str) -> Result<Group> {
        Group::create(bus, name, sys::EXITBUS_GROUP_SET, ptr::null_mut(), 0)
    }

    /// The process group that `leader` leads. Needs Linux 6.9.
    pub fn processes(bus: &Bus, name: &str, leader: &Process) -> Result<Group> {
        Group::create(bus, name, sys::EXITBUS_GROUP_PROCESSES, leader.as_ptr(), 0)
    }

    /// All processes of a cgroup v2, whose directory this is, and of those below it.
    pub fn cgroup(bus: &Bus, name: &str, directory: BorrowedFd<'_>) -> Result<Group> {
        let directory = directory.as_raw_fd();
        Group::create(bus, name, sys::EXITBUS_GROUP_CGROUP, ptr::null_mut(), directory)
    }

    fn create(
        bus: &Bus,
        name: &str,
        kind: sys::exitbus_group_kind,
        leader: *mut sys::exitbus_process,
        cgroup_fd: c_int,
    ) -> Result<Group> {
        let name = c_string(name)?;
        let name = name.as_ptr();
        let options = sys::exitbus_group_options { kind, flags: 0, name, leader, cgroup_fd };
        Group::made_by(bus, |handle| unsafe {
            sys::exitbus_group_create(bus.as_ptr(), &options, handle)
        })
    }

    /// Add a process of the same bus to a set.
    pub fn add(&self, process: &Process) -> Result<()> {
        check(unsafe { sys::exitbus_group_add(self.as_ptr(), process.as_ptr()) }).map(drop)
    }

    /// End it: send `signal` to all (0: none), and SIGKILL to those that are left after `grace`
    /// (`None`: never).
    pub fn end(&self, signal: c_int, grace: Option<Duration>) -> Result<()> {
        let grace_ns = grace_ns(grace);
        check(unsafe { sys::exitbus_group_end(self.as_ptr(), signal, grace_ns) }).map(drop)
    }
}
