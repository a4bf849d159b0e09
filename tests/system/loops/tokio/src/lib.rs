// SPDX-License-Identifier: MIT OR Apache-2.0
//! A subscription's descriptor in tokio, whose reactor is edge-triggered: AsyncFd, receive until
//! -EAGAIN, wait. Called by ../main.c.
use std::os::raw::{c_int, c_void};
use std::os::unix::io::{AsRawFd, RawFd};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// struct exitbus_event; larger than it is, and looked at by nobody here.
#[repr(C, align(64))]
struct Event([u8; 4096]);

extern "C" {
    fn exitbus_receive(subscription: *mut c_void, event: *mut Event, timeout_ns: i64) -> c_int;
    fn exitbus_subscription_fd(subscription: *mut c_void) -> c_int;
}

/// The library owns the descriptor: nothing here closes it.
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// What main.c is told.
#[repr(C)]
pub struct Seen {
    events: u64,
    wake_ups: u64,
    empty: u64,
}

const EAGAIN: c_int = 11;

async fn consume(subscription: *mut c_void, want: u64, received: extern "C" fn(u64), seen: &mut Seen) {
    let fd = Descriptor(unsafe { exitbus_subscription_fd(subscription) });
    let readiness = AsyncFd::with_interest(fd, Interest::READABLE).expect("AsyncFd");
    let mut event = Box::new(Event([0; 4096]));
    received(0);
    while seen.events < want {
        let mut guard = readiness.readable().await.expect("readable");
        let before = seen.events;
        loop {
            match unsafe { exitbus_receive(subscription, &mut *event, 0) } {
                0 => seen.events += 1,
                result => {
                    assert_eq!(result, -EAGAIN);
                    break;
                }
            }
        }
        guard.clear_ready();
        seen.wake_ups += 1;
        if seen.events == before {
            seen.empty += 1;
        }
        received(seen.events);
    }
}

/// Receive so many, and tell after each wake-up how many there have been.
#[no_mangle]
pub extern "C" fn tokio_consume(
    subscription: *mut c_void,
    want: u64,
    received: extern "C" fn(u64),
    seen: &mut Seen,
) {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime")
        .block_on(consume(subscription, want, received, seen));
}
