// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names at the top of the crate, as a shim's code takes them: without the feature `async`
//! those for threads, with it those for tokio.
use exitbus_shim_monitor::{
    self as monitor, monitor_subscribe, ExitEvent, Subject, Topic, MONITOR,
};
use std::collections::HashMap;

#[cfg(not(feature = "async"))]
#[test]
fn threads_take_them() {
    let s = monitor_subscribe(Topic::All).unwrap();
    let id: i64 = s.id;
    monitor::monitor_notify_by_pid(13, 128).unwrap();
    let code = match s.rx.recv() {
        Ok(ExitEvent { subject: Subject::Pid(13), exit_code }) => exit_code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code, 128);
    let m = MONITOR.lock().unwrap();
    m.notify_by_exec("cid", "eid", 139).unwrap();
    m.notify_by_pid(14, 1).unwrap();
    drop(m);
    let events: Vec<ExitEvent> = s.rx.try_iter().collect();
    assert_eq!(events[0].subject, Subject::Exec("cid".into(), "eid".into()));
    assert_eq!(events.len(), 2);
    let mut m = MONITOR.lock().unwrap();
    let other = m.subscribe(Topic::Pid).unwrap();
    m.unsubscribe(other.id).unwrap();
    monitor::monitor_notify_by_pid(15, 7).unwrap();
    assert!(other.rx.recv().is_err());
    let thread = std::thread::spawn(move || monitor::wait_pid(15, s));
    assert_eq!(thread.join().unwrap(), 7);
    monitor::monitor_unsubscribe(id).unwrap();
    let timed = monitor_subscribe(Topic::Exec).unwrap();
    let timeout = std::time::Duration::from_millis(1);
    assert_eq!(timed.rx.recv_timeout(timeout), Err(std::sync::mpsc::RecvTimeoutError::Timeout));
}

#[cfg(feature = "async")]
#[test]
fn tasks_take_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut s = monitor_subscribe(Topic::All).await.unwrap();
        let id: i64 = s.id;
        let task = tokio::spawn(async move {
            let mut codes = Vec::new();
            while let Some(ExitEvent { subject, exit_code }) = s.rx.recv().await {
                codes.push(exit_code);
                if subject == Subject::Pid(14) {
                    break;
                }
            }
            monitor::monitor_unsubscribe(s.id).await.unwrap();
            (codes, s.rx.recv().await)
        });
        monitor::monitor_notify_by_pid(13, 128).await.unwrap();
        monitor::monitor_notify_by_exec("cid", "eid", 139).await.unwrap();
        let m = MONITOR.lock().await;
        m.notify_by_pid(14, 1).await.unwrap();
        m.notify_by_exec("cid", "", 2).await.unwrap();
        assert_eq!(task.await.unwrap(), (vec![128, 139, 1], None));
        monitor::monitor_unsubscribe(id).await.unwrap();
        let mut m = MONITOR.lock().await;
        let other = m.subscribe(Topic::Pid).unwrap();
        monitor::monitor_notify_by_pid(15, 7).await.unwrap();
        assert_eq!(monitor::wait_pid(15, other).await, 7);
        let mut blocking = m.subscribe(Topic::Pid).unwrap();
        let thread = std::thread::spawn(move || blocking.rx.blocking_recv().unwrap().exit_code);
        monitor::monitor_notify_by_pid(16, 8).await.unwrap();
        assert_eq!(thread.join().unwrap(), 8);
        m.unsubscribe(99).unwrap();
    });
}

/// What code does with the types.
#[test]
fn the_types_have_what_code_uses() {
    let mut by_topic: HashMap<Topic, u32> = HashMap::new();
    by_topic.insert(Topic::Pid, 1);
    assert_eq!(by_topic.get(&Topic::Pid), Some(&1));
    let subject = Subject::Exec("cid".into(), String::new());
    assert!(format!("{:?}", subject.clone()).contains("cid"));
    let event = ExitEvent { subject, exit_code: 3 };
    assert!(format!("{event}").contains("cid") && format!("{event:?}").contains('3'));
}
