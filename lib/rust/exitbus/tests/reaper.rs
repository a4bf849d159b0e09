// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reapers, of which a process has few: one test at a time.
use exitbus::{read_record, Bus, Command, Error, Reaper, ReaperOptions, Topic};
use std::fs::OpenOptions;
use std::os::unix::io::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard};

static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A child that other code has made. Returns its pid.
fn foreign(script: &str) -> i32 {
    std::process::Command::new("sh").args(["-c", script]).spawn().unwrap().id() as i32
}

#[test]
fn an_all_reaper_collects_every_child_with_details() {
    let _alone = alone();
    let bus = Bus::new().unwrap();
    let exits = bus.subscribe(Topic::AnyPid).unwrap();
    let mut reaper = ReaperOptions::all().subreaper().details().start(&bus).unwrap();
    assert_eq!(ReaperOptions::all().start(&bus).unwrap_err(), Error::Busy);
    let pid = foreign("exit 3");
    let event = exits.recv().unwrap();
    assert_eq!((event.pid(), event.exit_code()), (pid, Some(3)));
    let details = event.details().unwrap();
    assert_eq!(details.comm(), "sh");
    assert!(details.start > std::time::Duration::ZERO);
    // An orphan, which the subreaper adopts: its parent ends first.
    let parent = foreign("sleep 0.01 & exit 0");
    let pids = [exits.recv().unwrap().pid(), exits.recv().unwrap().pid()];
    assert!(pids.contains(&parent) && pids[0] != pids[1]);
    assert_eq!(reaper.watch(1), Err(Error::NotSupported));
    assert_eq!(reaper.fd().unwrap_err(), Error::NotSupported);
    assert_eq!(reaper.stop(), Ok(()));
    assert_eq!(reaper.stop(), Ok(())); // NULL is a no-op
    assert_eq!(reaper.poll().unwrap_err(), Error::InvalidArgument);
    ReaperOptions::all().start(&bus).unwrap();
}

#[test]
fn a_watched_reaper_leaves_others_alone() {
    let _alone = alone();
    let bus = Bus::new().unwrap();
    let exits = bus.subscribe(Topic::AnyPid).unwrap();
    let reaper = ReaperOptions::watched().start(&bus).unwrap();
    let other = foreign("exit 1");
    let ours = foreign("exit 2");
    reaper.watch(ours).unwrap();
    assert_eq!(exits.recv().unwrap().pid(), ours);
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(other, &mut status, 0) }, other);
    assert_eq!(libc::WEXITSTATUS(status), 1);
    while reaper.watch(ours) == Ok(()) {
        std::thread::yield_now(); // its event is out before it is reaped
    }
    assert_eq!(reaper.watch(ours), Err(Error::NotAChild));
    assert_eq!(reaper.watch(0), Err(Error::InvalidArgument));
    assert!(exits.try_recv().unwrap().is_none());
}

#[test]
fn a_polled_reaper_works_when_it_is_called() {
    let _alone = alone();
    let bus = Bus::new().unwrap();
    let exits = bus.subscribe(Topic::AnyPid).unwrap();
    let reaper = ReaperOptions::watched().polled().start(&bus).unwrap();
    let process = Command::new("true").spawn(&bus).unwrap();
    let fd = reaper.fd().unwrap().as_raw_fd();
    while exits.pending().unwrap() == 0 {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        assert!(unsafe { libc::poll(&mut poll, 1, -1) } == 1);
        reaper.poll().unwrap();
    }
    assert_eq!(reaper.poll(), Ok(0));
    assert_eq!(process.try_wait().unwrap().unwrap().exit_code(), Some(0));
}

#[test]
fn a_record_has_each_exit() {
    let _alone = alone();
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let open = |name: &str| {
        let path = folder.join(name);
        let _ = std::fs::remove_file(&path);
        OpenOptions::new().create(true).append(true).read(true).open(path).unwrap()
    };
    let (first, second) = (open("first"), open("second"));
    let bus = Bus::new().unwrap();
    let reaper = ReaperOptions::watched().record(first.as_fd()).start(&bus).unwrap();
    let run = |code: i32| {
        let process = Command::new("sh").args(["-c", &format!("exit {code}")]).spawn(&bus).unwrap();
        assert_eq!(process.wait().unwrap().exit_code(), Some(code));
    };
    run(1);
    run(2);
    reaper.record(second.as_fd()).unwrap();
    run(3);
    let codes = |file: &std::fs::File| -> Vec<i32> {
        let mut offset = 0;
        std::iter::from_fn(|| read_record(file.as_fd(), &mut offset).unwrap())
            .map(|event| event.exit_code().unwrap())
            .collect()
    };
    assert_eq!((codes(&first), codes(&second)), (vec![1, 2], vec![3]));
    let directory = std::fs::File::open("/").unwrap();
    assert_eq!(reaper.record(directory.as_fd()), Err(Error::InvalidArgument));
    drop(reaper);
    let damaged = OpenOptions::new().append(true).open(folder.join("second")).unwrap();
    std::io::Write::write_all(&mut &damaged, &[7; 128]).unwrap();
    let mut offset = 128;
    assert_eq!(read_record(second.as_fd(), &mut offset).unwrap_err(), Error::Damaged);
    assert!(read_record(second.as_fd(), &mut offset).unwrap().is_none());
}

#[test]
fn a_reaper_is_dropped_on_another_thread() {
    let _alone = alone();
    for _ in 0..3 {
        let bus = Bus::new().unwrap();
        let reaper: Reaper = ReaperOptions::all().start(&bus).unwrap();
        let thread = std::thread::spawn(move || drop(reaper));
        drop(bus);
        thread.join().unwrap();
    }
    let bus = Bus::new().unwrap();
    ReaperOptions::all().start(&bus).unwrap(); // none is left
}
