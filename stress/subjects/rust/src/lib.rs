// SPDX-License-Identifier: MIT OR Apache-2.0
//! A template: a subject for exitbus-stress in Rust. The bus here is what container shims do: a
//! `std::sync::mpsc` channel for each subscription, in a list behind a `Mutex` that is held while
//! an event is sent to all of them. Put your own monitor in its place.

mod subject;

use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::Mutex;
use std::time::Duration;
use subject::*;

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

/// A handle. It lives as long as there is a reference, be it closed or not.
struct Subscription {
    id: u64,
    monitor: *const Monitor,
    receiver: Receiver<Event>,
    closed: AtomicBool,
    references: AtomicUsize,
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
        Subscription {
            id,
            monitor: self,
            receiver,
            closed: AtomicBool::new(false),
            references: AtomicUsize::new(1),
        }
    }

    fn unsubscribe(&self, id: u64) {
        self.state.lock().unwrap().subscribers.retain(|s| s.id != id);
    }
}

// ------------------------------------------------------------------------------- the C functions

extern "C" fn create(_host: *const Host, bus: *mut *mut c_void) -> c_int {
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
    let ours = unsafe { &*subscription.cast::<Subscription>() };
    unsafe { (*ours.monitor).unsubscribe(ours.id) };
    ours.closed.store(true, Release);
    drop_ref(subscription)
}

extern "C" fn add_ref(subscription: *mut c_void) -> c_int {
    unsafe { (*subscription.cast::<Subscription>()).references.fetch_add(1, Relaxed) };
    0
}

extern "C" fn drop_ref(subscription: *mut c_void) -> c_int {
    let subscription = subscription.cast::<Subscription>();
    if unsafe { (*subscription).references.fetch_sub(1, AcqRel) } == 1 {
        drop(unsafe { Box::from_raw(subscription) });
    }
    0
}

extern "C" fn receive(
    subscription: *mut c_void,
    events: *mut Event,
    _capacity: usize,
    timeout_ns: i64,
) -> isize {
    let ours = unsafe { &*subscription.cast::<Subscription>() };
    if ours.closed.load(Acquire) {
        return -ESHUTDOWN;
    }
    let receiver = &ours.receiver;
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
    claims: G1 | G2 | PRODUCER_FIFO | G3,
    features: WAITS,
    topics: TOPICS_ALL,
    name: b"rust\0".as_ptr() as *const c_char,
    summary: b"std::sync::mpsc behind a Mutex, as in Rust's shims\0".as_ptr() as *const c_char,
    add_ref: Some(add_ref),
    drop_ref: Some(drop_ref),
    ..Subject::required(create, destroy, publish, subscribe, unsubscribe, receive)
};
