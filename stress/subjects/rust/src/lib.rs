// SPDX-License-Identifier: MIT OR Apache-2.0
//! A template: a subject for exitbus-stress in Rust. The bus here is what container shims do: a
//! `std::sync::mpsc` channel for each subscription, in a list behind a `Mutex` that is held while
//! an event is sent to all of them. Put your own monitor in its place.

use std::os::raw::{c_char, c_int, c_void};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::Mutex;
use std::time::Duration;

// ---------------------------------------------------------------- exitbus-stress/subject.h

const ABI: u32 = 1;
const G1: u32 = 1 << 0;
const G2: u32 = 1 << 1;
const G3: u32 = 1 << 2;
const PRODUCER_FIFO: u32 = 1 << 9;
const WAITS: u32 = 1 << 0;
const TOPICS_ALL: u32 = 0x7e;

const EAGAIN: isize = 11;
const ESHUTDOWN: isize = 108;
const ETIMEDOUT: isize = 110;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    seq: u64,
    pid: i32,
    kind: u8,
    container: u8,
    exec: u8,
    reserved: u8,
    status: i32,
    producer: u32,
    number: u64,
    begin_ns: u64,
    collected_ns: u64,
    pattern: u64,
    checksum: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Topic {
    kind: i32,
    pid: i32,
    container: u8,
    exec: u8,
}

type Unused = Option<extern "C" fn()>;

#[repr(C)]
pub struct Subject {
    abi: u32,
    claims: u32,
    features: u32,
    topics: u32,
    subscriptions_max: u32,
    batch_max: u32,
    name: *const c_char,
    summary: *const c_char,
    create: extern "C" fn(*const c_void, *mut *mut c_void) -> c_int,
    destroy: extern "C" fn(*mut c_void) -> c_int,
    publish: extern "C" fn(*mut c_void, *const Event, usize, *mut u64) -> c_int,
    subscribe: extern "C" fn(*mut c_void, *const Topic, u32, *mut *mut c_void) -> c_int,
    unsubscribe: extern "C" fn(*mut c_void) -> c_int,
    receive: extern "C" fn(*mut c_void, *mut Event, usize, i64) -> isize,
    optional: [Unused; 12],
}

// The pointers are to constants.
unsafe impl Sync for Subject {}

impl Topic {
    fn matches(&self, event: &Event) -> bool {
        let (pid, exec) = (event.kind == 1, event.kind == 2);
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

// --------------------------------------------------------------------------------- the monitor

struct Subscriber {
    id: u64,
    topic: Topic,
    sender: Sender<Event>,
}

#[derive(Default)]
struct State {
    seq: u64,
    next_id: u64,
    subscribers: Vec<Subscriber>,
}

#[derive(Default)]
struct Monitor {
    state: Mutex<State>,
}

struct Subscription {
    id: u64,
    monitor: *const Monitor,
    receiver: Receiver<Event>,
}

impl Monitor {
    fn publish(&self, mut event: Event) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.seq += 1;
        event.seq = state.seq;
        for subscriber in &state.subscribers {
            if subscriber.topic.matches(&event) {
                let _ = subscriber.sender.send(event);
            }
        }
        state.seq
    }

    fn subscribe(&self, topic: Topic) -> Subscription {
        let (sender, receiver) = channel();
        let mut state = self.state.lock().unwrap();
        state.next_id += 1;
        let id = state.next_id;
        state.subscribers.push(Subscriber { id, topic, sender });
        Subscription { id, monitor: self, receiver }
    }

    fn unsubscribe(&self, id: u64) {
        self.state.lock().unwrap().subscribers.retain(|s| s.id != id);
    }
}

// ------------------------------------------------------------------------------- the C functions

extern "C" fn create(_host: *const c_void, bus: *mut *mut c_void) -> c_int {
    unsafe { *bus = Box::into_raw(Box::<Monitor>::default()).cast() };
    0
}

extern "C" fn destroy(bus: *mut c_void) -> c_int {
    drop(unsafe { Box::from_raw(bus.cast::<Monitor>()) });
    0
}

extern "C" fn publish(bus: *mut c_void, event: *const Event, _count: usize, seq: *mut u64) -> c_int {
    unsafe { *seq = (*bus.cast::<Monitor>()).publish(*event) };
    0
}

extern "C" fn subscribe(
    bus: *mut c_void,
    topic: *const Topic,
    _flags: u32,
    subscription: *mut *mut c_void,
) -> c_int {
    let made = unsafe { (*bus.cast::<Monitor>()).subscribe(*topic) };
    unsafe { *subscription = Box::into_raw(Box::new(made)).cast() };
    0
}

extern "C" fn unsubscribe(subscription: *mut c_void) -> c_int {
    let subscription = unsafe { Box::from_raw(subscription.cast::<Subscription>()) };
    unsafe { (*subscription.monitor).unsubscribe(subscription.id) };
    0
}

extern "C" fn receive(
    subscription: *mut c_void,
    events: *mut Event,
    _capacity: usize,
    timeout_ns: i64,
) -> isize {
    let receiver = unsafe { &(*subscription.cast::<Subscription>()).receiver };
    let result = if timeout_ns == 0 {
        receiver.try_recv().map_err(|e| match e {
            TryRecvError::Empty => -EAGAIN,
            TryRecvError::Disconnected => -ESHUTDOWN,
        })
    } else if timeout_ns < 0 {
        receiver.recv().map_err(|_| -ESHUTDOWN)
    } else {
        receiver.recv_timeout(Duration::from_nanos(timeout_ns as u64)).map_err(|e| match e {
            RecvTimeoutError::Timeout => -ETIMEDOUT,
            RecvTimeoutError::Disconnected => -ESHUTDOWN,
        })
    };
    match result {
        Ok(event) => {
            unsafe { *events = event };
            1
        }
        Err(error) => error,
    }
}

#[no_mangle]
pub static exitbus_stress_subject: Subject = Subject {
    abi: ABI,
    claims: G1 | G2 | PRODUCER_FIFO | G3,
    features: WAITS,
    topics: TOPICS_ALL,
    subscriptions_max: 0,
    batch_max: 1,
    name: b"rust\0".as_ptr() as *const c_char,
    summary: b"std::sync::mpsc behind a Mutex, as in Rust's shims\0".as_ptr() as *const c_char,
    create,
    destroy,
    publish,
    subscribe,
    unsubscribe,
    receive,
    optional: [None; 12],
};
