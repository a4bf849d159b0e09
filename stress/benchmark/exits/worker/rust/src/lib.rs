// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio::process as a peer: a task for each child, which waits for it; a runtime of one thread, in
//! the thread that calls. The C side is ../tokio.c.

use std::cell::RefCell;
use std::ffi::{CStr, OsStr};
use std::os::raw::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

struct Peer {
    runtime: Runtime,
    sender: UnboundedSender<c_int>,
    receiver: UnboundedReceiver<c_int>,
}

thread_local! {
    static PEER: RefCell<Option<Peer>> = const { RefCell::new(None) };
}

fn with_peer(body: impl FnOnce(&mut Peer) -> c_int) -> c_int {
    PEER.with(|peer| peer.borrow_mut().as_mut().map_or(-1, body))
}

#[no_mangle]
pub extern "C" fn exits_tokio_start() -> c_int {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
        return -1;
    };
    let (sender, receiver) = unbounded_channel();
    PEER.with(|peer| *peer.borrow_mut() = Some(Peer { runtime, sender, receiver }));
    0
}

/// # Safety
/// `path` and `argument` are terminated strings.
#[no_mangle]
pub unsafe extern "C" fn exits_tokio_spawn(
    path: *const c_char,
    argument: *const c_char,
    awaited: c_int,
) -> c_int {
    let text = |string| OsStr::from_bytes(unsafe { CStr::from_ptr(string) }.to_bytes());
    with_peer(|peer| {
        let entered = peer.runtime.enter();
        let Ok(mut child) = Command::new(text(path)).arg(text(argument)).spawn() else {
            return -1;
        };
        drop(entered);
        let pid = child.id().map_or(-1, |id| id as c_int);
        let sender = peer.sender.clone();
        peer.runtime.spawn(async move {
            if child.wait().await.is_ok() && awaited != 0 {
                let _ = sender.send(pid);
            }
        });
        pid
    })
}

#[no_mangle]
pub extern "C" fn exits_tokio_await() -> c_int {
    with_peer(|peer| peer.runtime.block_on(peer.receiver.recv()).unwrap_or(-1))
}
