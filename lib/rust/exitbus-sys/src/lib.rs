// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls, structs and constants of `<exitbus/exitbus.h>`, as they are there. What each means,
//! from where it may be called and what it returns is said in the header. The crate `exitbus` is
//! the safe way to the same.
//!
//! The header has no inline functions, and its macros are constants: all of it is here. A test
//! compares each name, type, size, offset and value with the header.
#![allow(non_camel_case_types)]

use libc::{gid_t, mode_t, pid_t, rusage, sigset_t, uid_t};
use std::os::raw::{c_char, c_int, c_uint, c_void};

/// A type of which the library gives out pointers alone.
macro_rules! opaque {
    ($($name:ident),*) => {$(
        #[repr(C)]
        pub struct $name {
            _bytes: [u8; 0],
            _marker: core::marker::PhantomData<(*mut u8, core::marker::PhantomPinned)>,
        }
    )*};
}

opaque!(
    exitbus,
    exitbus_subscription,
    exitbus_reaper,
    exitbus_process,
    exitbus_group,
    exitbus_task,
    exitbus_exec
);

pub const EXITBUS_VERSION_MAJOR: c_int = 0;
pub const EXITBUS_VERSION_MINOR: c_int = 1;
pub const EXITBUS_VERSION_PATCH: c_int = 0;
pub const EXITBUS_ID_MAX: usize = 127;
pub const EXITBUS_BATCH_MAX: usize = 64;
pub const EXITBUS_EVENT_CORE_DUMPED: u32 = 0x01;
pub const EXITBUS_EVENT_STATUS_LOST: u32 = 0x02;
pub const EXITBUS_EVENT_CUT_SHORT: u32 = 0x04;
pub const EXITBUS_EVENT_DETAILS: u32 = 0x08;
pub const EXITBUS_SUBSCRIBE_ONE_SHOT: u32 = 0x01;
pub const EXITBUS_SUBSCRIBE_STICKY: u32 = 0x02;
pub const EXITBUS_REAPER_SUBREAPER: u32 = 0x01;
pub const EXITBUS_REAPER_POLLED: u32 = 0x02;
pub const EXITBUS_REAPER_SIGNALFD: u32 = 0x04;
pub const EXITBUS_REAPER_ORPHANS: u32 = 0x08;
pub const EXITBUS_REAPER_DETAILS: u32 = 0x10;
pub const EXITBUS_REAPER_RECORD: u32 = 0x20;
pub const EXITBUS_SPAWN_SEARCH_PATH: u32 = 0x01;
pub const EXITBUS_SPAWN_SETSID: u32 = 0x02;
pub const EXITBUS_SPAWN_SETPGROUP: u32 = 0x04;
pub const EXITBUS_SPAWN_SIGMASK: u32 = 0x08;
pub const EXITBUS_SPAWN_SIGDEFAULT: u32 = 0x10;
pub const EXITBUS_SPAWN_INHERIT_SIGMASK: u32 = 0x20;
pub const EXITBUS_SPAWN_INHERIT_IGNORED: u32 = 0x40;
pub const EXITBUS_SPAWN_ATTRIBUTES: u32 = 0x80;
pub const EXITBUS_SPAWN_NO_NEW_PRIVS: u32 = 0x100;
pub const EXITBUS_SPAWN_CHILD_PATH: u32 = 0x200;
pub const EXITBUS_SPAWN_SHELL: u32 = 0x400;
pub const EXITBUS_SPAWN_DIRECT: u32 = 0x800;
pub const EXITBUS_ATTRIBUTE_UID: u32 = 0x01;
pub const EXITBUS_ATTRIBUTE_GID: u32 = 0x02;
pub const EXITBUS_ATTRIBUTE_GROUPS: u32 = 0x04;
pub const EXITBUS_ATTRIBUTE_UMASK: u32 = 0x08;
pub const EXITBUS_ATTRIBUTE_NICE: u32 = 0x10;
pub const EXITBUS_ATTRIBUTE_SCHEDULER: u32 = 0x20;
pub const EXITBUS_ATTRIBUTE_CPUS: u32 = 0x40;
pub const EXITBUS_ATTRIBUTE_LIMITS: u32 = 0x80;
pub const EXITBUS_ATTRIBUTE_DEATH_SIGNAL: u32 = 0x100;
pub const EXITBUS_ATTRIBUTE_CGROUP: u32 = 0x200;
pub const EXITBUS_ATTRIBUTE_NAMESPACES: u32 = 0x400;
pub const EXITBUS_ATTRIBUTE_ROOT: u32 = 0x800;
pub const EXITBUS_ATTRIBUTE_TERMINAL: u32 = 0x1000;
pub const EXITBUS_ATTRIBUTE_FOREGROUND: u32 = 0x2000;
pub const EXITBUS_ATTRIBUTE_PROGRAM_FD: u32 = 0x4000;
pub const EXITBUS_ATTRIBUTE_PIDFD: u32 = 0x8000;
pub const EXITBUS_SIGNAL_GROUP: u32 = 0x01;
pub const EXITBUS_TASK_CGROUP: u32 = 0x01;

pub type exitbus_event_kind = c_uint;
pub const EXITBUS_EVENT_PID: exitbus_event_kind = 1;
pub const EXITBUS_EVENT_EXEC: exitbus_event_kind = 2;
pub const EXITBUS_EVENT_EMPTY: exitbus_event_kind = 3;
pub const EXITBUS_EVENT_STARTED: exitbus_event_kind = 4;
pub const EXITBUS_EVENT_LEADER_DIED: exitbus_event_kind = 5;
pub const EXITBUS_EVENT_OOM: exitbus_event_kind = 6;

pub type exitbus_topic_kind = c_uint;
pub const EXITBUS_TOPIC_ALL: exitbus_topic_kind = 1;
pub const EXITBUS_TOPIC_ANY_PID: exitbus_topic_kind = 2;
pub const EXITBUS_TOPIC_PID: exitbus_topic_kind = 3;
pub const EXITBUS_TOPIC_ANY_EXEC: exitbus_topic_kind = 4;
pub const EXITBUS_TOPIC_CONTAINER: exitbus_topic_kind = 5;
pub const EXITBUS_TOPIC_EXEC: exitbus_topic_kind = 6;

pub type exitbus_reaper_mode = c_uint;
pub const EXITBUS_REAPER_ALL: exitbus_reaper_mode = 1;
pub const EXITBUS_REAPER_WATCHED: exitbus_reaper_mode = 2;

pub type exitbus_spawn_action_kind = c_uint;
pub const EXITBUS_SPAWN_OPEN: exitbus_spawn_action_kind = 1;
pub const EXITBUS_SPAWN_DUP2: exitbus_spawn_action_kind = 2;
pub const EXITBUS_SPAWN_CLOSE: exitbus_spawn_action_kind = 3;
pub const EXITBUS_SPAWN_CHDIR: exitbus_spawn_action_kind = 4;
pub const EXITBUS_SPAWN_FCHDIR: exitbus_spawn_action_kind = 5;
pub const EXITBUS_SPAWN_CLOSE_FROM: exitbus_spawn_action_kind = 6;
pub const EXITBUS_SPAWN_NULL: exitbus_spawn_action_kind = 7;

pub type exitbus_spawn_step = c_uint;
pub const EXITBUS_SPAWN_STEP_NONE: exitbus_spawn_step = 0;
pub const EXITBUS_SPAWN_STEP_ARGUMENTS: exitbus_spawn_step = 1;
pub const EXITBUS_SPAWN_STEP_REAPER: exitbus_spawn_step = 2;
pub const EXITBUS_SPAWN_STEP_SUBSCRIPTION: exitbus_spawn_step = 3;
pub const EXITBUS_SPAWN_STEP_PROCESS: exitbus_spawn_step = 4;
pub const EXITBUS_SPAWN_STEP_SIGNALS: exitbus_spawn_step = 5;
pub const EXITBUS_SPAWN_STEP_SESSION: exitbus_spawn_step = 6;
pub const EXITBUS_SPAWN_STEP_PROCESS_GROUP: exitbus_spawn_step = 7;
pub const EXITBUS_SPAWN_STEP_DIRECTORY: exitbus_spawn_step = 8;
pub const EXITBUS_SPAWN_STEP_ACTION: exitbus_spawn_step = 9;
pub const EXITBUS_SPAWN_STEP_EXEC: exitbus_spawn_step = 10;
pub const EXITBUS_SPAWN_STEP_NAMESPACES: exitbus_spawn_step = 11;
pub const EXITBUS_SPAWN_STEP_TERMINAL: exitbus_spawn_step = 12;
pub const EXITBUS_SPAWN_STEP_CGROUP: exitbus_spawn_step = 13;
pub const EXITBUS_SPAWN_STEP_ROOT: exitbus_spawn_step = 14;
pub const EXITBUS_SPAWN_STEP_LIMIT: exitbus_spawn_step = 15;
pub const EXITBUS_SPAWN_STEP_NICE: exitbus_spawn_step = 16;
pub const EXITBUS_SPAWN_STEP_SCHEDULER: exitbus_spawn_step = 17;
pub const EXITBUS_SPAWN_STEP_CPUS: exitbus_spawn_step = 18;
pub const EXITBUS_SPAWN_STEP_GROUPS: exitbus_spawn_step = 19;
pub const EXITBUS_SPAWN_STEP_GID: exitbus_spawn_step = 20;
pub const EXITBUS_SPAWN_STEP_UID: exitbus_spawn_step = 21;
pub const EXITBUS_SPAWN_STEP_NO_NEW_PRIVS: exitbus_spawn_step = 22;
pub const EXITBUS_SPAWN_STEP_DEATH_SIGNAL: exitbus_spawn_step = 23;

pub type exitbus_group_kind = c_uint;
pub const EXITBUS_GROUP_SET: exitbus_group_kind = 1;
pub const EXITBUS_GROUP_PROCESSES: exitbus_group_kind = 2;
pub const EXITBUS_GROUP_CGROUP: exitbus_group_kind = 3;

pub type exitbus_task_kill = c_uint;
pub const EXITBUS_TASK_KILL_NONE: exitbus_task_kill = 0;
pub const EXITBUS_TASK_KILL_MEMBERS: exitbus_task_kill = 1;
pub const EXITBUS_TASK_KILL_CGROUP: exitbus_task_kill = 2;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_event {
    pub seq: u64,
    pub pid: i32,
    pub kind: u8,
    pub flags: u8,
    pub container_id_size: u8,
    pub exec_id_size: u8,
    pub status: i32,
    pub exit_code: i32,
    pub monotonic_ns: u64,
    pub realtime_ns: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    pub container_id: [c_char; EXITBUS_ID_MAX + 1],
    pub exec_id: [c_char; EXITBUS_ID_MAX + 1],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_event_details {
    pub start_ns: u64,
    pub inode: u64,
    pub comm: [c_char; 16],
    pub reserved: [u64; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_allocator {
    pub allocate: Option<
        unsafe extern "C" fn(context: *mut c_void, size: usize, alignment: usize) -> *mut c_void,
    >,
    pub release:
        Option<unsafe extern "C" fn(context: *mut c_void, memory: *mut c_void, size: usize)>,
    pub context: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_options {
    pub flags: u32,
    pub allocator: *const exitbus_allocator,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_stats {
    pub published: u64,
    pub delivered: u64,
    pub dropped: u64,
    pub subscriptions: u64,
    pub bytes: u64,
    pub helped: u64,
    pub sleeping_receivers: u64,
    pub reserved: [u64; 9],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_topic {
    pub kind: exitbus_topic_kind,
    pub pid: pid_t,
    pub container_id: *const c_char,
    pub exec_id: *const c_char,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_reaper_options {
    pub mode: exitbus_reaper_mode,
    pub flags: u32,
    pub record_fd: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_spawn_action {
    pub kind: exitbus_spawn_action_kind,
    pub fd: c_int,
    pub source_fd: c_int,
    pub path: *const c_char,
    pub open_flags: c_int,
    pub mode: mode_t,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_spawn_report {
    pub step: exitbus_spawn_step,
    pub error: c_int,
    pub index: usize,
    pub reserved: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_spawn_limit {
    pub resource: c_int,
    pub soft: u64,
    pub hard: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_spawn_attributes {
    pub set: u32,
    pub uid: uid_t,
    pub gid: gid_t,
    pub groups: *const gid_t,
    pub group_count: usize,
    pub umask: mode_t,
    pub nice: c_int,
    pub scheduler: c_int,
    pub scheduler_priority: c_int,
    pub cpus: *const c_void,
    pub cpus_size: usize,
    pub limits: *const exitbus_spawn_limit,
    pub limit_count: usize,
    pub death_signal: c_int,
    pub cgroup_fd: c_int,
    pub namespaces: u64,
    pub root: *const c_char,
    pub terminal_fd: c_int,
    pub program_fd: c_int,
    pub pidfd: *mut c_int,
    pub reserved: [u64; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_spawn_options {
    pub path: *const c_char,
    pub argv: *const *mut c_char,
    pub envp: *const *mut c_char,
    pub directory: *const c_char,
    pub actions: *const exitbus_spawn_action,
    pub action_count: usize,
    pub flags: u32,
    pub process_group: pid_t,
    pub signal_mask: *const sigset_t,
    pub signal_default: *const sigset_t,
    pub report: *mut exitbus_spawn_report,
    pub attributes: *const exitbus_spawn_attributes,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_group_options {
    pub kind: exitbus_group_kind,
    pub flags: u32,
    pub name: *const c_char,
    pub leader: *mut exitbus_process,
    pub cgroup_fd: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct exitbus_task_options {
    pub kill: exitbus_task_kill,
    pub flags: u32,
    pub cgroup_fd: c_int,
    pub bound_ns: i64,
}

extern "C" {
    pub fn exitbus_version() -> *const c_char;
    pub fn exitbus_strerror(error: c_int) -> *const c_char;
    pub fn exitbus_event_details(
        event: *const exitbus_event,
        details: *mut exitbus_event_details,
    ) -> c_int;
    pub fn exitbus_create(bus: *mut *mut exitbus, options: *const exitbus_options) -> c_int;
    pub fn exitbus_destroy(bus: *mut exitbus) -> c_int;
    pub fn exitbus_default() -> *mut exitbus;
    pub fn exitbus_stats(bus: *mut exitbus, stats: *mut exitbus_stats) -> c_int;
    pub fn exitbus_thread_prepare() -> c_int;
    pub fn exitbus_publish(bus: *mut exitbus, event: *const exitbus_event, seq: *mut u64) -> c_int;
    pub fn exitbus_publish_pid(bus: *mut exitbus, pid: pid_t, exit_code: c_int) -> c_int;
    pub fn exitbus_publish_exec(
        bus: *mut exitbus,
        container_id: *const c_char,
        exec_id: *const c_char,
        exit_code: c_int,
    ) -> c_int;
    pub fn exitbus_publish_wait(
        bus: *mut exitbus,
        pid: pid_t,
        wait_status: c_int,
        usage: *const rusage,
    ) -> c_int;
    pub fn exitbus_publish_batch(
        bus: *mut exitbus,
        events: *const exitbus_event,
        count: usize,
        first_seq: *mut u64,
    ) -> c_int;
    pub fn exitbus_topic_all() -> exitbus_topic;
    pub fn exitbus_topic_any_pid() -> exitbus_topic;
    pub fn exitbus_topic_pid(pid: pid_t) -> exitbus_topic;
    pub fn exitbus_topic_any_exec() -> exitbus_topic;
    pub fn exitbus_topic_container(container_id: *const c_char) -> exitbus_topic;
    pub fn exitbus_topic_exec(container_id: *const c_char, exec_id: *const c_char)
        -> exitbus_topic;
    pub fn exitbus_subscribe(
        bus: *mut exitbus,
        topic: exitbus_topic,
        flags: u32,
        subscription: *mut *mut exitbus_subscription,
    ) -> c_int;
    pub fn exitbus_unsubscribe(subscription: *mut exitbus_subscription) -> c_int;
    pub fn exitbus_subscription_ref(subscription: *mut exitbus_subscription) -> c_int;
    pub fn exitbus_subscription_unref(subscription: *mut exitbus_subscription) -> c_int;
    pub fn exitbus_receive(
        subscription: *mut exitbus_subscription,
        event: *mut exitbus_event,
        timeout_ns: i64,
    ) -> c_int;
    pub fn exitbus_receive_batch(
        subscription: *mut exitbus_subscription,
        events: *mut exitbus_event,
        capacity: usize,
        timeout_ns: i64,
    ) -> isize;
    pub fn exitbus_receive_pid(
        subscription: *mut exitbus_subscription,
        pid: pid_t,
        event: *mut exitbus_event,
        discarded: *mut u64,
        timeout_ns: i64,
    ) -> c_int;
    pub fn exitbus_subscription_fd(subscription: *mut exitbus_subscription) -> c_int;
    pub fn exitbus_subscription_pending(subscription: *mut exitbus_subscription) -> isize;
    pub fn exitbus_reaper_start(
        bus: *mut exitbus,
        options: *const exitbus_reaper_options,
        reaper: *mut *mut exitbus_reaper,
    ) -> c_int;
    pub fn exitbus_reaper_stop(reaper: *mut exitbus_reaper) -> c_int;
    pub fn exitbus_reaper_watch(reaper: *mut exitbus_reaper, pid: pid_t) -> c_int;
    pub fn exitbus_reaper_record(reaper: *mut exitbus_reaper, record_fd: c_int) -> c_int;
    pub fn exitbus_reaper_fd(reaper: *mut exitbus_reaper) -> c_int;
    pub fn exitbus_reaper_poll(reaper: *mut exitbus_reaper) -> c_int;
    pub fn exitbus_record_read(fd: c_int, offset: *mut u64, event: *mut exitbus_event) -> c_int;
    pub fn exitbus_spawn(
        bus: *mut exitbus,
        options: *const exitbus_spawn_options,
        pid: *mut pid_t,
        subscription: *mut *mut exitbus_subscription,
    ) -> c_int;
    pub fn exitbus_spawn_strerror(report: *const exitbus_spawn_report) -> *const c_char;
    pub fn exitbus_process_spawn(
        bus: *mut exitbus,
        options: *const exitbus_spawn_options,
        process: *mut *mut exitbus_process,
    ) -> c_int;
    pub fn exitbus_process_adopt(
        bus: *mut exitbus,
        pid: pid_t,
        flags: u32,
        process: *mut *mut exitbus_process,
    ) -> c_int;
    pub fn exitbus_process_adopt_pidfd(
        bus: *mut exitbus,
        pidfd: c_int,
        flags: u32,
        process: *mut *mut exitbus_process,
    ) -> c_int;
    pub fn exitbus_process_wait(
        process: *mut exitbus_process,
        event: *mut exitbus_event,
        timeout_ns: i64,
    ) -> c_int;
    pub fn exitbus_process_fd(process: *mut exitbus_process) -> c_int;
    pub fn exitbus_process_signal(
        process: *mut exitbus_process,
        signal: c_int,
        flags: u32,
    ) -> c_int;
    pub fn exitbus_process_pid(process: *mut exitbus_process) -> pid_t;
    pub fn exitbus_process_pidfd(process: *mut exitbus_process) -> c_int;
    pub fn exitbus_process_start_time(
        process: *mut exitbus_process,
        boottime_ns: *mut u64,
    ) -> c_int;
    pub fn exitbus_process_ref(process: *mut exitbus_process) -> c_int;
    pub fn exitbus_process_unref(process: *mut exitbus_process) -> c_int;
    pub fn exitbus_group_create(
        bus: *mut exitbus,
        options: *const exitbus_group_options,
        group: *mut *mut exitbus_group,
    ) -> c_int;
    pub fn exitbus_group_add(group: *mut exitbus_group, process: *mut exitbus_process) -> c_int;
    pub fn exitbus_group_end(group: *mut exitbus_group, signal: c_int, grace_ns: i64) -> c_int;
    pub fn exitbus_group_wait(
        group: *mut exitbus_group,
        event: *mut exitbus_event,
        timeout_ns: i64,
    ) -> c_int;
    pub fn exitbus_group_fd(group: *mut exitbus_group) -> c_int;
    pub fn exitbus_group_ref(group: *mut exitbus_group) -> c_int;
    pub fn exitbus_group_unref(group: *mut exitbus_group) -> c_int;
    pub fn exitbus_task_create(
        bus: *mut exitbus,
        container_id: *const c_char,
        options: *const exitbus_task_options,
        task: *mut *mut exitbus_task,
    ) -> c_int;
    pub fn exitbus_task_end(task: *mut exitbus_task, signal: c_int, grace_ns: i64) -> c_int;
    pub fn exitbus_task_ref(task: *mut exitbus_task) -> c_int;
    pub fn exitbus_task_unref(task: *mut exitbus_task) -> c_int;
    pub fn exitbus_exec_reserve(
        task: *mut exitbus_task,
        exec_id: *const c_char,
        exec: *mut *mut exitbus_exec,
    ) -> c_int;
    pub fn exitbus_exec_started(exec: *mut exitbus_exec, pid: pid_t, pidfd: c_int) -> c_int;
    pub fn exitbus_exec_restarting(exec: *mut exitbus_exec) -> c_int;
    pub fn exitbus_exec_cancel(exec: *mut exitbus_exec) -> c_int;
    pub fn exitbus_exec_wait(
        exec: *mut exitbus_exec,
        event: *mut exitbus_event,
        timeout_ns: i64,
    ) -> c_int;
    pub fn exitbus_exec_fd(exec: *mut exitbus_exec) -> c_int;
    pub fn exitbus_exec_signal(exec: *mut exitbus_exec, signal: c_int) -> c_int;
    pub fn exitbus_exec_ref(exec: *mut exitbus_exec) -> c_int;
    pub fn exitbus_exec_unref(exec: *mut exitbus_exec) -> c_int;
}
