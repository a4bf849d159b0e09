// SPDX-License-Identifier: MIT OR Apache-2.0
//! A subscriber that does not receive delays nobody and loses nothing, and the memory comes back.
mod common;

use common::{scaled, Face};
use exitbus::Bus;
use exitbus_shim_monitor::{ExitEvent, Subject, Topic};
use std::sync::mpsc::{channel, Receiver};
use std::thread::JoinHandle;

/// What a bus may keep of what it has used, and with each live subscription: the slabs that its
/// blocks and the end of its queue are in.
const KEPT: u64 = 3 << 20;
const KEPT_BY_EACH: u64 = 2 << 20;

fn stats() -> exitbus::Stats {
    Bus::process_wide().unwrap().stats().unwrap()
}

/// Wait until the bus holds no more than this.
fn memory_is_given_back(most: u64) {
    while stats().bytes > most {
        std::thread::yield_now();
    }
}

/// The event of that number: of a process, or of an exec with ids of changing sizes.
fn event(number: i32) -> ExitEvent {
    let subject = match number % 2 {
        0 => Subject::Pid(number),
        _ => Subject::Exec("web".into(), "x".repeat(number as usize % 128)),
    };
    ExitEvent { subject, exit_code: number }
}

fn notify<F: Face>(number: i32) {
    match event(number).subject {
        Subject::Pid(pid) => F::notify_by_pid(pid, number).unwrap(),
        Subject::Exec(id, exec_id) => F::notify_by_exec(&id, &exec_id, number).unwrap(),
    }
}

/// A subscriber that receives all of them, and tells after each `stage`.
fn receiver<F: Face>(events: i32, stage: i32) -> (JoinHandle<()>, Receiver<i32>) {
    let mut subscription = F::subscribe(Topic::All).unwrap();
    let (told, tells) = channel();
    let thread = std::thread::spawn(move || {
        for number in 1..=events {
            assert_eq!(F::recv(&mut subscription), Some(event(number)));
            if number % stage == 0 {
                told.send(number).unwrap();
            }
        }
    });
    (thread, tells)
}

fn a_slow_subscriber_delays_nobody_and_loses_nothing<F: Face>() {
    let (events, stage) = (scaled(100_000), scaled(10_000));
    let mut slow = F::subscribe(Topic::All).unwrap();
    let others = [receiver::<F>(events, stage), receiver::<F>(events, stage)];
    let before = stats();
    for number in 1..=events {
        notify::<F>(number);
        if number % stage == 0 {
            // The others have had all so far, while the slow one has had nothing.
            for (_, tells) in &others {
                assert_eq!(tells.recv(), Ok(number));
            }
        }
    }
    for (thread, _) in others {
        thread.join().unwrap();
    }
    assert_eq!(stats().delivered - before.delivered, 2 * events as u64);
    assert!(stats().bytes > before.bytes + KEPT + KEPT_BY_EACH);
    for number in 1..=events {
        assert_eq!(F::recv(&mut slow), Some(event(number)));
    }
    assert_eq!(F::try_recv(&mut slow), Ok(None));
    assert_eq!(stats().dropped, before.dropped);
    memory_is_given_back(before.bytes + KEPT + KEPT_BY_EACH);
    drop(slow);
    memory_is_given_back(before.bytes + KEPT);
}

fn what_is_not_received_goes_with_its_subscription<F: Face>() {
    let events = scaled(100_000);
    let before = stats();
    for unsubscribe in [true, false] {
        let dropped = stats().dropped;
        let slow = [Topic::All, Topic::All, Topic::Pid].map(|topic| F::subscribe(topic).unwrap());
        (1..=events).for_each(notify::<F>);
        assert!(stats().bytes > before.bytes + KEPT);
        if unsubscribe {
            slow.iter().for_each(|slow| F::unsubscribe(F::id(slow)).unwrap());
            // Their receivers are still there.
            memory_is_given_back(before.bytes + KEPT);
        }
        drop(slow);
        memory_is_given_back(before.bytes + KEPT);
        let events = events as u64;
        assert_eq!(stats().dropped - dropped, 2 * events + events / 2);
        assert_eq!(stats().subscriptions, 0);
    }
}

for_each_face!(
    a_slow_subscriber_delays_nobody_and_loses_nothing,
    what_is_not_received_goes_with_its_subscription,
);

/// A notify is ready when it is first polled, whatever subscribers do.
#[cfg(feature = "async")]
#[test]
fn a_notify_never_waits() {
    use exitbus_shim_monitor::asynchronous::{monitor_notify_by_exec, monitor_notify_by_pid};
    use std::future::Future;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};

    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    let _alone = common::alone();
    let waker = Arc::new(Nobody).into();
    let mut context = Context::from_waker(&waker);
    let _slow = common::OfTokio::subscribe(Topic::All).unwrap();
    for number in 1..=scaled(1000) {
        let mut first = Box::pin(monitor_notify_by_pid(number, 0));
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        let mut second = Box::pin(monitor_notify_by_exec("web", "", number));
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(Ok(())));
    }
}
