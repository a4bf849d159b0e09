// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each topic × each kind of event: it is delivered, or it is not.
mod common;

use common::{drain, Face};
use exitbus::{sys, Bus, Event};
use exitbus_shim_monitor::{Error, ExitEvent, Subject, Topic};

const TOPICS: [Topic; 3] = [Topic::Pid, Topic::Exec, Topic::All];

fn pid(pid: i32, exit_code: i32) -> ExitEvent {
    ExitEvent { subject: Subject::Pid(pid), exit_code }
}

fn exec(id: &str, exec_id: &str, exit_code: i32) -> ExitEvent {
    ExitEvent { subject: Subject::Exec(id.into(), exec_id.into()), exit_code }
}

fn notify<F: Face>(event: &ExitEvent) {
    match &event.subject {
        Subject::Pid(pid) => F::notify_by_pid(*pid, event.exit_code).unwrap(),
        Subject::Exec(id, exec_id) => F::notify_by_exec(id, exec_id, event.exit_code).unwrap(),
    }
}

fn is_to(topic: Topic, event: &ExitEvent) -> bool {
    match event.subject {
        Subject::Pid(_) => topic != Topic::Exec,
        Subject::Exec(..) => topic != Topic::Pid,
    }
}

fn each_kind_goes_to_its_topics<F: Face>() {
    let longest = "x".repeat(sys::EXITBUS_ID_MAX);
    let events = [
        pid(1, 0),
        pid(i32::MAX, 255),
        pid(7, 128 + 9),
        pid(7, -1),
        exec("web", "probe", 1),
        exec("web", "", 2),
        exec("é", "\u{1F600}", i32::MIN),
        exec(&longest, &longest, i32::MAX),
        exec("web", "probe", 1), // once more
    ];
    // One event at a time, and then all of them.
    let lists = events.iter().map(|event| vec![event.clone()]).chain([events.to_vec()]);
    for list in lists {
        let mut subscriptions = TOPICS.map(|topic| F::subscribe(topic).unwrap());
        list.iter().for_each(notify::<F>);
        for (topic, subscription) in TOPICS.iter().zip(&mut subscriptions) {
            let wanted: Vec<ExitEvent> =
                list.iter().filter(|event| is_to(*topic, event)).cloned().collect();
            let mut seen = Vec::new();
            for _ in &wanted {
                seen.push(F::recv(subscription).unwrap());
            }
            assert_eq!(seen, wanted, "{topic:?}");
            assert_eq!(drain::<F>(subscription), [], "{topic:?}");
        }
    }
}

fn events_that_are_no_exits_are_not_delivered<F: Face>() {
    let bus = Bus::process_wide().unwrap();
    let mut subscriptions = TOPICS.map(|topic| F::subscribe(topic).unwrap());
    let other = |kind: sys::exitbus_event_kind| {
        let mut event = *Event::of_exec("web", "probe", 1).unwrap().as_raw();
        event.kind = kind as u8;
        bus.publish(&event.into()).unwrap();
    };
    let kinds = [
        sys::EXITBUS_EVENT_EMPTY,
        sys::EXITBUS_EVENT_STARTED,
        sys::EXITBUS_EVENT_LEADER_DIED,
        sys::EXITBUS_EVENT_OOM,
    ];
    kinds.into_iter().for_each(other);
    F::notify_by_exec("web", "last", 3).unwrap();
    F::notify_by_pid(5, 4).unwrap();
    kinds.into_iter().for_each(other);
    let wanted =
        [vec![pid(5, 4)], vec![exec("web", "last", 3)], vec![exec("web", "last", 3), pid(5, 4)]];
    for (subscription, wanted) in subscriptions.iter_mut().zip(wanted) {
        for event in wanted {
            assert_eq!(F::recv(subscription), Some(event));
        }
        assert_eq!(drain::<F>(subscription), []);
    }
}

fn what_others_publish_is_delivered<F: Face>() {
    let bus = Bus::process_wide().unwrap();
    let mut subscription = F::subscribe(Topic::All).unwrap();
    bus.publish_wait(9, libc_status(0, 15), None).unwrap();
    let mut lost = *Event::of_pid(10, 0).as_raw();
    lost.flags = sys::EXITBUS_EVENT_STATUS_LOST as u8;
    bus.publish(&lost.into()).unwrap();
    assert_eq!(F::recv(&mut subscription), Some(pid(9, 128 + 15)));
    assert_eq!(F::recv(&mut subscription), Some(pid(10, -1)));
}

/// A wait status.
fn libc_status(exit_code: i32, signal: i32) -> i32 {
    exit_code << 8 | signal
}

fn what_is_not_valid_is_told_to_nobody<F: Face>() {
    let mut subscription = F::subscribe(Topic::All).unwrap();
    let long = "x".repeat(sys::EXITBUS_ID_MAX + 1);
    assert_eq!(F::notify_by_pid(0, 1), Err(Error::InvalidArgument));
    assert_eq!(F::notify_by_pid(-1, 1), Err(Error::InvalidArgument));
    for (id, exec_id) in [("", ""), ("", "x"), (&long, ""), ("x", &long), ("x\0", ""), ("x", "\0")]
    {
        assert_eq!(
            F::notify_by_exec(id, exec_id, 1),
            Err(Error::InvalidArgument),
            "{id} {exec_id}"
        );
    }
    assert_eq!(drain::<F>(&mut subscription), []);
}

fn each_subscription_has_its_own<F: Face>() {
    let mut first = F::subscribe(Topic::Pid).unwrap();
    F::notify_by_pid(1, 1).unwrap();
    let mut second = F::subscribe(Topic::Pid).unwrap();
    assert_ne!(F::id(&first), F::id(&second));
    F::notify_by_pid(2, 2).unwrap();
    assert_eq!(drain::<F>(&mut second), [pid(2, 2)]);
    assert_eq!(drain::<F>(&mut first), [pid(1, 1), pid(2, 2)]);
}

for_each_face!(
    each_kind_goes_to_its_topics,
    events_that_are_no_exits_are_not_delivered,
    what_others_publish_is_delivered,
    what_is_not_valid_is_told_to_nobody,
    each_subscription_has_its_own,
);

#[test]
fn an_exit_has_a_text() {
    assert_eq!(pid(4, 1).to_string(), "process 4 has exited with 1");
    assert_eq!(exec("web", "", 2).to_string(), "container web has exited with 2");
    assert_eq!(exec("web", "x", 3).to_string(), "exec x of container web has exited with 3");
}
