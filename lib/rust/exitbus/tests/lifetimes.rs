// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects are dropped in any order, on any thread, while others use what they belong to.
use exitbus::{
    sys, Bus, Command, Error, Exec, Group, Process, Reaper, ReaperOptions, Subscription, Task,
    TaskOptions, Topic,
};
use std::os::raw::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

fn assert_both<T: Send + Sync>() {}

#[test]
fn handles_may_be_sent_and_shared() {
    assert_both::<Bus>();
    assert_both::<Subscription>();
    assert_both::<Reaper>();
    assert_both::<Process>();
    assert_both::<Group>();
    assert_both::<Task>();
    assert_both::<Exec>();
}

#[test]
fn a_subscription_keeps_its_bus() {
    let bus = Bus::new().unwrap();
    let clone = bus.clone();
    let subscription = bus.subscribe(Topic::All).unwrap();
    drop(bus);
    clone.publish_pid(1, 0).unwrap();
    thread::spawn(move || drop(clone)).join().unwrap();
    assert_eq!(subscription.recv().unwrap().pid(), 1); // nothing is lost
    assert!(subscription.try_recv().unwrap().is_none());
}

#[test]
fn a_blocked_receiver_wakes_when_it_is_closed() {
    let bus = Bus::new().unwrap();
    let subscription = bus.subscribe(Topic::All).unwrap();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| subscription.recv());
        while bus.stats().unwrap().sleeping_receivers == 0 {
            thread::yield_now();
        }
        drop(bus);
        subscription.close().unwrap();
        assert_eq!(receiver.join().unwrap().unwrap_err(), Error::Closed);
    });
}

unsafe fn held<'a>(context: *mut c_void) -> &'a AtomicUsize {
    &*context.cast()
}

unsafe extern "C" fn allocate(context: *mut c_void, size: usize, alignment: usize) -> *mut c_void {
    let mut memory = std::ptr::null_mut();
    if libc::posix_memalign(&mut memory, alignment, size) != 0 {
        return std::ptr::null_mut();
    }
    held(context).fetch_add(size, Ordering::SeqCst);
    memory
}

unsafe extern "C" fn release(context: *mut c_void, memory: *mut c_void, size: usize) {
    held(context).fetch_sub(size, Ordering::SeqCst);
    libc::free(memory);
}

/// A bus that counts the bytes that it holds.
fn counted_bus(held: &'static AtomicUsize) -> Bus {
    let allocator = sys::exitbus_allocator {
        allocate: Some(allocate),
        release: Some(release),
        context: held as *const AtomicUsize as *mut c_void,
    };
    let options = sys::exitbus_options { flags: 0, allocator: &allocator };
    let mut bus = std::ptr::null_mut();
    assert_eq!(unsafe { sys::exitbus_create(&mut bus, &options) }, 0);
    unsafe { Bus::from_raw(bus) }.unwrap()
}

/// Wait until the bus is destroyed: its memory is freed behind a grace period.
fn is_destroyed(held: &AtomicUsize) {
    while held.load(Ordering::SeqCst) > 0 {
        thread::yield_now();
    }
}

#[test]
fn a_bus_goes_with_the_last_of_its_things_on_any_thread() {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    for round in 0..10 {
        let bus = counted_bus(&HELD);
        let subscriptions: Vec<_> = (0..4).map(|_| bus.subscribe(Topic::All).unwrap()).collect();
        let process = Command::new("true").spawn(&bus).unwrap();
        let group = Group::set(&bus, "job").unwrap();
        let task = Task::new(&bus, "web", &TaskOptions::default()).unwrap();
        let exec = task.reserve("probe").unwrap();
        let mut threads = Vec::new();
        for (i, subscription) in subscriptions.into_iter().enumerate() {
            let bus = bus.clone();
            threads.push(thread::spawn(move || {
                bus.publish_pid(1, 0).unwrap();
                if (i + round) % 2 == 0 {
                    drop((bus, subscription));
                } else {
                    drop((subscription, bus));
                }
            }));
        }
        assert!(HELD.load(Ordering::SeqCst) > 0);
        drop(bus);
        threads.push(thread::spawn(move || drop((task, exec))));
        threads.push(thread::spawn(move || drop((process, group))));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        is_destroyed(&HELD);
    }
}

#[test]
fn a_dropped_subscription_costs_the_bus_nothing() {
    let bus = Bus::new().unwrap();
    let subscriptions: Vec<_> = (0..100).map(|_| bus.subscribe(Topic::AnyPid).unwrap()).collect();
    let one_shot = bus.subscribe_one_shot(Topic::AnyPid).unwrap();
    assert_eq!(bus.stats().unwrap().subscriptions, 101);
    thread::spawn(move || drop((subscriptions, one_shot))).join().unwrap();
    assert_eq!(bus.stats().unwrap().subscriptions, 0);
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_descriptor_is_closed_with_its_subscription() {
    // Other tests open descriptors meanwhile, so many are needed to see that these are gone.
    const MANY: usize = 500;
    let bus = Bus::new().unwrap();
    let before = descriptors();
    let subscriptions: Vec<_> = (0..MANY).map(|_| bus.subscribe(Topic::All).unwrap()).collect();
    for subscription in &subscriptions {
        subscription.fd().unwrap();
        subscription.close().unwrap();
    }
    assert!(descriptors() >= before + MANY - 100, "closed, but not dropped");
    drop(subscriptions);
    while descriptors() > before + 100 {
        thread::yield_now();
    }
}

#[test]
fn handles_keep_their_bus() {
    let bus = Bus::new().unwrap();
    let sleeper = Command::new("sleep").arg("1000").spawn(&bus).unwrap();
    let group = Group::set(&bus, "job").unwrap();
    group.add(&sleeper).unwrap();
    let task = Task::new(&bus, "web", &TaskOptions::default()).unwrap();
    thread::spawn(move || drop(bus)).join().unwrap();

    let leader = task.reserve("").unwrap();
    leader.started(sleeper.pid().unwrap()).unwrap();
    drop(task);
    let (clone, other) = (group.clone(), leader.clone());
    drop((group, leader));
    clone.end(libc::SIGTERM, None).unwrap();
    clone.wait().unwrap();
    assert_eq!(sleeper.wait().unwrap().exit_code(), Some(143));
    assert_eq!(other.wait().unwrap().exit_code(), Some(143));
}

#[test]
fn handles_are_dropped_while_others_use_theirs() {
    for _ in 0..10 {
        let bus = Bus::new().unwrap();
        let sleeper = Command::new("sleep").arg("1000").spawn(&bus).unwrap();
        let group = Group::set(&bus, "job").unwrap();
        group.add(&sleeper).unwrap();
        let task = Task::new(&bus, "web", &TaskOptions::default()).unwrap();
        let exits = bus.subscribe(Topic::AnyPid).unwrap();
        let (of_group, of_sleeper) = (group.clone(), sleeper.clone());
        let threads = [
            thread::spawn(move || assert_eq!(of_group.wait().unwrap().container_id(), "job")),
            thread::spawn(move || {
                assert_eq!(of_sleeper.wait().unwrap().exit_code(), Some(137));
            }),
            thread::spawn(move || assert_eq!(exits.recv().unwrap().exit_code(), Some(137))),
            thread::spawn(move || {
                for _ in 0..100 {
                    task.reserve("probe").unwrap().cancel().unwrap();
                }
            }),
        ];
        drop(bus);
        drop(sleeper);
        group.end(libc::SIGKILL, None).unwrap();
        drop(group); // one that was ended goes on to end
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_reaper_keeps_its_bus() {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    let bus = counted_bus(&HELD);
    let exits = bus.subscribe(Topic::AnyPid).unwrap();
    let reaper = ReaperOptions::watched().start(&bus).unwrap();
    drop(bus);
    let mut child = std::process::Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
    reaper.watch(child.id() as i32).unwrap();
    assert_eq!(exits.recv().unwrap().exit_code(), Some(5));
    drop(exits);
    assert!(HELD.load(Ordering::SeqCst) > 0);
    drop(reaper);
    is_destroyed(&HELD);
    assert!(child.wait().is_err()); // the reaper has taken the status
}
