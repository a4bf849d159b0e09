// SPDX-License-Identifier: MIT OR Apache-2.0
//! Publishing and receiving: every call of the safe crate does what its C function does.
use exitbus::{sys, Bus, Error, Event, EventKind, Topic};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(Event::seq).collect()
}

#[test]
fn topics_choose_events() {
    let bus = Bus::new().unwrap();
    let topics = [
        (Topic::All, vec![1, 2, 3, 4, 5]),
        (Topic::AnyPid, vec![1, 2]),
        (Topic::Pid(12), vec![2]),
        (Topic::AnyExec, vec![3, 4, 5]),
        (Topic::Container("web"), vec![3, 4]),
        (Topic::Exec("web", ""), vec![3]),
        (Topic::Exec("web", "probe"), vec![4]),
        (Topic::Exec("db", "probe"), vec![5]),
        (Topic::Container("none"), vec![]),
    ];
    let subscriptions: Vec<_> =
        topics.iter().map(|(topic, _)| bus.subscribe(*topic).unwrap()).collect();
    bus.publish_pid(11, 1).unwrap();
    bus.publish_pid(12, 2).unwrap();
    bus.publish_exec("web", "", 3).unwrap();
    bus.publish_exec("web", "probe", 4).unwrap();
    bus.publish_exec("db", "probe", 5).unwrap();
    for (subscription, (topic, wanted)) in subscriptions.iter().zip(&topics) {
        let mut events = Vec::new();
        while let Some(event) = subscription.try_recv().unwrap() {
            assert_eq!(event.exit_code(), Some(event.seq() as i32), "{topic:?}");
            events.push(event);
        }
        assert_eq!(&seqs(&events), wanted, "{topic:?}");
    }
}

#[test]
fn an_event_carries_what_was_published() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    usage.ru_utime = libc::timeval { tv_sec: 1, tv_usec: 500_000 };
    usage.ru_stime = libc::timeval { tv_sec: 0, tv_usec: 7 };
    usage.ru_maxrss = 1234;
    bus.publish_wait(42, libc::SIGKILL | 0x80, Some(&usage)).unwrap();
    let event = subscription.recv().unwrap();
    assert_eq!((event.seq(), event.kind(), event.pid()), (1, EventKind::Pid, 42));
    assert_eq!(event.exit_code(), Some(128 + libc::SIGKILL));
    assert_eq!(event.status().unwrap().signal(), Some(libc::SIGKILL));
    assert!(event.core_dumped() && !event.cut_short());
    assert_eq!(event.user_time(), Duration::from_micros(1_500_000));
    assert_eq!(event.system_time(), Duration::from_micros(7));
    assert_eq!(event.max_rss_kib(), 1234);
    assert!(event.monotonic() > Duration::ZERO);
    assert!(event.realtime() > std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    assert_eq!((event.container_id().to_str(), event.exec_id().to_str()), (Some(""), Some("")));
    assert_eq!(event.details(), None);

    let longest = "x".repeat(sys::EXITBUS_ID_MAX);
    bus.publish_exec(&longest, "é", -7).unwrap();
    let event = subscription.recv().unwrap();
    assert_eq!((event.kind(), event.exit_code()), (EventKind::Exec, Some(-7)));
    assert_eq!(event.container_id(), longest.as_str());
    assert_eq!(event.exec_id(), "é");

    let mut lost = *Event::of_pid(9, -1).as_raw();
    lost.flags = sys::EXITBUS_EVENT_STATUS_LOST as u8;
    lost.status = -1;
    assert_eq!(bus.publish(&lost.into()), Ok(3));
    let event = subscription.recv().unwrap();
    assert_eq!((event.pid(), event.exit_code(), event.status()), (9, None, None));
}

#[test]
fn a_batch_is_consecutive_and_whole() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    let mut batch = vec![Event::of_exec("web", "probe", 1).unwrap(); sys::EXITBUS_BATCH_MAX];
    batch[1] = Event::of_pid(5, 2);
    assert_eq!(bus.publish_batch(&batch), Ok(1));
    assert_eq!(subscription.pending(), Ok(64));
    let mut events = subscription.recv_batch(10, None).unwrap();
    assert!((1..=10).contains(&events.len())); // a batch need not be full
    while events.len() < 64 {
        events.extend(subscription.recv_batch(usize::MAX, Some(Duration::ZERO)).unwrap());
    }
    assert_eq!(seqs(&events), (1..=64).collect::<Vec<_>>());
    assert_eq!((events[1].pid(), events[1].container_id().len()), (5, 0));
    assert_eq!(events[63].exec_id(), "probe");
    assert!(subscription.recv_batch(1, Some(Duration::ZERO)).unwrap().is_empty());

    batch[63] = Event::of_pid(0, 0); // one that is not valid
    assert_eq!(bus.publish_batch(&batch), Err(Error::InvalidArgument));
    batch.push(batch[0]);
    batch[63] = batch[0];
    assert_eq!(bus.publish_batch(&batch), Err(Error::InvalidArgument));
    assert_eq!(bus.publish_batch(&[]), Err(Error::InvalidArgument));
    assert_eq!(subscription.pending(), Ok(0));
    assert_eq!(bus.stats().unwrap().published, 64);
}

#[test]
fn bad_arguments_have_an_error_and_no_effect() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    let long = "x".repeat(sys::EXITBUS_ID_MAX + 1);
    for (container_id, exec_id) in [("", "x"), (&long, ""), ("x", &long), ("a\0b", ""), ("a", "\0")]
    {
        assert_eq!(bus.publish_exec(container_id, exec_id, 0), Err(Error::InvalidArgument));
        if !container_id.is_empty() {
            assert_eq!(
                Event::of_exec(container_id, exec_id, 0).unwrap_err(),
                Error::InvalidArgument
            );
        }
        let topic = Topic::Exec(container_id, exec_id);
        assert_eq!(bus.subscribe(topic).unwrap_err(), Error::InvalidArgument, "{topic:?}");
    }
    assert_eq!(bus.subscribe(Topic::Pid(0)).unwrap_err(), Error::InvalidArgument);
    assert_eq!(bus.subscribe(Topic::Container("")).unwrap_err(), Error::InvalidArgument);
    assert_eq!(bus.publish_pid(0, 1), Err(Error::InvalidArgument));
    assert_eq!(bus.publish_wait(1, 0x137f, None), Err(Error::InvalidArgument)); // stopped
    assert_eq!(subscription.recv_batch(0, None).unwrap_err(), Error::InvalidArgument);
    assert_eq!(subscription.recv_pid(0, None).0.unwrap_err(), Error::InvalidArgument);
    let stats = bus.stats().unwrap();
    assert_eq!((stats.published, stats.subscriptions), (0, 1));
}

#[test]
fn a_receive_waits_as_long_as_it_is_told() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    assert!(subscription.try_recv().unwrap().is_none());
    assert!(subscription.recv_timeout(Duration::ZERO).unwrap().is_none());
    assert!(subscription.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
    let waits: [fn(&exitbus::Subscription) -> Event; 4] = [
        |subscription| subscription.recv().unwrap(),
        |subscription| subscription.recv_timeout(Duration::MAX).unwrap().unwrap(),
        |subscription| subscription.recv_batch(2, Some(Duration::MAX)).unwrap()[0],
        |subscription| subscription.recv_pid(5, Some(Duration::MAX)).0.unwrap().unwrap(),
    ];
    for wait in waits {
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| wait(&subscription));
            while bus.stats().unwrap().sleeping_receivers == 0 {
                std::thread::yield_now();
            }
            bus.publish_pid(5, 6).unwrap();
            assert_eq!(receiver.join().unwrap().exit_code(), Some(6));
        });
    }
}

#[test]
fn a_wait_for_one_pid_tells_what_it_drops() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    for pid in [1, 2, 3, 4] {
        bus.publish_pid(pid, 0).unwrap();
    }
    let (event, discarded) = subscription.recv_pid(3, None);
    assert_eq!((event.unwrap().unwrap().pid(), discarded), (3, 2));
    let (event, discarded) = subscription.recv_pid(3, Some(Duration::ZERO));
    assert!(event.unwrap().is_none());
    assert_eq!(discarded, 1);
}

#[test]
fn a_one_shot_has_one_event_and_a_sticky_one_keeps_it() {
    let bus = Bus::new().unwrap();
    let once = bus.subscribe_one_shot(Topic::AnyPid).unwrap();
    let sticky = bus.subscribe_sticky(Topic::AnyPid).unwrap();
    bus.publish_pid(1, 10).unwrap();
    bus.publish_pid(2, 20).unwrap();
    assert_eq!(once.recv().unwrap().exit_code(), Some(10));
    assert_eq!(once.recv().unwrap_err(), Error::Closed);
    for _ in 0..3 {
        assert_eq!(sticky.recv().unwrap().exit_code(), Some(10));
    }
    sticky.close().unwrap();
    assert_eq!(sticky.try_recv().unwrap_err(), Error::Closed);
}

#[test]
fn the_iterator_ends_when_the_subscription_is_closed() {
    const EVENTS: u64 = 1000;
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| subscription.iter().map(|event| event.unwrap().seq()).collect())
            })
            .collect();
        for pid in 1..=EVENTS {
            bus.publish_pid(pid as i32, 0).unwrap();
        }
        while bus.stats().unwrap().delivered < EVENTS {
            std::thread::yield_now();
        }
        subscription.close().unwrap();
        subscription.close().unwrap(); // does nothing
        let mut all: Vec<u64> = receivers
            .into_iter()
            .flat_map(|receiver| -> Vec<u64> { receiver.join().unwrap() })
            .collect();
        all.sort_unstable();
        assert_eq!(all, (1..=EVENTS).collect::<Vec<_>>());
    });
    let mut iter = (&subscription).into_iter();
    assert!(iter.next().is_none() && iter.next().is_none());
}

#[test]
fn nothing_is_received_after_a_close() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    bus.publish_pid(1, 0).unwrap();
    subscription.close().unwrap();
    bus.publish_pid(2, 0).unwrap();
    assert_eq!(subscription.recv().unwrap_err(), Error::Closed);
    assert_eq!(subscription.recv_timeout(Duration::MAX).unwrap_err(), Error::Closed);
    assert_eq!(subscription.recv_batch(1, None).unwrap_err(), Error::Closed);
    assert_eq!(subscription.recv_pid(2, None).0.unwrap_err(), Error::Closed);
    let stats = bus.stats().unwrap();
    assert_eq!((stats.subscriptions, stats.dropped, stats.delivered), (0, 1, 0));
}

#[test]
fn the_descriptor_tells_of_events() {
    use std::os::unix::io::AsRawFd;
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    let descriptor = subscription.fd().unwrap().as_raw_fd();
    let readable = || {
        let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        assert!(unsafe { libc::poll(&mut poll, 1, 0) } >= 0);
        poll.revents & libc::POLLIN != 0
    };
    assert!(subscription.try_recv().unwrap().is_none());
    assert!(!readable());
    bus.publish_pid(1, 0).unwrap();
    assert!(readable());
    subscription.recv().unwrap();
    assert!(subscription.try_recv().unwrap().is_none());
    assert!(!readable());
    subscription.close().unwrap();
    assert!(readable());
}

#[test]
fn errors_are_values_with_a_text() {
    for errno in 1..134 {
        let error = Error::from_errno(errno);
        assert_eq!(error.errno(), errno);
        assert_eq!(std::io::Error::from(error).raw_os_error(), Some(errno));
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(Error::from_errno(libc::ESHUTDOWN), Error::Closed);
    assert_eq!(Error::from_errno(libc::EACCES), Error::Other(libc::EACCES));
    assert_ne!(Error::Closed.to_string(), Error::Stale.to_string());
    assert_eq!(exitbus::version().split('.').count(), 3);
}
