// SPDX-License-Identifier: MIT OR Apache-2.0
//! exitbus-stress/subject.h, which documents all of this, in Rust.
#![allow(dead_code)] // a subject need not use all of it

use std::os::raw::{c_char, c_int, c_void};

pub const ABI: u32 = 2;
pub const G1: u32 = 1 << 0;
pub const G2: u32 = 1 << 1;
pub const G3: u32 = 1 << 2;
pub const PRODUCER_FIFO: u32 = 1 << 9;
pub const WAITS: u32 = 1 << 0;
pub const TOPICS_ALL: u32 = 0x7e;

pub const EAGAIN: isize = 11;
pub const ESHUTDOWN: isize = 108;
pub const ETIMEDOUT: isize = 110;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    pub seq: u64,
    pub pid: i32,
    pub kind: u8,
    pub container: u8,
    pub exec: u8,
    pub reserved: u8,
    pub status: i32,
    pub producer: u32,
    pub number: u64,
    pub begin_ns: u64,
    pub collected_ns: u64,
    pub pattern: u64,
    pub checksum: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Topic {
    pub kind: i32,
    pub pid: i32,
    pub container: u8,
    pub exec: u8,
}

#[repr(C)]
pub struct Host {
    pub allocate: extern "C" fn(usize, usize) -> *mut c_void,
    pub release: extern "C" fn(*mut c_void, usize),
    pub pack: extern "C" fn(*const Event) -> *mut c_void,
    pub unpack: extern "C" fn(*const c_void, *mut Event),
}

pub type Bus = *mut c_void;
pub type Handle = *mut c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stats {
    pub subscriptions: u64,
    pub helped: u64,
    pub bytes: u64,
}

#[repr(C)]
pub struct Subject {
    pub abi: u32,
    pub claims: u32,
    pub features: u32,
    pub topics: u32,
    pub subscriptions_max: u32,
    pub batch_max: u32,
    pub name: *const c_char,
    pub summary: *const c_char,
    pub create: extern "C" fn(*const Host, *mut *mut c_void) -> c_int,
    pub destroy: extern "C" fn(*mut c_void) -> c_int,
    pub publish: extern "C" fn(*mut c_void, *const Event, usize, *mut u64) -> c_int,
    pub subscribe: extern "C" fn(*mut c_void, *const Topic, u32, *mut *mut c_void) -> c_int,
    pub unsubscribe: extern "C" fn(*mut c_void) -> c_int,
    pub receive: extern "C" fn(*mut c_void, *mut Event, usize, i64) -> isize,
    // All that follow are optional: None, or see subject.h.
    pub add_ref: Option<extern "C" fn(Handle) -> c_int>,
    pub drop_ref: Option<extern "C" fn(Handle) -> c_int>,
    pub fd: Option<extern "C" fn(Handle) -> c_int>,
    pub pending: Option<extern "C" fn(Handle) -> isize>,
    pub reaper_start: Option<extern "C" fn(Bus) -> c_int>,
    pub reaper_stop: Option<extern "C" fn(Bus) -> c_int>,
    pub spawn: Option<extern "C" fn(Bus, *const *mut c_char, *mut i32, *mut Handle) -> c_int>,
    pub stats: Option<extern "C" fn(Bus, *mut Stats) -> c_int>,
    pub misuse: Option<extern "C" fn(Bus, u32, *mut *const c_char) -> c_int>,
    pub forked: Option<extern "C" fn(Bus, Handle) -> c_int>,
    pub set_step: Option<extern "C" fn(Option<extern "C" fn(u32)>)>,
    pub explain: Option<extern "C" fn(Bus, *mut c_char, usize)>,
    pub task_create: Option<extern "C" fn(Bus, u8, *mut Handle) -> c_int>,
    pub task_release: Option<extern "C" fn(Handle) -> c_int>,
    pub exec_reserve: Option<extern "C" fn(Handle, u8, *mut Handle) -> c_int>,
    pub exec_started: Option<extern "C" fn(Handle, i32) -> c_int>,
    pub exec_cancel: Option<extern "C" fn(Handle) -> c_int>,
    pub exec_wait: Option<extern "C" fn(Handle, *mut c_int, i64) -> c_int>,
    pub exec_release: Option<extern "C" fn(Handle) -> c_int>,
    pub process_adopt: Option<extern "C" fn(Bus, i32, *mut Handle) -> c_int>,
    pub process_signal: Option<extern "C" fn(Handle, c_int) -> c_int>,
    pub process_wait: Option<extern "C" fn(Handle, *mut c_int, i64) -> c_int>,
    pub process_release: Option<extern "C" fn(Handle) -> c_int>,
    pub group_create: Option<extern "C" fn(Bus, *mut Handle) -> c_int>,
    pub group_add: Option<extern "C" fn(Handle, Handle) -> c_int>,
    pub group_end: Option<extern "C" fn(Handle, c_int, i64) -> c_int>,
    pub group_wait: Option<extern "C" fn(Handle, i64) -> c_int>,
    pub group_release: Option<extern "C" fn(Handle) -> c_int>,
}

// The pointers are to constants.
unsafe impl Sync for Subject {}

impl Subject {
    /// What every subject has, and nothing optional: name the rest before `..Subject::required(…)`.
    pub const fn required(
        create: extern "C" fn(*const Host, *mut *mut c_void) -> c_int,
        destroy: extern "C" fn(*mut c_void) -> c_int,
        publish: extern "C" fn(*mut c_void, *const Event, usize, *mut u64) -> c_int,
        subscribe: extern "C" fn(*mut c_void, *const Topic, u32, *mut *mut c_void) -> c_int,
        unsubscribe: extern "C" fn(*mut c_void) -> c_int,
        receive: extern "C" fn(*mut c_void, *mut Event, usize, i64) -> isize,
    ) -> Subject {
        Subject {
            abi: ABI,
            claims: 0,
            features: 0,
            topics: 0,
            subscriptions_max: 0,
            batch_max: 1,
            name: std::ptr::null(),
            summary: std::ptr::null(),
            create,
            destroy,
            publish,
            subscribe,
            unsubscribe,
            receive,
            add_ref: None,
            drop_ref: None,
            fd: None,
            pending: None,
            reaper_start: None,
            reaper_stop: None,
            spawn: None,
            stats: None,
            misuse: None,
            forked: None,
            set_step: None,
            explain: None,
            task_create: None,
            task_release: None,
            exec_reserve: None,
            exec_started: None,
            exec_cancel: None,
            exec_wait: None,
            exec_release: None,
            process_adopt: None,
            process_signal: None,
            process_wait: None,
            process_release: None,
            group_create: None,
            group_add: None,
            group_end: None,
            group_wait: None,
            group_release: None,
        }
    }
}

impl Topic {
    pub fn matches(&self, event: &Event) -> bool {
        let (pid, exec) = (event.kind == 1, matches!(event.kind, 2 | 4 | 5));
        match self.kind {
            1 => true,
            2 => pid,
            3 => pid && event.pid == self.pid,
            4 => exec,
            5 => exec && event.container == self.container,
            _ => exec && event.container == self.container && event.exec == self.exec,
        }
    }
}
