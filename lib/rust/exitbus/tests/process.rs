// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spawns, handles of processes, groups and tasks.
use exitbus::{sys, Bus, Command, Error, EventKind, Group, Process, Task, TaskOptions, Topic};
use std::io::{Read, Write};
use std::os::unix::io::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// What the child writes to its standard output.
fn output(bus: &Bus, mut command: Command) -> String {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let process = command.fd(1, theirs).spawn(bus).unwrap();
    drop(command); // and its copy of the socket
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(process.wait().unwrap().exit_code(), Some(0));
    text
}

#[test]
fn an_exit_stays_for_everybody() {
    let bus = Bus::new().unwrap();
    let exits = bus.subscribe(Topic::AnyPid).unwrap();
    let process = shell("exit 7").spawn(&bus).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(process.wait().unwrap().exit_code(), Some(7)));
        }
    });
    assert_eq!(process.try_wait().unwrap().unwrap().pid(), process.pid().unwrap());
    assert!(process.wait_timeout(Duration::ZERO).unwrap().is_some());
    assert_eq!(exits.recv().unwrap().pid(), process.pid().unwrap());
    assert_eq!(process.signal(0), Err(Error::NoSuchProcess));
}

#[test]
fn a_wait_ends_in_time_and_signals_arrive() {
    let bus = Bus::new().unwrap();
    let process = Command::new("sleep").arg("1000").process_group(0).spawn(&bus).unwrap();
    assert!(process.try_wait().unwrap().is_none());
    assert!(process.wait_timeout(Duration::from_millis(1)).unwrap().is_none());
    assert_eq!(process.signal(0), Ok(()));
    assert_eq!(process.signal(-1), Err(Error::InvalidArgument));
    let pidfd = process.pidfd().unwrap();
    let start = process.start_time().unwrap();
    let again = Process::adopt_pidfd(&bus, pidfd.as_fd()).unwrap();
    assert_eq!((again.pid(), again.start_time()), (process.pid(), Ok(start)));
    process.signal_group(libc::SIGTERM).unwrap();
    assert_eq!(process.wait().unwrap().exit_code(), Some(128 + libc::SIGTERM));
    assert_eq!(again.wait().unwrap().exit_code(), Some(128 + libc::SIGTERM));
}

#[test]
fn a_subscription_that_spawn_makes_has_the_one_exit() {
    let bus = Bus::new().unwrap();
    let (pid, exit) = shell("kill -9 $$").spawn_subscribed(&bus).unwrap();
    let event = exit.recv().unwrap();
    assert_eq!((event.pid(), event.exit_code()), (pid, Some(137)));
    assert_eq!(exit.recv().unwrap_err(), Error::Closed);
}

#[test]
fn a_child_is_given_what_the_command_says() {
    let bus = Bus::new().unwrap();
    let mut command = shell("echo \"$PWD $A $B $HOME\"");
    command.current_dir("/").env("A", "1").env("B", "2").env_remove("B").env("HOME", "h");
    assert_eq!(output(&bus, command), "/ 1  h\n");

    let mut command = shell("/usr/bin/env | grep -v '^PWD=\\|^_=\\|^SHLVL='");
    command.env("A", "1").env_clear().env("B", "é");
    assert_eq!(output(&bus, command), "B=é\n");

    let mut command = shell("read line; echo \"$? $line\"; ps -o pid=,sid= -p $$ | xargs");
    command.fd_null(0).setsid().close_from(3);
    let said = output(&bus, command);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[0], "1", "no line in /dev/null");
    assert_eq!(words[1], words[2], "it leads its session");
}

#[test]
fn descriptors_may_change_places() {
    let bus = Bus::new().unwrap();
    let file = |text: &str| {
        let mut ends = [0; 2];
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        let [ours, theirs] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        std::fs::File::from(theirs).write_all(text.as_bytes()).unwrap();
        ours
    };
    let (one, two) = (file("one\n"), file("two\n"));
    let (first, second) = (one.as_raw_fd(), two.as_raw_fd());
    let (target, last) = (first.min(second), first.max(second));
    let mut command =
        shell(&format!("read a </dev/fd/{target}; read b </dev/fd/{last}; echo $a $b"));
    let (to_target, to_last) = if target == first { (two, one) } else { (one, two) };
    command.fd(target, to_target).fd(last, to_last);
    let wanted = if target == first { "two one\n" } else { "one two\n" };
    assert_eq!(output(&bus, command), wanted);
}

#[test]
fn a_failed_spawn_says_where() {
    let bus = Bus::new().unwrap();
    let why = Command::new("/no/such/program").spawn(&bus).unwrap_err();
    assert_eq!(why.error(), Error::Other(libc::ENOENT));
    assert_eq!(why.step(), sys::EXITBUS_SPAWN_STEP_EXEC);
    assert_eq!(std::io::Error::from(why).kind(), std::io::ErrorKind::NotFound);

    let why = Command::new("true").current_dir("/no/such").spawn_subscribed(&bus).unwrap_err();
    assert_eq!(why.step(), sys::EXITBUS_SPAWN_STEP_DIRECTORY);
    assert!(why.to_string().contains("directory"), "{why}");

    for command in [
        Command::new("true").arg("a\0b"),
        Command::new("true").env("A\0", ""),
        Command::new("true").current_dir("\0"),
        Command::new("true").flags(sys::EXITBUS_SPAWN_SIGMASK),
        Command::new("true").flags(1 << 31),
        Command::new("true").death_signal(1000),
    ] {
        let why = command.spawn(&bus).unwrap_err();
        assert_eq!(why.error(), Error::InvalidArgument, "{command:?}");
        assert_eq!(why.step(), sys::EXITBUS_SPAWN_STEP_ARGUMENTS, "{command:?}");
    }
    let directory = std::fs::File::open("/").unwrap(); // of no cgroup
    let why = Command::new("true").cgroup(directory).spawn(&bus).unwrap_err();
    assert_eq!(why.step(), sys::EXITBUS_SPAWN_STEP_CGROUP);
    assert_eq!(bus.stats().unwrap().subscriptions, 0);
}

#[test]
fn children_of_others_are_adopted() {
    let bus = Bus::new().unwrap();
    let exits = bus.subscribe(Topic::AnyPid).unwrap();
    let mut child = std::process::Command::new("sh").args(["-c", "exit 4"]).spawn().unwrap();
    let process = Process::adopt(&bus, child.id() as i32).unwrap();
    assert_eq!(process.wait().unwrap().exit_code(), Some(4));
    assert_eq!(exits.recv().unwrap().exit_code(), Some(4));
    assert!(child.wait().is_err());
    assert_eq!(Process::adopt(&bus, 1).unwrap_err(), Error::NotAChild);
    assert_eq!(Process::adopt(&bus, 0).unwrap_err(), Error::InvalidArgument);
    let file = std::fs::File::open("/").unwrap();
    assert_eq!(Process::adopt_pidfd(&bus, file.as_fd()).unwrap_err(), Error::InvalidArgument);
}

#[test]
fn a_pidfd_may_be_of_a_foreign_process() {
    let bus = Bus::new().unwrap();
    // A grandchild, whose pid the shell tells.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let parent = shell("sleep 1000 & echo $!; wait").fd(1, theirs).spawn(&bus).unwrap();
    let mut text = [0; 16];
    let length = ours.read(&mut text).unwrap();
    let pid: i32 = std::str::from_utf8(&text[..length]).unwrap().trim().parse().unwrap();
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    assert!(pidfd >= 0);
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let process = Process::adopt_pidfd(&bus, pidfd.as_fd()).unwrap();
    assert_eq!(process.pid(), Ok(pid));
    process.signal(libc::SIGKILL).unwrap();
    let event = process.wait().unwrap();
    assert_eq!((event.pid(), event.seq()), (pid, 0)); // not published
    parent.wait().unwrap();
}

#[test]
fn a_group_ends_all_of_a_set() {
    let bus = Bus::new().unwrap();
    let empty = bus.subscribe(Topic::Container("job")).unwrap();
    let group = Group::set(&bus, "job").unwrap();
    let processes: Vec<_> =
        (0..3).map(|_| Command::new("sleep").arg("1000").spawn(&bus).unwrap()).collect();
    for process in &processes {
        group.add(process).unwrap();
    }
    assert!(group.try_wait().unwrap().is_none());
    group.end(libc::SIGTERM, None).unwrap();
    let event = group.wait().unwrap();
    assert_eq!((event.kind(), event.container_id().to_str()), (EventKind::Empty, Some("job")));
    for process in &processes {
        assert_eq!(process.try_wait().unwrap().unwrap().exit_code(), Some(143));
    }
    assert_eq!(empty.recv().unwrap().kind(), EventKind::Empty);
    assert_eq!(group.add(&processes[0]), Err(Error::Closed));
    assert_eq!(Group::set(&bus, "").unwrap_err(), Error::InvalidArgument);
    let other = Bus::new().unwrap();
    let group = Group::set(&other, "job").unwrap();
    assert_eq!(group.add(&processes[0]), Err(Error::InvalidArgument));
    let root = std::fs::File::open("/").unwrap();
    assert_eq!(Group::cgroup(&bus, "job", root.as_fd()).unwrap_err(), Error::InvalidArgument);
}

#[test]
fn grace_over_means_sigkill() {
    let bus = Bus::new().unwrap();
    let group = Group::set(&bus, "job").unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = shell("trap '' TERM; echo ready; while :; do sleep 1000; done");
    let process = command.fd(1, theirs).setsid().spawn(&bus).unwrap();
    ours.read_exact(&mut [0; 6]).unwrap(); // it ignores SIGTERM from now on
    group.add(&process).unwrap();
    group.end(libc::SIGTERM, Some(Duration::from_millis(1))).unwrap();
    group.wait().unwrap();
    assert_eq!(process.wait().unwrap().exit_code(), Some(137));
    let _ = process.signal_group(libc::SIGKILL); // its sleep, where the kernel can name it
}

#[test]
fn a_task_tells_the_lives_of_its_execs_in_order() {
    let bus = Bus::new().unwrap();
    let events = bus.subscribe(Topic::Container("web")).unwrap();
    let task = Task::new(&bus, "web", &TaskOptions::default()).unwrap();
    let leader = task.reserve("").unwrap();
    let exec = task.reserve("probe").unwrap();
    let failed = task.reserve("failed").unwrap();
    assert_eq!(task.reserve("").unwrap_err(), Error::Exists);
    failed.cancel().unwrap();
    assert_eq!(failed.wait().unwrap_err(), Error::Cancelled);

    let child = |script: &str| {
        std::process::Command::new("sh").args(["-c", script]).spawn().unwrap().id() as i32
    };
    leader.restarting().unwrap();
    leader.started(child("exit 1")).unwrap();
    leader.restarted().unwrap();
    exec.started(child("exec sleep 1000")).unwrap();
    assert_eq!(exec.started(1), Err(Error::AlreadyStarted));
    assert_eq!(events.recv().unwrap().kind(), EventKind::Started);
    let next = || loop {
        let event = events.recv().unwrap();
        if event.kind() != EventKind::Started {
            return event;
        }
    };
    // The leader's exit waits for that of the exec.
    let died = next();
    assert_eq!(died.kind(), EventKind::LeaderDied);
    assert!(leader.try_wait().unwrap().is_none());
    assert_eq!(task.reserve("late").unwrap_err(), Error::LeaderDied);
    exec.signal(libc::SIGKILL).unwrap();
    assert_eq!(exec.wait().unwrap().exit_code(), Some(137));
    assert_eq!(leader.wait().unwrap().exit_code(), Some(1));
    let names = [next(), next()];
    assert_eq!((names[0].exec_id(), names[1].exec_id()), ("probe".as_ref(), "".as_ref()));
    assert_eq!(task.end(libc::SIGKILL, None), Err(Error::NoSuchProcess));
}

#[test]
fn a_task_bound_cuts_the_wait_for_members_short() {
    let bus = Bus::new().unwrap();
    let options = TaskOptions { bound: Some(Duration::from_millis(1)), ..Default::default() };
    let task = Task::new(&bus, "web", &options).unwrap();
    let leader = task.reserve("").unwrap();
    let _member = task.reserve("never started").unwrap();
    let child = std::process::Command::new("true").spawn().unwrap();
    leader.started(child.id() as i32).unwrap();
    assert!(leader.wait().unwrap().cut_short());
}
