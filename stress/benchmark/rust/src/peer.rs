// SPDX-License-Identifier: MIT OR Apache-2.0
//! peers.h in Rust, and what peers/fan.h is for queues in C: a bus made of channels.

use std::arch::asm;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_uint, c_void};
use std::sync::Mutex;

pub const FIFO: c_uint = 1 << 0;
pub const ONE_CONSUMER: c_uint = 1 << 2;
pub const BOUNDED: c_uint = 1 << 3;

const RECEIVE_BATCH: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    number: u64,
    payload: [u64; 7],
}

#[repr(C)]
pub struct Shape {
    pub subscriptions: c_uint,
    pub producers: c_uint,
    pub consumers: c_uint,
    pub pending: usize,
    pub grows: bool,
    pub one_pid: bool,
}

#[repr(C)]
pub struct Peer {
    name: *const c_char,
    what: *const c_char,
    features: c_uint,
    create: extern "C" fn(*const Shape) -> *mut c_void,
    destroy: extern "C" fn(*mut c_void),
    producer: extern "C" fn(*mut c_void) -> *mut c_void,
    producer_end: extern "C" fn(*mut c_void),
    consumer: extern "C" fn(*mut c_void) -> *mut c_void,
    consumer_end: extern "C" fn(*mut c_void),
    publish: extern "C" fn(*mut c_void, u64, c_uint),
    receive: extern "C" fn(*mut c_void, c_uint, c_uint, *mut u64) -> c_uint,
    wait: Option<extern "C" fn(*mut c_void, c_uint)>,
    churn: Option<extern "C" fn(*mut c_void, c_uint)>,
}

// The pointers are to constants.
unsafe impl Sync for Peer {}

/// A kind of channel. `open` gives what is sent on, for one event all of them, and a receiver for
/// each subscription.
pub trait Channel: Sized {
    type Sender: Clone;
    type Receiver;
    fn open(shape: &Shape) -> (Vec<Self::Sender>, Vec<Self::Receiver>);
    /// Another consumer's end, or the only one (ONE_CONSUMER).
    fn share(receiver: &mut Option<Self::Receiver>) -> Self::Receiver;
    fn put(sender: &Self::Sender, event: Event);
    fn take(receiver: &mut Self::Receiver) -> Option<Event>;
}

/// One that a thread can sleep on.
pub trait Waiting: Channel {
    fn wait(receiver: &mut Self::Receiver) -> Event;
}

struct Bus<C: Channel> {
    senders: Vec<C::Sender>,
    receivers: Mutex<Vec<Option<C::Receiver>>>,
}

struct Consumer<C: Channel> {
    receivers: Vec<C::Receiver>,
    events: [MaybeUninit<Event>; RECEIVE_BATCH],
}

extern "C" fn create<C: Channel>(shape: *const Shape) -> *mut c_void {
    let (senders, receivers) = C::open(unsafe { &*shape });
    let receivers = Mutex::new(receivers.into_iter().map(Some).collect());
    Box::into_raw(Box::new(Bus::<C> { senders, receivers })).cast()
}

extern "C" fn destroy<C: Channel>(bus: *mut c_void) {
    drop(unsafe { Box::from_raw(bus.cast::<Bus<C>>()) });
}

extern "C" fn producer<C: Channel>(bus: *mut c_void) -> *mut c_void {
    let senders = unsafe { (*bus.cast::<Bus<C>>()).senders.clone() };
    Box::into_raw(Box::new(senders)).cast()
}

extern "C" fn producer_end<C: Channel>(producer: *mut c_void) {
    drop(unsafe { Box::from_raw(producer.cast::<Vec<C::Sender>>()) });
}

extern "C" fn consumer<C: Channel>(bus: *mut c_void) -> *mut c_void {
    let mut receivers = unsafe { &*bus.cast::<Bus<C>>() }.receivers.lock().unwrap();
    let receivers = receivers.iter_mut().map(C::share).collect();
    let events = [MaybeUninit::uninit(); RECEIVE_BATCH];
    Box::into_raw(Box::new(Consumer::<C> { receivers, events })).cast()
}

extern "C" fn consumer_end<C: Channel>(consumer: *mut c_void) {
    drop(unsafe { Box::from_raw(consumer.cast::<Consumer<C>>()) });
}

extern "C" fn publish<C: Channel>(producer: *mut c_void, first: u64, count: c_uint) {
    let senders = unsafe { &*producer.cast::<Vec<C::Sender>>() };
    for number in first..first + u64::from(count) {
        let event = Event { number, payload: [1; 7] };
        for sender in senders {
            C::put(sender, event);
        }
    }
}

extern "C" fn receive<C: Channel>(
    consumer: *mut c_void,
    subscription: c_uint,
    limit: c_uint,
    sum: *mut u64,
) -> c_uint {
    let consumer = unsafe { &mut *consumer.cast::<Consumer<C>>() };
    let receiver = &mut consumer.receivers[subscription as usize];
    let limit = limit as usize;
    let mut taken = 0;
    while taken < limit {
        let wanted = RECEIVE_BATCH.min(limit - taken);
        let mut count = 0;
        while count < wanted {
            match C::take(receiver) {
                Some(event) => consumer.events[count].write(event),
                None => break,
            };
            count += 1;
        }
        // All 64 bytes are wanted, as by a caller who reads them.
        unsafe { asm!("/* {0} */", in(reg) consumer.events.as_ptr()) };
        for event in &consumer.events[..count] {
            unsafe { *sum += event.assume_init().number };
        }
        taken += count;
        if count < wanted {
            break;
        }
    }
    taken as c_uint
}

extern "C" fn wait<C: Waiting>(consumer: *mut c_void, subscription: c_uint) {
    let consumer = unsafe { &mut *consumer.cast::<Consumer<C>>() };
    let event = C::wait(&mut consumer.receivers[subscription as usize]);
    consumer.events[0].write(event);
}

/// `name` and `what` end with a NUL.
pub const fn peer<C: Channel>(name: &'static [u8], what: &'static [u8], features: c_uint) -> Peer {
    Peer {
        name: name.as_ptr().cast(),
        what: what.as_ptr().cast(),
        features,
        create: create::<C>,
        destroy: destroy::<C>,
        producer: producer::<C>,
        producer_end: producer_end::<C>,
        consumer: consumer::<C>,
        consumer_end: consumer_end::<C>,
        publish: publish::<C>,
        receive: receive::<C>,
        wait: None,
        churn: None,
    }
}

impl Peer {
    pub const fn waiting<C: Waiting>(self) -> Peer {
        Peer { wait: Some(wait::<C>), ..self }
    }
}
