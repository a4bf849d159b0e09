// SPDX-License-Identifier: MIT OR Apache-2.0
//! A template: a subject for exitbus-stress whose bus is asynchronous. As in Rust's container shims,
//! a `tokio::sync::mpsc` channel for each subscription is in a list behind a `tokio::sync::Mutex`,
//! and everything that waits is `async`. The runtime belongs to the bus; each function of the table
//! calls `block_on`. Put your own monitor in the place of this one.

#[path = "../../rust/src/subject.rs"]
mod subject;

use std::cell::UnsafeCell;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;
use subject::*;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{error::TryRecvError, unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::Mutex;
use tokio::time::timeout;

// --------------------------------------------------------------------------------- the monitor

struct Subscriber {
    id: u64,
    topic: Topic,
    sender: UnboundedSender<Event>,
}

#[derive(Default)]
struct Monitor {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seq: u64,
    next_id: u64,
    subscribers: Vec<Subscriber>,
}

impl Monitor {
    async fn publish(&self, mut event: Event) -> u64 {
        let mut state = self.state.lock().await;
        state.seq += 1;
        event.seq = state.seq;
        for subscriber in &state.subscribers {
            if subscriber.topic.matches(&event) {
                let _ = subscriber.sender.send(event);
            }
        }
        state.seq
    }

    async fn subscribe(&self, topic: Topic) -> (u64, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        let mut state = self.state.lock().await;
        state.next_id += 1;
        let id = state.next_id;
        state.subscribers.push(Subscriber { id, topic, sender });
        (id, receiver)
    }

    async fn unsubscribe(&self, id: u64) {
        self.state.lock().await.subscribers.retain(|s| s.id != id);
    }
}

// ------------------------------------------------------------------------------- the C functions

struct AsyncBus {
    runtime: Runtime,
    monitor: Monitor,
}

/// A handle. It lives as long as there is a reference, be it closed or not.
struct Subscription {
    bus: *const AsyncBus,
    id: u64,
    receiver: UnsafeCell<UnboundedReceiver<Event>>, // one thread receives at a time: not SHARED
    closed: AtomicBool,
    references: AtomicUsize,
}

fn bus_of<'a>(bus: *mut c_void) -> &'a AsyncBus {
    unsafe { &*bus.cast::<AsyncBus>() }
}

fn handle_of<'a>(subscription: *mut c_void) -> &'a Subscription {
    unsafe { &*subscription.cast::<Subscription>() }
}

extern "C" fn create(_host: *const Host, bus: *mut *mut c_void) -> c_int {
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return -error.raw_os_error().unwrap_or(11),
    };
    let made = Box::new(AsyncBus { runtime, monitor: Monitor::default() });
    unsafe { *bus = Box::into_raw(made).cast() };
    0
}

extern "C" fn destroy(bus: *mut c_void) -> c_int {
    drop(unsafe { Box::from_raw(bus.cast::<AsyncBus>()) });
    0
}

extern "C" fn publish(bus: *mut c_void, event: *const Event, _count: usize, seq: *mut u64) -> c_int {
    let bus = bus_of(bus);
    unsafe { *seq = bus.runtime.block_on(bus.monitor.publish(*event)) };
    0
}

extern "C" fn subscribe(
    bus: *mut c_void,
    topic: *const Topic,
    _flags: u32,
    subscription: *mut *mut c_void,
) -> c_int {
    let bus = bus_of(bus);
    let (id, receiver) = bus.runtime.block_on(bus.monitor.subscribe(unsafe { *topic }));
    let made = Box::new(Subscription {
        bus,
        id,
        receiver: UnsafeCell::new(receiver),
        closed: AtomicBool::new(false),
        references: AtomicUsize::new(1),
    });
    unsafe { *subscription = Box::into_raw(made).cast() };
    0
}

extern "C" fn unsubscribe(subscription: *mut c_void) -> c_int {
    let ours = handle_of(subscription);
    let bus = unsafe { &*ours.bus };
    bus.runtime.block_on(bus.monitor.unsubscribe(ours.id));
    ours.closed.store(true, Release);
    drop_ref(subscription)
}

extern "C" fn add_ref(subscription: *mut c_void) -> c_int {
    handle_of(subscription).references.fetch_add(1, Relaxed);
    0
}

extern "C" fn drop_ref(subscription: *mut c_void) -> c_int {
    if handle_of(subscription).references.fetch_sub(1, AcqRel) == 1 {
        drop(unsafe { Box::from_raw(subscription.cast::<Subscription>()) });
    }
    0
}

extern "C" fn receive(
    subscription: *mut c_void,
    events: *mut Event,
    _capacity: usize,
    timeout_ns: i64,
) -> isize {
    let ours = handle_of(subscription);
    if ours.closed.load(Acquire) {
        return -ESHUTDOWN;
    }
    let receiver = unsafe { &mut *ours.receiver.get() };
    let runtime = unsafe { &(*ours.bus).runtime };
    let result = if timeout_ns == 0 {
        receiver.try_recv().map_err(|e| match e {
            TryRecvError::Empty => -EAGAIN,
            TryRecvError::Disconnected => -ESHUTDOWN,
        })
    } else if timeout_ns < 0 {
        runtime.block_on(receiver.recv()).ok_or(-ESHUTDOWN)
    } else {
        let patience = Duration::from_nanos(timeout_ns as u64);
        match runtime.block_on(async { timeout(patience, receiver.recv()).await }) {
            Ok(event) => event.ok_or(-ESHUTDOWN),
            Err(_) => Err(-ETIMEDOUT),
        }
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
    claims: G1 | G2 | PRODUCER_FIFO | G3,
    features: WAITS,
    topics: TOPICS_ALL,
    name: b"tokio\0".as_ptr() as *const c_char,
    summary: b"tokio::sync::mpsc behind an async Mutex, by block_on\0".as_ptr() as *const c_char,
    add_ref: Some(add_ref),
    drop_ref: Some(drop_ref),
    ..Subject::required(create, destroy, publish, subscribe, unsubscribe, receive)
};
