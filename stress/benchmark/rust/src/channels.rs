// SPDX-License-Identifier: MIT OR Apache-2.0
//! The channels, each at its best: `try_recv` until there is none, no wake-ups of anybody.

use crate::peer::{peer, Channel, Event, Peer, Shape, Waiting, BOUNDED, FIFO, ONE_CONSUMER};
use std::sync::mpsc;
use tokio::sync::{broadcast, mpsc as tokio_mpsc};

const GONE: &str = "the bus outlives its producers";

fn many<T>(shape: &Shape, open: impl Fn() -> T) -> Vec<T> {
    (0..shape.subscriptions).map(|_| open()).collect()
}

struct Crossbeam;

impl Channel for Crossbeam {
    type Sender = crossbeam_channel::Sender<Event>;
    type Receiver = crossbeam_channel::Receiver<Event>;

    fn open(shape: &Shape) -> (Vec<Self::Sender>, Vec<Self::Receiver>) {
        many(shape, crossbeam_channel::unbounded).into_iter().unzip()
    }

    fn share(receiver: &mut Option<Self::Receiver>) -> Self::Receiver {
        receiver.clone().expect(GONE)
    }

    #[inline]
    fn put(sender: &Self::Sender, event: Event) {
        sender.send(event).expect(GONE);
    }

    #[inline]
    fn take(receiver: &mut Self::Receiver) -> Option<Event> {
        receiver.try_recv().ok()
    }
}

impl Waiting for Crossbeam {
    fn wait(receiver: &mut Self::Receiver) -> Event {
        receiver.recv().expect(GONE)
    }
}

struct Std;

impl Channel for Std {
    type Sender = mpsc::Sender<Event>;
    type Receiver = mpsc::Receiver<Event>;

    fn open(shape: &Shape) -> (Vec<Self::Sender>, Vec<Self::Receiver>) {
        many(shape, mpsc::channel).into_iter().unzip()
    }

    fn share(receiver: &mut Option<Self::Receiver>) -> Self::Receiver {
        receiver.take().expect(GONE)
    }

    #[inline]
    fn put(sender: &Self::Sender, event: Event) {
        sender.send(event).expect(GONE);
    }

    #[inline]
    fn take(receiver: &mut Self::Receiver) -> Option<Event> {
        receiver.try_recv().ok()
    }
}

impl Waiting for Std {
    fn wait(receiver: &mut Self::Receiver) -> Event {
        receiver.recv().expect(GONE)
    }
}

struct Tokio;

impl Channel for Tokio {
    type Sender = tokio_mpsc::UnboundedSender<Event>;
    type Receiver = tokio_mpsc::UnboundedReceiver<Event>;

    fn open(shape: &Shape) -> (Vec<Self::Sender>, Vec<Self::Receiver>) {
        many(shape, tokio_mpsc::unbounded_channel).into_iter().unzip()
    }

    fn share(receiver: &mut Option<Self::Receiver>) -> Self::Receiver {
        receiver.take().expect(GONE)
    }

    #[inline]
    fn put(sender: &Self::Sender, event: Event) {
        sender.send(event).expect(GONE);
    }

    #[inline]
    fn take(receiver: &mut Self::Receiver) -> Option<Event> {
        receiver.try_recv().ok()
    }
}

impl Waiting for Tokio {
    fn wait(receiver: &mut Self::Receiver) -> Event {
        receiver.blocking_recv().expect(GONE)
    }
}

/// One ring for all subscriptions. A receiver that falls behind by more than the ring loses events,
/// so the ring holds all that may be pending.
struct Broadcast;

impl Channel for Broadcast {
    type Sender = broadcast::Sender<Event>;
    type Receiver = broadcast::Receiver<Event>;

    fn open(shape: &Shape) -> (Vec<Self::Sender>, Vec<Self::Receiver>) {
        let (sender, _) = broadcast::channel(shape.pending.next_power_of_two());
        let receivers = many(shape, || sender.subscribe());
        (vec![sender], receivers)
    }

    fn share(receiver: &mut Option<Self::Receiver>) -> Self::Receiver {
        receiver.take().expect(GONE)
    }

    #[inline]
    fn put(sender: &Self::Sender, event: Event) {
        let _ = sender.send(event); // nobody listens any more while a run ends
    }

    #[inline]
    fn take(receiver: &mut Self::Receiver) -> Option<Event> {
        receiver.try_recv().ok()
    }
}

#[no_mangle]
pub static rust_crossbeam_peer: Peer =
    peer::<Crossbeam>(b"crossbeam\0", b"crossbeam_channel::unbounded (Rust)\0", FIFO).waiting::<Crossbeam>();
#[no_mangle]
pub static rust_std_peer: Peer =
    peer::<Std>(b"std-mpsc\0", b"std::sync::mpsc::channel (Rust)\0", FIFO | ONE_CONSUMER)
        .waiting::<Std>();
#[no_mangle]
pub static rust_tokio_peer: Peer = peer::<Tokio>(
    b"tokio-mpsc\0",
    b"tokio::sync::mpsc::unbounded_channel (Rust)\0",
    FIFO | ONE_CONSUMER,
)
.waiting::<Tokio>();
#[no_mangle]
pub static rust_broadcast_peer: Peer = peer::<Broadcast>(
    b"tokio-broadcast\0",
    b"tokio::sync::broadcast::channel (Rust)\0",
    FIFO | ONE_CONSUMER | BOUNDED,
);
