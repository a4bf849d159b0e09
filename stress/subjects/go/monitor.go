// SPDX-License-Identifier: MIT OR Apache-2.0

// A template: a subject for exitbus-stress in Go, built as a shared object (-buildmode=c-shared). As
// in containerd's runtimes, a list of subscriptions is behind a Mutex. Go's pointers must not stay in
// C, so the handles that the engine holds are numbers (runtime/cgo). Put your own monitor in the
// place of this one.
package main

// #include <errno.h>
// #include "subject.h"
import "C"

import (
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// --------------------------------------------------------------------------------- the monitor

type subscription struct {
	monitor *monitor
	topic   C.struct_subject_topic
	queue   []C.struct_subject_event
	ready   chan struct{} // holds one token while the queue may have something
}

type monitor struct {
	lock          sync.Mutex
	seq           uint64
	subscriptions map[*subscription]bool
}

func (m *monitor) publish(event C.struct_subject_event) uint64 {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.seq++
	event.seq = C.uint64_t(m.seq)
	for s := range m.subscriptions {
		if C.subject_matches(&s.topic, &event) {
			s.queue = append(s.queue, event)
			select {
			case s.ready <- struct{}{}:
			default:
			}
		}
	}
	return m.seq
}

func (s *subscription) take() (C.struct_subject_event, bool) {
	s.monitor.lock.Lock()
	defer s.monitor.lock.Unlock()
	if len(s.queue) == 0 {
		return C.struct_subject_event{}, false
	}
	event := s.queue[0]
	s.queue = s.queue[1:]
	return event, true
}

// ------------------------------------------------------------------------------- the C functions

// A handle is a number, which C keeps as a pointer.
func give(value any) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&[]cgo.Handle{cgo.NewHandle(value)}[0]))
}

func handle(pointer unsafe.Pointer) cgo.Handle {
	return cgo.Handle(uintptr(pointer))
}

//export goCreate
func goCreate(bus *unsafe.Pointer) C.int {
	*bus = give(&monitor{subscriptions: map[*subscription]bool{}})
	return 0
}

//export goDestroy
func goDestroy(bus unsafe.Pointer) C.int {
	handle(bus).Delete()
	return 0
}

//export goPublish
func goPublish(bus unsafe.Pointer, event *C.struct_subject_event, seq *C.uint64_t) C.int {
	*seq = C.uint64_t(handle(bus).Value().(*monitor).publish(*event))
	return 0
}

//export goSubscribe
func goSubscribe(bus unsafe.Pointer, topic *C.struct_subject_topic, made *unsafe.Pointer) C.int {
	m := handle(bus).Value().(*monitor)
	s := &subscription{monitor: m, topic: *topic, ready: make(chan struct{}, 1)}
	m.lock.Lock()
	m.subscriptions[s] = true
	m.lock.Unlock()
	*made = give(s)
	return 0
}

//export goUnsubscribe
func goUnsubscribe(made unsafe.Pointer) C.int {
	s := handle(made).Value().(*subscription)
	s.monitor.lock.Lock()
	delete(s.monitor.subscriptions, s)
	s.monitor.lock.Unlock()
	handle(made).Delete()
	return 0
}

//export goReceive
func goReceive(made unsafe.Pointer, event *C.struct_subject_event, timeout_ns C.int64_t) C.ssize_t {
	s := handle(made).Value().(*subscription)
	var over <-chan time.Time
	if timeout_ns > 0 {
		timer := time.NewTimer(time.Duration(timeout_ns))
		defer timer.Stop()
		over = timer.C
	}
	for {
		if taken, ok := s.take(); ok {
			*event = taken
			return 1
		}
		if timeout_ns == 0 {
			return -C.EAGAIN
		}
		select {
		case <-s.ready:
		case <-over:
			return -C.ETIMEDOUT
		}
	}
}

func main() {}
