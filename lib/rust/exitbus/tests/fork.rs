// SPDX-License-Identifier: MIT OR Apache-2.0
//! In a forked child every call on what its parent has made is an error, drops do nothing, and
//! what the child makes itself works.
use exitbus::{Bus, Command, Error, Group, ReaperOptions, Task, TaskOptions, Topic};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Duration;

/// Run `code` in a forked child, which must end without a panic.
fn in_child(code: impl FnOnce()) {
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let result = catch_unwind(AssertUnwindSafe(code));
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "see what the child has printed");
}

#[test]
fn a_child_gets_errors_and_its_parent_notices_nothing() {
    let bus = Bus::new().unwrap();
    let wide = Bus::process_wide().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    let closed = bus.subscribe(Topic::All).unwrap();
    closed.close().unwrap();
    let process = Command::new("sleep").arg("1000").spawn(&bus).unwrap();
    let to_kill = process.clone();
    let group = Group::set(&bus, "job").unwrap();
    let task = Task::new(&bus, "web", &TaskOptions::default()).unwrap();
    let exec = task.reserve("probe").unwrap();
    bus.publish_pid(1, 0).unwrap();

    in_child(|| {
        let stale = Error::Stale;
        assert_eq!(bus.publish_pid(2, 0), Err(stale));
        assert_eq!(bus.publish_exec("web", "", 0), Err(stale));
        assert_eq!(bus.publish(&exitbus::Event::of_pid(2, 0)), Err(stale));
        assert_eq!(bus.publish_batch(&[exitbus::Event::of_pid(2, 0)]), Err(stale));
        assert_eq!(bus.publish_wait(2, 0, None), Err(stale));
        assert_eq!(bus.subscribe(Topic::All).unwrap_err(), stale);
        assert_eq!(bus.stats().unwrap_err(), stale);
        assert_eq!(wide.publish_pid(2, 0), Err(stale));
        assert_eq!(ReaperOptions::watched().start(&bus).unwrap_err(), stale);
        assert_eq!(Command::new("true").spawn(&bus).unwrap_err().error(), stale);

        assert_eq!(subscription.recv().unwrap_err(), stale);
        assert_eq!(subscription.try_recv().unwrap_err(), stale);
        assert_eq!(subscription.recv_timeout(Duration::MAX).unwrap_err(), stale);
        assert_eq!(subscription.recv_batch(1, None).unwrap_err(), stale);
        assert_eq!(subscription.recv_pid(1, None).0.unwrap_err(), stale);
        assert_eq!(subscription.pending().unwrap_err(), stale);
        assert_eq!(subscription.fd().unwrap_err(), stale);
        let mut iter = subscription.iter();
        assert_eq!(iter.next().unwrap().unwrap_err(), stale);
        assert!(iter.next().is_none());
        assert_eq!(subscription.close(), Err(stale));

        assert_eq!(process.wait().unwrap_err(), stale);
        assert_eq!(process.signal(libc::SIGKILL), Err(stale));
        assert_eq!(process.clone().pid(), Err(stale));
        assert_eq!(group.end(0, None), Err(stale));
        assert_eq!(group.clone().add(&process), Err(stale));
        assert_eq!(task.clone().reserve("x").unwrap_err(), stale);
        assert_eq!(exec.clone().cancel(), Err(stale));

        // Its own.
        for own in [Bus::new().unwrap(), Bus::process_wide().unwrap()] {
            let exits = own.subscribe(Topic::All).unwrap();
            own.publish_pid(3, 4).unwrap();
            assert_eq!(exits.recv().unwrap().exit_code(), Some(4));
            assert_eq!(
                Command::new("false").spawn(&own).unwrap().wait().unwrap().exit_code(),
                Some(1)
            );
        }
        drop((closed, exec, task, group, process, subscription));
        drop(bus);
        drop(wide);
    });
    to_kill.signal(libc::SIGKILL).unwrap();
}

#[test]
fn the_parent_goes_on() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    bus.publish_pid(1, 0).unwrap();
    let process = Command::new("sleep").arg("1000").spawn(&bus).unwrap();
    let inherited = (bus.clone(), process.clone(), &subscription);
    in_child(|| {
        let _ = inherited.2.close();
        drop(inherited);
    });
    bus.publish_pid(2, 0).unwrap();
    assert_eq!(subscription.recv().unwrap().pid(), 1);
    assert_eq!(subscription.recv().unwrap().pid(), 2);
    process.signal(libc::SIGKILL).unwrap();
    assert_eq!(process.wait().unwrap().exit_code(), Some(137));
    assert_eq!(bus.stats().unwrap().subscriptions, 1);
}
