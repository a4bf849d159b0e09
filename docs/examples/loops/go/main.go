// SPDX-License-Identifier: MIT OR Apache-2.0

// Exits in Go: a goroutine waits for the descriptor at the netpoller, and holds no thread meanwhile.
//
//	go build -o exits . && ./exits 20000 200
package main

// #cgo pkg-config: exitbus
// #include "../feed.h"
// #include <fcntl.h>
//
// static int copy_descriptor(int fd)
// {
//     return fcntl(fd, F_DUPFD_CLOEXEC, 3);
// }
import "C"

import (
	"log"
	"os"
	"time"
)

func must(what string, result C.int) C.int {
	if result < 0 {
		log.Fatalf("%s: %s", what, C.GoString(C.exitbus_strerror(result)))
	}
	return result
}

// receiveAll receives until -EAGAIN: the netpoller is edge-triggered, and only the next event behind
// that makes an edge.
func receiveAll(exits *C.struct_exitbus_subscription, feed *C.struct_feed) {
	var event C.struct_exitbus_event
	for {
		switch result := C.exitbus_receive(exits, &event, 0); result {
		case 0:
			C.feed_event(feed, &event) // your code
		case -C.EAGAIN:
			return
		case -C.ENOMEM: // no edge tells that there is memory again
			time.Sleep(100 * time.Millisecond)
		default:
			must("exitbus_receive", result)
		}
	}
}

// watch waits for exits until no more are to come.
func watch(exits *C.struct_exitbus_subscription, feed *C.struct_feed) error {
	// Go closes what it is given, by a finalizer too. The descriptor is the subscription's, so Go
	// is given a copy.
	fd := C.copy_descriptor(must("exitbus_subscription_fd", C.exitbus_subscription_fd(exits)))
	file := os.NewFile(uintptr(fd), "exits")
	if file == nil {
		log.Fatal("the descriptor can't be copied")
	}
	defer file.Close() // out of the netpoller
	ready, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return ready.Read(func(uintptr) bool {
		receiveAll(exits, feed)
		return !bool(C.feed_woken(feed)) // false: wait, and come again
	})
}

func main() {
	var bus *C.struct_exitbus
	var exits *C.struct_exitbus_subscription
	feed := (*C.struct_feed)(C.calloc(1, C.sizeof_struct_feed))
	arguments := make([]*C.char, len(os.Args))
	for i, argument := range os.Args {
		arguments[i] = C.CString(argument)
	}
	C.feed_arguments(feed, C.CString("go"), C.int(len(arguments)), &arguments[0], false)
	must("exitbus_create", C.exitbus_create(&bus, nil))
	must("exitbus_subscribe", C.exitbus_subscribe(bus, C.exitbus_topic_any_pid(), 0, &exits))
	C.feed_start(feed, bus)
	if err := watch(exits, feed); err != nil {
		log.Fatal(err)
	}
	// It is out of the loop: the descriptor that unsubscribe closes is watched by nobody.
	must("exitbus_unsubscribe", C.exitbus_unsubscribe(exits))
	C.feed_end(feed)
	must("exitbus_destroy", C.exitbus_destroy(bus))
}
