# SPDX-License-Identifier: MIT OR Apache-2.0
"""Buses, subscriptions and reapers: what they do, and how they end."""

import ctypes
import errno
import gc
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import unittest

import exitbus
from common import LONG, Case, open_files, passes_in_child, threads, until
from exitbus import Bus, Event, EventKind, Process, Reaper, ReaperFlag, ReaperMode, Subscription
from exitbus import SubscribeFlag, Topic


class Publish(Case):
    def test_each_way_to_publish_arrives_in_order(self):
        with Subscription(self.bus, Topic.all()) as sub:
            self.bus.publish_pid(7, 3)
            self.bus.publish_exec("web", "probe", 4)
            usage = os.wait4(os.posix_spawnp("true", ["true"], os.environ), 0)[2]
            self.bus.publish_wait(8, 9, usage)
            seq = self.bus.publish(Event(kind=EventKind.EXEC, container_id="w"))
            first = self.bus.publish_batch([Event(pid=9, exit_code=1), Event(pid=10)])
            events = []
            while len(events) < 6:
                events += sub.receive_batch()
        self.assertEqual([e.seq for e in events], [1, 2, 3, 4, 5, 6])
        self.assertEqual((seq, first), (4, 5))
        self.assertEqual((events[0].pid, events[0].exit_code, events[0].returncode), (7, 3, 3))
        self.assertEqual(events[1][-3:], ("web", "probe", None))
        self.assertEqual((events[2].returncode, events[2].exit_code), (-9, 137))
        self.assertEqual(events[2].max_rss_kib, usage.ru_maxrss)
        self.assertEqual(events[2].user_us, round(usage.ru_utime * 1e6))
        self.assertEqual((events[3].container_id, events[4].exit_code, events[5].pid), ("w", 1, 10))
        self.assertGreater(events[5].monotonic_ns, 0)

    def test_bad_events_are_refused_and_none_is_published(self):
        self.assert_error(errno.EINVAL, self.bus.publish_pid, 0, 0)
        self.assert_error(errno.EINVAL, self.bus.publish, Event(pid=0))
        self.assert_error(errno.EINVAL, self.bus.publish, Event(kind=77, pid=1))
        self.assert_error(errno.EINVAL, self.bus.publish_exec, "x" * 128, "", 0)
        self.assert_error(errno.EINVAL, self.bus.publish_batch, [])
        self.assert_error(errno.EINVAL, self.bus.publish_batch, [Event(pid=1)] * 65)
        self.assert_error(errno.EINVAL, self.bus.publish_batch, [Event(pid=1), Event(pid=0)])
        long_id = Event(kind=EventKind.EXEC, container_id="x" * 128)
        self.assert_error(errno.EINVAL, self.bus.publish, long_id)
        with self.assertRaises(ValueError):
            self.bus.publish_exec("a\0b", "", 0)
        self.assertEqual(self.bus.stats().published, 0)

    def test_an_event_is_small_immutable_and_hashable(self):
        event = Event(pid=1, exit_code=2)
        with self.assertRaises(AttributeError):
            event.pid = 3
        self.assertEqual(pickle.loads(pickle.dumps(event)), event)
        self.assertEqual(len({event, Event(pid=1, exit_code=2)}), 1)
        self.assertFalse(hasattr(event, "__dict__"))

    def test_topics_choose(self):
        topics = {
            Topic.all(): 4,
            Topic.any_pid(): 2,
            Topic.of_pid(1): 1,
            Topic.any_exec(): 2,
            Topic.container("c"): 2,
            Topic.exec("c", "e"): 1,
        }
        subs = {topic: Subscription(self.bus, topic) for topic in topics}
        self.bus.publish_pid(1, 0)
        self.bus.publish_pid(2, 0)
        self.bus.publish_exec("c", "e", 0)
        self.bus.publish_exec("c", "", 0)
        self.assertEqual({topic: sub.pending() for topic, sub in subs.items()}, topics)
        self.assert_error(errno.EINVAL, Subscription, self.bus, Topic.of_pid(0))
        self.assert_error(errno.EINVAL, Subscription, self.bus, Topic.container(""))

    def test_errors_have_the_text_of_the_library(self):
        error = self.assert_error(errno.EINVAL, Subscription, self.bus, Topic.all(), 0x80)
        self.assertEqual(error.strerror, "invalid argument")
        self.assertIsInstance(error, OSError)
        self.assertEqual(repr(pickle.loads(pickle.dumps(error))), repr(error))


class Receive(Case):
    def test_timeouts(self):
        with Subscription(self.bus, Topic.all()) as sub:
            self.assert_error(errno.EAGAIN, sub.receive, timeout=0)
            self.assert_error(errno.EAGAIN, sub.receive, timeout=-1)
            self.assert_error(errno.ETIMEDOUT, sub.receive, timeout=0.002)
            self.assert_error(errno.ETIMEDOUT, sub.receive_batch, timeout=1e-12)
            with self.assertRaises(TimeoutError):
                sub.receive(timeout=0.001)
            with self.assertRaises(ValueError):
                sub.receive(timeout=float("nan"))
            self.assert_error(errno.EINVAL, sub.receive_batch, 0)
            errors = []

            def other():
                for timeout in 0, 0.002:
                    try:
                        sub.receive(timeout)
                    except exitbus.Timeout as error:
                        errors.append(error.errno)
                errors.append(sub.receive(timeout=1e30).pid)

            thread = threading.Thread(target=other)
            thread.start()
            until(lambda: len(errors) == 2)
            self.bus.publish_pid(5, 0)
            thread.join()
            self.assertEqual(errors, [errno.EAGAIN, errno.ETIMEDOUT, 5])

    def test_the_main_thread_waits_and_is_woken(self):
        with Subscription(self.bus, Topic.all()) as sub:
            for timeout in None, float("inf"), 1e30, 50:
                thread = threading.Timer(0.01, self.bus.publish_pid, (5, 0))
                thread.start()
                self.assertEqual(sub.receive(timeout).pid, 5)
                thread.join()

    def test_the_main_thread_waits_without_a_free_descriptor(self):
        def publish():
            until(lambda: self.bus.stats().sleeping_receivers == 1)
            self.bus.publish_pid(5, 0)

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with Subscription(self.bus, Topic.all()) as sub:
            thread = threading.Thread(target=publish)
            thread.start()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                self.assert_error(errno.EMFILE, sub.fileno)
                self.assertEqual(sub.receive(60).pid, 5)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            thread.join()

    def test_iteration_ends_with_the_subscription(self):
        sub = Subscription(self.bus, Topic.all())
        seen = []
        thread = threading.Thread(target=lambda: seen.extend(sub))
        thread.start()
        for pid in range(1, 101):
            self.bus.publish_pid(pid, 0)
        until(lambda: len(seen) == 100)
        sub.close()
        thread.join()
        self.assertEqual([event.seq for event in seen], list(range(1, 101)))

    def test_one_shot_and_sticky(self):
        once = Subscription(self.bus, Topic.all(), SubscribeFlag.ONE_SHOT)
        kept = Subscription(self.bus, Topic.all(), SubscribeFlag.STICKY)
        self.bus.publish_pid(1, 0)
        self.bus.publish_pid(2, 0)
        self.assertEqual([event.pid for event in once], [1])
        self.assertEqual([kept.receive().pid, kept.receive().pid], [1, 1])
        with self.assertRaises(TypeError):
            iter(kept)

    def test_each_event_goes_to_one_of_several_threads(self):
        sub, seen, lock = Subscription(self.bus, Topic.all()), [], threading.Lock()

        def work():
            for event in sub:
                with lock:
                    seen.append(event.seq)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        count = 100000 if LONG else 3000
        for pid in range(1, count + 1):
            self.bus.publish_pid(pid, 0)
        until(lambda: len(seen) == count)
        sub.close()
        for worker in workers:
            worker.join()
        self.assertEqual(sorted(seen), list(range(1, count + 1)))

    def test_the_descriptor_is_readable_while_there_are_events(self):
        with Subscription(self.bus, Topic.all()) as sub:
            poller = select.poll()
            poller.register(sub, select.POLLIN)
            self.bus.publish_pid(1, 0)
            self.assertTrue(poller.poll(0))
            sub.receive(0)
            self.assert_error(errno.EAGAIN, sub.receive, 0)
            self.assertFalse(poller.poll(0))
            self.bus.close()
            self.assertTrue(poller.poll(0))

    def test_ctrl_c_ends_a_wait_of_the_main_thread(self):
        script = (
            "import exitbus; bus = exitbus.Bus(); "
            "sub = exitbus.Subscription(bus, exitbus.Topic.all()); print(flush=True); sub.receive()"
        )
        child = subprocess.Popen(
            [sys.executable, "-B", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        child.stdout.readline()
        until(lambda: state(child.pid) == "S")
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(), -signal.SIGINT)
        child.stdout.close()


def state(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


class Close(Case):
    def test_twice_and_in_any_order(self):
        bus = Bus()
        sub, reaper = Subscription(bus, Topic.all()), Reaper(bus)
        self.assert_error(errno.EBUSY, bus.close)
        self.assertFalse(bus.closed)
        bus.publish_pid(1, 0)  # the bus lives on
        reaper.close()
        reaper.close()
        bus.close()
        bus.close()
        self.assertTrue(bus.closed)
        sub.close()
        sub.close()
        self.assertTrue(sub.closed and reaper.closed)

    def test_what_is_closed_says_so(self):
        bus = Bus()
        sub = Subscription(bus, Topic.all())
        process = Process.spawn(bus, ["true"])
        process.wait()
        bus.close()
        for call in (
            lambda: sub.receive(),
            lambda: sub.receive(0),
            lambda: bus.publish_pid(1, 0),
            lambda: bus.publish(Event(pid=1)),
            lambda: Subscription(bus, Topic.all()),
            lambda: Process.spawn(bus, ["true"]),
            lambda: Process.adopt(bus, os.getpid()),
            lambda: Reaper(bus),
        ):
            self.assert_error(errno.ESHUTDOWN, call)
        self.assertEqual(process.wait().returncode, 0)  # the exit stays
        sub.close()
        process.close()
        for call in sub.receive, sub.fileno, sub.pending, process.wait, lambda: process.pid:
            with self.assertRaises(exitbus.Closed):
                call()
        self.assertEqual(list(sub), [])

    def test_close_wakes_blocked_threads(self):
        for close in "subscription", "bus":
            bus = Bus()
            sub, ends = Subscription(bus, Topic.all()), []

            def work():
                try:
                    sub.receive()
                except exitbus.Closed:
                    ends.append(1)

            workers = [threading.Thread(target=work) for _ in range(4)]
            for worker in workers:
                worker.start()
            until(lambda: bus.stats().sleeping_receivers == 4)
            (sub if close == "subscription" else bus).close()
            for worker in workers:
                worker.join()
            self.assertEqual(len(ends), 4)
            bus.close()

    def test_calls_race_with_close(self):
        rounds = 2000 if LONG else 40
        for _ in range(rounds):
            bus = Bus()
            sub = Subscription(bus, Topic.all())
            process = Process.spawn(bus, ["true"])
            start, wrong = threading.Barrier(4), []

            def call(*functions):
                start.wait()
                try:
                    while True:
                        for function in functions:
                            function()
                except exitbus.Closed:
                    pass
                except BaseException as error:
                    wrong.append(error)

            def take():
                try:
                    sub.receive(0)
                except exitbus.Timeout:
                    pass

            workers = [
                threading.Thread(target=call, args=(lambda: bus.publish_pid(1, 0),)),
                threading.Thread(target=call, args=(take, sub.fileno, sub.pending)),
                threading.Thread(target=call, args=(process.fileno, lambda: process.pid)),
            ]
            for worker in workers:
                worker.start()
            start.wait()
            sub.close()
            bus.close()
            process.close()
            for worker in workers:
                worker.join()
            self.assertEqual(wrong, [])

    def test_close_by_many_threads_is_one_close(self):
        for _ in range(20):
            bus = Bus()
            reaper, sub = Reaper(bus), Subscription(bus, Topic.all())
            start = threading.Barrier(4)

            def close():
                start.wait()
                sub.close()
                reaper.close()
                sub.close()

            workers = [threading.Thread(target=close) for _ in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            bus.close()

    def test_dropped_in_any_order(self):
        for order in range(24):
            bus = Bus()
            things = [bus, Subscription(bus, Topic.all()), Process.spawn(bus, ["true"]), Reaper(bus)]
            del bus
            while things:
                things.pop(order % len(things))
                order //= max(len(things), 1)
        until(lambda: threads("exitbus-reaper") == 0)

    def test_dropped_in_a_cycle(self):
        for _ in range(5):
            bus = Bus()
            cycle = [Reaper(bus), bus, Subscription(bus, Topic.all()), Process.spawn(bus, ["true"])]
            cycle.append(cycle)
            del bus, cycle
            gc.collect()
        until(lambda: threads("exitbus-reaper") == 0)

    def test_a_subscription_keeps_its_bus(self):
        sub = Subscription(Bus(), Topic.all())
        self.assert_error(errno.EAGAIN, sub.receive, 0)

    def test_no_descriptor_is_left(self):
        gc.collect()
        before = open_files()
        for _ in range(100):
            with Subscription(self.bus, Topic.all()) as sub:
                sub.fileno()
        process = Process.spawn(self.bus, ["true"])
        process.fileno()
        process.wait()
        process.close()
        with Bus() as bus, Reaper(bus):
            pass
        self.bus.close()
        until(lambda: open_files() <= before)


class Fork(Case):
    def test_a_forked_child_is_told(self):
        sub = Subscription(self.bus, Topic.all())
        process = Process.spawn(self.bus, ["sleep", "1000"])
        with Bus() as other:
            reaper = Reaper(other, flags=ReaperFlag.POLLED)
            default = Bus.default()
            group = exitbus.Group.set(self.bus, "g")

            def child():
                calls = [
                    sub.receive,
                    lambda: sub.receive(0),
                    sub.fileno,
                    sub.pending,
                    lambda: self.bus.publish_pid(1, 0),
                    lambda: self.bus.publish(Event(pid=1)),
                    self.bus.stats,
                    lambda: Subscription(self.bus, Topic.all()),
                    lambda: Process.spawn(self.bus, ["true"]),
                    lambda: process.wait(),
                    process.fileno,
                    lambda: process.pid,
                    lambda: process.signal(9),
                    reaper.poll,
                    reaper.fileno,
                    lambda: reaper.watch(1),
                    lambda: default.publish_pid(1, 0),
                    lambda: group.add(process),
                    lambda: group.wait(0),
                ]
                for call in calls:
                    self.assert_error(errno.ESTALE, call)
                for thing in sub, process, group, reaper, self.bus, other:
                    thing.close()
                with Bus() as own:
                    self.assertEqual(Process.spawn(own, ["sh", "-c", "exit 3"]).wait().exit_code, 3)
                Bus.default().publish_pid(1, 0)

            self.assertTrue(passes_in_child(child))
            reaper.close()
        self.bus.publish_pid(1, 0)
        self.assertEqual(sub.receive(1).pid, 1)
        process.signal(signal.SIGKILL)
        self.assertEqual(process.wait().returncode, -9)

    def test_a_fork_while_threads_are_in_calls(self):
        sub, stop = Subscription(self.bus, Topic.all()), threading.Event()
        blocked = threading.Thread(target=list, args=(sub,))

        def publish():
            while not stop.is_set():
                self.bus.publish_pid(1, 0)

        publisher = threading.Thread(target=publish)
        blocked.start()
        publisher.start()
        try:
            for _ in range(20):
                self.assertTrue(
                    passes_in_child(lambda: self.assert_error(errno.ESTALE, sub.receive))
                )
        finally:
            stop.set()
            publisher.join()
            sub.close()
            blocked.join()


class Shutdown(unittest.TestCase):
    """The end of the interpreter, with everything left open."""

    SCRIPT = """
import exitbus, threading, sys
from exitbus import aio
bus = exitbus.Bus()
sub = exitbus.Subscription(bus, exitbus.Topic.all())
process = exitbus.Process.spawn(bus, ["sleep", "1000"], death_signal=9)
reaper = exitbus.Reaper(bus)
{cycle}
threading.Thread(target=sub.receive, daemon=True).start()
threading.Thread(target=process.wait, daemon=True).start()
while bus.stats().sleeping_receivers < 1: pass
{last}
"""

    def test_nothing_hangs_and_nothing_is_printed(self):
        for cycle in "", "ring = [bus, sub, reaper]; ring.append(ring)":
            for last in "", "sys.exit(0)", "sys.modules['kept'] = reaper; del exitbus":
                script = self.SCRIPT.format(cycle=cycle, last=last)
                done = subprocess.run(
                    [sys.executable, "-B", "-X", "dev", "-c", script],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    timeout=60,
                )
                self.assertEqual((done.returncode, done.stdout), (0, b""), script)


class Reapers(Case):
    def test_watched(self):
        with Subscription(self.bus, Topic.any_pid()) as sub, Reaper(self.bus) as reaper:
            pid = os.posix_spawnp("sh", ["sh", "-c", "exit 4"], os.environ)
            reaper.watch(pid)
            self.assertEqual(sub.receive(60)[1:6], (pid, EventKind.PID, 0, 4 << 8, 4))
            self.assert_error(errno.ECHILD, reaper.watch, 1)
            self.assert_error(errno.EINVAL, reaper.watch, 0)
            self.assert_error(errno.ENOTSUP, reaper.poll)

    def test_polled_with_details(self):
        flags = ReaperFlag.POLLED | ReaperFlag.DETAILS
        with Subscription(self.bus, Topic.any_pid()) as sub:
            with Reaper(self.bus, ReaperMode.WATCHED, flags) as reaper:
                pid = os.posix_spawnp("sleep", ["sleep", "0.01"], os.environ)
                reaper.watch(pid)
                self.assertTrue(select.select([reaper], [], [], 60)[0])
                while reaper.poll() == 0:
                    select.select([reaper], [], [], 60)
                event = sub.receive(0)
                self.assertEqual((event.pid, event.details.comm), (pid, "sleep"))
                self.assertGreater(event.details.start_ns, 0)
                self.bus.publish(event)  # without details
                self.assertIsNone(sub.receive(0).details)

    def test_all(self):
        with Subscription(self.bus, Topic.any_pid()) as sub:
            with Reaper(self.bus, ReaperMode.ALL) as reaper:
                pid = os.posix_spawnp("sh", ["sh", "-c", "kill -9 $$"], os.environ)
                event = next(event for event in sub if event.pid == pid)
                self.assertEqual(event[2:6], (EventKind.PID, 0, 9, 137))
                self.assert_error(errno.ENOTSUP, reaper.watch, pid)
                self.assert_error(errno.EBUSY, Reaper, self.bus, ReaperMode.ALL)

    def test_a_reaper_that_has_no_heir_goes_on(self):
        clone_newpid = 0x20000000

        def child():
            bus = Bus()
            reaper = Reaper(bus)
            process = Process.spawn(bus, ["sleep", "1000"], death_signal=signal.SIGKILL)
            if ctypes.CDLL(None).unshare(clone_newpid) == 0:  # from now on no thread starts
                self.assert_error(errno.EINVAL, reaper.close)
                self.assertFalse(reaper.closed)
            else:
                print("skipped: a new pid namespace takes privileges")
            process.signal(signal.SIGKILL)
            self.assertEqual(process.wait(60).returncode, -9)
            reaper.close()
            bus.close()

        self.assertTrue(passes_in_child(child))

    def test_a_bad_mode_or_flag(self):
        self.assert_error(errno.EINVAL, Reaper, self.bus, 3)
        self.assert_error(errno.EINVAL, Reaper, self.bus, ReaperMode.ALL, 1 << 20)


if __name__ == "__main__":
    unittest.main()
