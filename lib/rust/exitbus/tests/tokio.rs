// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams and waits in tokio, whose reactor is edge-triggered.
use exitbus::tokio::{Events, Exec, Group, Process};
use exitbus::{Bus, Command, Error, Task, TaskOptions, Topic};
use futures_core::stream::{FusedStream, Stream};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::{Builder, Runtime};

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// EXITBUS_LONG=1: as many as in the documents.
fn scaled(count: u64) -> u64 {
    if std::env::var_os("EXITBUS_LONG").is_some() {
        count
    } else {
        count / 20
    }
}

#[test]
fn a_stream_has_each_event_in_order() {
    for runtime in [one_thread(), two_threads()] {
        let bus = Bus::new().unwrap();
        let subscription = bus.subscribe(Topic::All).unwrap();
        let events = scaled(200_000);
        let subscription = Arc::new(subscription);
        let publisher = std::thread::spawn(move || {
            for _ in 0..events {
                bus.publish_pid(1, 0).unwrap();
            }
        });
        runtime.block_on(async {
            let mut stream = Events::new(Arc::clone(&subscription)).unwrap();
            for seq in 1..=events {
                assert_eq!(stream.recv().await.unwrap().unwrap().seq(), seq);
            }
            subscription.close().unwrap();
            assert!(stream.recv().await.is_none());
            assert!(stream.is_terminated());
            assert!(stream.recv().await.is_none());
        });
        publisher.join().unwrap();
    }
}

#[test]
fn a_stream_loses_no_wake_up() {
    // Each event is published only when the one before was received: a lost wake-up is for ever.
    let (there, back) = (Bus::new().unwrap(), Bus::new().unwrap());
    let rounds = scaled(100_000) as i32;
    let pings = there.subscribe(Topic::All).unwrap();
    let pongs = back.subscribe(Topic::All).unwrap();
    let runtime = two_threads();
    let echo = runtime.spawn(async move {
        let mut stream = Events::new(pings).unwrap();
        for round in 0..rounds {
            let event = stream.recv().await.unwrap().unwrap();
            assert_eq!(event.exit_code(), Some(round));
            back.publish_pid(1, round).unwrap();
        }
    });
    for round in 0..rounds {
        there.publish_pid(1, round).unwrap();
        assert_eq!(pongs.recv().unwrap().exit_code(), Some(round));
    }
    runtime.block_on(echo).unwrap();
}

#[test]
fn a_stream_ends_when_it_is_closed_elsewhere() {
    let runtime = two_threads();
    let bus = Bus::new().unwrap();
    let subscription = Arc::new(bus.subscribe(Topic::All).unwrap());
    let (told, tells) = std::sync::mpsc::channel();
    let clone = Arc::clone(&subscription);
    let task = runtime.spawn(async move {
        let mut stream = Events::new(clone).unwrap();
        let mut count = 0;
        while let Some(event) = stream.recv().await {
            event.unwrap();
            count += 1;
            told.send(()).unwrap();
        }
        count
    });
    bus.publish_pid(1, 0).unwrap();
    tells.recv().unwrap();
    subscription.close().unwrap();
    assert_eq!(runtime.block_on(task).unwrap(), 1);
}

#[test]
fn a_descriptor_leaves_the_reactor_before_it_closes() {
    // Streams come and go. If a dropped one stayed in the reactor, the next one, which mostly gets
    // the same number, would be refused or never be told.
    let runtime = one_thread();
    let bus = Bus::new().unwrap();
    runtime.block_on(async {
        for round in 0..500 {
            let subscription = bus.subscribe(Topic::Pid(round + 1)).unwrap();
            let mut stream = Events::new(subscription).unwrap();
            Once(&mut stream.recv()).await;
            bus.publish_pid(round + 1, 7).unwrap();
            assert_eq!(stream.recv().await.unwrap().unwrap().exit_code(), Some(7));
            if round % 2 == 0 {
                drop(stream);
            } else {
                tokio::task::spawn_blocking(move || drop(stream)).await.unwrap();
            }
        }
    });
    assert_eq!(bus.stats().unwrap().subscriptions, 0);
}

/// Poll a future once, which must be pending.
struct Once<'a, F>(&'a mut F);

impl<F: Future + Unpin> Future for Once<'_, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        assert!(Pin::new(&mut *self.0).poll(context).is_pending());
        Poll::Ready(())
    }
}

#[test]
fn a_subscription_has_one_stream_in_a_runtime() {
    let bus = Bus::new().unwrap();
    let subscription = Arc::new(bus.subscribe(Topic::All).unwrap());
    let (first, second) = (one_thread(), one_thread());
    let stream = first.block_on(async { Events::new(Arc::clone(&subscription)) }).unwrap();
    let refused = first.block_on(async { Events::new(Arc::clone(&subscription)) });
    assert_eq!(refused.unwrap_err(), Error::Exists);
    second.block_on(async { Events::new(Arc::clone(&subscription)) }).unwrap();
    drop(stream);
    bus.publish_pid(1, 0).unwrap();
    let event = first.block_on(async {
        Events::new(Arc::clone(&subscription)).unwrap().recv().await.unwrap().unwrap()
    });
    assert_eq!(event.pid(), 1);
}

#[test]
fn a_stream_tells_that_its_runtime_has_ended() {
    let bus = Bus::new().unwrap();
    let subscription = Arc::new(bus.subscribe(Topic::All).unwrap());
    let runtime = one_thread();
    let mut stream = runtime.block_on(async { Events::new(Arc::clone(&subscription)) }).unwrap();
    drop(runtime);
    one_thread().block_on(async {
        assert_eq!(stream.recv().await.unwrap().unwrap_err(), Error::Cancelled);
        assert!(stream.recv().await.is_none());
    });
    bus.publish_pid(1, 0).unwrap();
    assert_eq!(subscription.recv().unwrap().pid(), 1); // which is still open
}

#[test]
fn a_forked_child_takes_nothing_out_of_the_reactor() {
    let bus = Bus::new().unwrap();
    let runtime = one_thread();
    let process: Process = Command::new("sleep").arg("1000").spawn(&bus).unwrap().into();
    let subscription = bus.subscribe(Topic::Pid(1)).unwrap();
    runtime.block_on(async {
        let mut stream = Events::new(subscription).unwrap();
        let mut wait = Box::pin(process.wait());
        Once(&mut stream.recv()).await;
        Once(&mut wait).await;
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(wait);
            drop(stream);
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        bus.publish_pid(1, 7).unwrap();
        assert_eq!(stream.recv().await.unwrap().unwrap().exit_code(), Some(7));
        process.signal(libc::SIGKILL).unwrap();
        assert_eq!(wait.await.unwrap().exit_code(), Some(137));
    });
}

/// What a future says when it is polled once.
struct Answer<'a, F>(&'a mut F);

impl<F: Future + Unpin> Future for Answer<'_, F> {
    type Output = Poll<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Pin::new(&mut *self.0).poll(context))
    }
}

#[test]
fn a_forked_child_is_told_at_once() {
    let bus = Bus::new().unwrap();
    let process: Process = Command::new("sleep").arg("1000").spawn(&bus).unwrap().into();
    let subscription = bus.subscribe(Topic::Pid(1)).unwrap();
    let status = one_thread().block_on(async {
        let mut stream = Events::new(subscription).unwrap();
        let mut wait = Box::pin(process.wait());
        Once(&mut stream.recv()).await;
        Once(&mut wait).await;
        let child = unsafe { libc::fork() };
        if child == 0 {
            let event = Answer(&mut stream.recv()).await;
            let stale = matches!(event, Poll::Ready(Some(Err(Error::Stale))));
            let ended = matches!(Answer(&mut stream.recv()).await, Poll::Ready(None));
            let exit = matches!(Answer(&mut wait).await, Poll::Ready(Err(Error::Stale)));
            unsafe { libc::_exit(i32::from(!(stale && ended && exit))) };
        }
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        status
    });
    process.signal(libc::SIGKILL).unwrap();
    assert_eq!(status, 0);
}

#[test]
fn a_one_shot_stream_has_one_event() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe_one_shot(Topic::AnyPid).unwrap();
    bus.publish_pid(1, 5).unwrap();
    bus.publish_pid(2, 6).unwrap();
    one_thread().block_on(async {
        let mut stream = Events::new(subscription).unwrap();
        assert_eq!(stream.recv().await.unwrap().unwrap().exit_code(), Some(5));
        assert!(stream.recv().await.is_none());
        assert!(stream.is_terminated());
    });
}

#[test]
fn a_stream_is_a_stream() {
    fn item<S: Stream<Item = exitbus::Result<exitbus::Event>> + Send + Sync + Unpin>(_: &S) {}
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    one_thread().block_on(async { item(&Events::new(subscription).unwrap()) });
}

#[test]
fn a_process_is_awaited_by_many() {
    let bus = Bus::new().unwrap();
    let runtime = two_threads();
    for _ in 0..5 {
        let process: Process = Command::new("sleep").arg("1000").spawn(&bus).unwrap().into();
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let process = process.clone();
                runtime.spawn(async move { process.wait().await.unwrap().exit_code() })
            })
            .collect();
        process.signal(libc::SIGKILL).unwrap();
        for waiter in waiters {
            assert_eq!(runtime.block_on(waiter).unwrap(), Some(137));
        }
        assert_eq!(runtime.block_on(process.wait()).unwrap().exit_code(), Some(137));
    }
}

#[test]
fn a_wait_that_is_dropped_loses_nothing() {
    let bus = Bus::new().unwrap();
    let process: Process = Command::new("sleep").arg("1000").spawn(&bus).unwrap().into();
    one_thread().block_on(async {
        let mut wait = Box::pin(process.wait());
        Once(&mut wait).await;
        drop(wait);
        process.signal(libc::SIGTERM).unwrap();
        assert_eq!(process.wait().await.unwrap().exit_code(), Some(143));
    });
}

#[test]
fn groups_and_execs_are_awaited() {
    let bus = Bus::new().unwrap();
    let group: Group = exitbus::Group::set(&bus, "job").unwrap().into();
    let task = Task::new(&bus, "web", &TaskOptions::default()).unwrap();
    let leader: Exec = task.reserve("").unwrap().into();
    let cancelled: Exec = task.reserve("x").unwrap().into();
    let process = Command::new("sleep").arg("1000").spawn(&bus).unwrap();
    group.add(&process).unwrap();
    leader.started(process.pid().unwrap()).unwrap();
    one_thread().block_on(async {
        group.end(libc::SIGKILL, None).unwrap();
        assert_eq!(group.wait().await.unwrap().container_id(), "job");
        cancelled.cancel().unwrap();
        assert_eq!(cancelled.wait().await.unwrap_err(), Error::Cancelled);
        assert_eq!(leader.wait().await.unwrap().exit_code(), Some(137));
    });
}

#[test]
fn a_wait_keeps_the_bus() {
    let bus = Bus::new().unwrap();
    let process: Process = Command::new("sleep").arg("1000").spawn(&bus).unwrap().into();
    let runtime = two_threads();
    let waiter = {
        let process = process.clone();
        runtime.spawn(async move { process.wait().await })
    };
    drop(bus);
    process.signal(libc::SIGKILL).unwrap();
    drop(process);
    assert_eq!(runtime.block_on(waiter).unwrap().unwrap().exit_code(), Some(137));
}
