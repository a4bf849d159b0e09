// SPDX-License-Identifier: MIT OR Apache-2.0
//! Subscribers come and go while others notify: nothing is lost before an unsubscribe, and nothing
//! comes after it.
mod common;

use common::{drain, scaled, Face, OfThreads};
use exitbus_shim_monitor::{synchronous, ExitEvent, Subject, Topic};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

const PUBLISHERS: i32 = 2;
/// Markers have pids from here on.
const MARKERS: i32 = 1000;

/// Publisher P notifies 0, 1, 2 … as exit codes of pid P, until `stop`.
fn publish<F: Face>(publisher: i32, stop: &AtomicBool) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        F::notify_by_pid(publisher, number).unwrap();
        thread::yield_now(); // a subscriber must be able to follow
    }
}

/// Of each publisher the numbers must follow each other.
#[derive(Default)]
struct Sequence([Option<i32>; PUBLISHERS as usize + 1]);

impl Sequence {
    fn check(&mut self, event: &ExitEvent) {
        let publisher = match event.subject {
            Subject::Pid(publisher @ 1..=PUBLISHERS) => publisher,
            _ => return, // a marker
        };
        let last = &mut self.0[publisher as usize];
        if let Some(last) = last {
            assert_eq!(event.exit_code, *last + 1, "of publisher {publisher}");
        }
        *last = Some(event.exit_code);
    }
}

/// Subscribe and unsubscribe, time and again. What is notified in between, by this thread, comes;
/// of what others notify nothing is left out, and nothing comes twice.
fn come_and_go<F: Face>(thread: i32, rounds: i32) {
    for round in 0..rounds {
        let mut subscription = F::subscribe([Topic::Pid, Topic::All][round as usize % 2]).unwrap();
        let mut sequence = Sequence::default();
        let marker = Subject::Pid(MARKERS + thread);
        for code in 0..3 {
            F::notify_by_pid(MARKERS + thread, code).unwrap();
            loop {
                let event = F::recv(&mut subscription).unwrap();
                sequence.check(&event);
                if event.subject == marker {
                    assert_eq!(event.exit_code, code);
                    break;
                }
            }
        }
        F::unsubscribe(F::id(&subscription)).unwrap();
        F::notify_by_pid(MARKERS + thread, 99).unwrap();
        assert_eq!(F::try_recv(&mut subscription), Err(()), "after an unsubscribe");
        assert_eq!(F::recv(&mut subscription), None);
    }
}

fn nothing_is_lost_while_subscribers_come_and_go<F: Face>() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for publisher in 1..=PUBLISHERS {
            let stop = &stop;
            scope.spawn(move || publish::<F>(publisher, stop));
        }
        let subscribers: Vec<_> = (0..3)
            .map(|number| scope.spawn(move || come_and_go::<F>(number, scaled(100))))
            .collect();
        let results: Vec<_> = subscribers.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
}

fn an_unsubscribe_right_after_a_receive_hurts_nobody<F: Face>() {
    // The notify is mostly still under way in the other thread when the subscription goes.
    let (go, goes) = channel();
    let publisher = thread::spawn(move || {
        for round in goes {
            F::notify_by_pid(1, round).unwrap();
        }
    });
    for round in 0..scaled(1000) {
        let mut subscription = F::subscribe(Topic::Pid).unwrap();
        go.send(round).unwrap();
        let event = F::recv(&mut subscription).unwrap();
        if round % 2 == 0 {
            F::unsubscribe(F::id(&subscription)).unwrap();
            assert_eq!(F::try_recv(&mut subscription), Err(()));
        }
        drop(subscription);
        assert_eq!(event.exit_code, round);
    }
    drop(go);
    publisher.join().unwrap();
}

fn a_blocked_receiver_wakes_when_it_is_unsubscribed<F: Face>() {
    for _ in 0..scaled(20) {
        let mut subscription = F::subscribe(Topic::Exec).unwrap();
        let id = F::id(&subscription);
        let (told, tells) = channel();
        let receiver = thread::spawn(move || {
            let first = F::recv(&mut subscription);
            told.send(()).unwrap();
            (first.is_some(), F::recv(&mut subscription), F::try_recv(&mut subscription))
        });
        F::notify_by_exec("web", "", 1).unwrap();
        tells.recv().unwrap(); // it blocks now, or is about to
        F::unsubscribe(id).unwrap();
        assert_eq!(receiver.join().unwrap(), (true, None, Err(())));
        F::unsubscribe(id).unwrap(); // not open: does nothing
    }
    F::unsubscribe(-1).unwrap();
}

fn a_wait_for_a_pid_has_its_exit_code<F: Face>() {
    for round in 0..scaled(50) {
        // The subscription is there before the process could exit.
        let subscription = F::subscribe([Topic::Pid, Topic::All][round as usize % 2]).unwrap();
        let publisher = thread::spawn(move || {
            F::notify_by_exec("web", "7", 1).unwrap();
            F::notify_by_pid(8, 2).unwrap();
            F::notify_by_pid(7, 3).unwrap();
            F::notify_by_pid(7, 4).unwrap();
        });
        assert_eq!(F::wait_pid(7, subscription), 3);
        publisher.join().unwrap();
    }
    let subscription = F::subscribe(Topic::Pid).unwrap();
    F::notify_by_pid(1, 2).unwrap();
    F::unsubscribe(F::id(&subscription)).unwrap();
    assert_eq!(F::wait_pid(1, subscription), -1);
}

fn receivers_go_anywhere<F: Face>() {
    // Dropped on another thread than the one that subscribed, while others subscribe.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..scaled(50) {
                    let subscription = F::subscribe(Topic::All).unwrap();
                    F::notify_by_pid(1, 1).unwrap();
                    thread::spawn(move || drop(subscription)).join().unwrap();
                }
            });
        }
    });
    let stats = exitbus::Bus::process_wide().unwrap().stats().unwrap();
    assert_eq!(stats.subscriptions, 0);
}

for_each_face!(
    nothing_is_lost_while_subscribers_come_and_go,
    an_unsubscribe_right_after_a_receive_hurts_nobody,
    a_blocked_receiver_wakes_when_it_is_unsubscribed,
    a_wait_for_a_pid_has_its_exit_code,
    receivers_go_anywhere,
);

#[test]
fn a_forked_child_has_a_monitor_of_its_own() {
    let _alone = common::alone();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // The lock of the list of subscriptions is mostly held when the process forks.
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(synchronous::monitor_subscribe(Topic::Exec).unwrap());
                }
            });
        }
        let result = catch_unwind(|| (0..scaled(20)).for_each(|_| fork_once()));
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

fn fork_once() {
    let mut inherited = OfThreads::subscribe(Topic::Pid).unwrap();
    OfThreads::notify_by_pid(1, 1).unwrap();
    let child = unsafe { libc::fork() };
    if child == 0 {
        let result = catch_unwind(AssertUnwindSafe(|| in_child(inherited)));
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "see what the child has printed");
    OfThreads::notify_by_pid(2, 2).unwrap();
    let codes: Vec<i32> =
        drain::<OfThreads>(&mut inherited).iter().map(|event| event.exit_code).collect();
    assert_eq!(codes, [1, 2]);
}

fn in_child(mut inherited: synchronous::Subscription) {
    assert_eq!(OfThreads::recv(&mut inherited), None);
    assert_eq!(OfThreads::try_recv(&mut inherited), Err(()));
    let mut own = OfThreads::subscribe(Topic::Pid).unwrap();
    assert_ne!(own.id, inherited.id);
    OfThreads::unsubscribe(inherited.id).unwrap(); // not open here
    OfThreads::notify_by_pid(3, 3).unwrap();
    assert_eq!(OfThreads::recv(&mut own).unwrap().exit_code, 3);
    drop(inherited);
    assert_eq!(
        OfThreads::wait_pid(4, {
            OfThreads::notify_by_pid(4, 5).unwrap();
            own
        }),
        5
    );
}

/// Select-like use: a wait that is dropped, and a subscription that moves to another runtime.
#[cfg(feature = "async")]
#[test]
fn a_receiver_outlives_a_runtime() {
    let _alone = common::alone();
    let mut subscription = common::OfTokio::subscribe(Topic::Pid).unwrap();
    for round in 0..5 {
        let runtime = tokio_runtime();
        runtime.block_on(async {
            assert!(Polled(&mut Box::pin(subscription.rx.recv())).await);
            common::OfThreads::notify_by_pid(1, round).unwrap();
            assert_eq!(subscription.rx.recv().await.unwrap().exit_code, round);
        });
    }
}

#[cfg(feature = "async")]
#[test]
fn an_inherited_receiver_ends_in_a_forked_child() {
    let _alone = common::alone();
    let mut subscription = common::OfTokio::subscribe(Topic::Pid).unwrap();
    tokio_runtime().block_on(async {
        assert!(Polled(&mut Box::pin(subscription.rx.recv())).await);
        let child = unsafe { libc::fork() };
        if child == 0 {
            let pending = Polled(&mut Box::pin(subscription.rx.recv())).await;
            unsafe { libc::_exit(i32::from(pending)) };
        }
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    });
}

/// Whether a future is pending when it is polled once.
#[cfg(feature = "async")]
struct Polled<'a, F>(&'a mut F);

#[cfg(feature = "async")]
impl<F: std::future::Future + Unpin> std::future::Future for Polled<'_, F> {
    type Output = bool;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<bool> {
        let pending = std::pin::Pin::new(&mut *self.0).poll(context).is_pending();
        std::task::Poll::Ready(pending)
    }
}

#[cfg(feature = "async")]
fn tokio_runtime() -> ::tokio::runtime::Runtime {
    ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
