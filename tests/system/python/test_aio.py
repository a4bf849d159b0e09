# SPDX-License-Identifier: MIT OR Apache-2.0
"""asyncio: nothing is lost, hardly any wake-up is for nothing, and the child watcher."""

import asyncio
import errno
import gc
import os
import select
import selectors
import signal
import threading
import unittest
import warnings

import exitbus
from common import AWHILE_S, LONG, Case, children, open_files, passes_in_child, threads, until
from exitbus import Bus, Event, Reaper, ReaperFlag, ReaperMode, SubscribeFlag, Topic, aio

PER_EVENT = 1.05  # wake-ups, at most
NO_PID = 1 << 23  # and above: higher than the kernel's highest


class EdgeSelector(selectors.EpollSelector):
    """An epoll that tells of edges."""

    def register(self, fileobj, events, data=None):
        key = super().register(fileobj, events, data)
        mask = select.EPOLLET
        mask |= select.EPOLLIN if events & selectors.EVENT_READ else 0
        mask |= select.EPOLLOUT if events & selectors.EVENT_WRITE else 0
        self._selector.modify(key.fd, mask)
        return key


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that counts how often readers are called."""

    wake_ups = 0

    def add_reader(self, fd, callback, *arguments):
        def counted():
            self.wake_ups += 1
            callback(*arguments)

        super().add_reader(fd, counted)


class AsyncCase(Case):
    selector = selectors.EpollSelector

    def run_in_loop(self, coroutine):
        self.loop = CountingLoop(self.selector())
        asyncio.set_event_loop(self.loop)
        try:
            return self.loop.run_until_complete(asyncio.wait_for(coroutine, AWHILE_S))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()


def close_elsewhere(thing):
    thread = threading.Thread(target=thing.close)
    thread.start()
    thread.join()


class Subscriptions(AsyncCase):
    def test_paced_events_wake_once_each(self):
        count = 200_000 if LONG else 1000
        taken = threading.Semaphore(1)

        def publish():
            for _ in range(count):
                taken.acquire()
                self.bus.publish_pid(1, 0)

        async def main():
            seen, sub = 0, aio.Subscription(self.bus, Topic.all())
            publisher.start()
            async for event in sub:
                seen += 1
                self.assertEqual(event.seq, seen)
                taken.release()
                if seen == count:
                    return

        publisher = threading.Thread(target=publish)
        self.run_in_loop(main())
        publisher.join()
        self.assertLessEqual(self.loop.wake_ups, count * PER_EVENT)

    def test_bursts_are_received_in_order(self):
        count, bursts = 20_000 if LONG else 500, 10

        def publish():
            for _ in range(count):
                self.bus.publish_pid(1, 0)

        async def main():
            sub, seen = aio.Subscription(self.bus, Topic.all()), 0
            for _ in range(bursts):
                publisher = threading.Thread(target=publish)
                publisher.start()
                for _ in range(count):
                    seen += 1
                    self.assertEqual((await sub.receive()).seq, seen)
                publisher.join()
            sub.close()
            self.assertEqual([event async for event in sub], [])

        self.run_in_loop(main())
        self.assertLessEqual(self.loop.wake_ups, count * bursts * PER_EVENT)

    def test_many_tasks_take_each_event_once(self):
        count = 2000

        async def main():
            sub, seen = aio.Subscription(self.bus, Topic.all()), []

            async def work():
                async for event in sub:
                    seen.append(event.seq)
                    await asyncio.sleep(0)
                    if len(seen) == count:
                        sub.close()

            tasks = [asyncio.ensure_future(work()) for _ in range(5)]
            await asyncio.sleep(0)
            thread = threading.Thread(
                target=lambda: [self.bus.publish_pid(1, 0) for _ in range(count)]
            )
            thread.start()
            await asyncio.gather(*tasks)
            thread.join()
            self.assertEqual(sorted(seen), list(range(1, count + 1)))

        self.run_in_loop(main())

    def wait_in_rounds(self, takes_first):
        """Two tasks wait, and three events come. Some batches hold less than there is."""

        async def main():
            sub = aio.Subscription(self.bus, Topic.all())
            for seq in range(1, 30, 3):
                tasks = [asyncio.ensure_future(sub.receive()) for _ in range(2)]
                await asyncio.sleep(0)
                for _ in range(3):
                    self.bus.publish_pid(1, 0)
                seen = [(await sub.receive()).seq] if takes_first else []
                seen += [(await task).seq for task in tasks]
                seen += [] if takes_first else [(await sub.receive()).seq]
                self.assertEqual(seen, [seq, seq + 1, seq + 2])

        self.run_in_loop(main())

    def test_a_task_that_takes_a_batch_wakes_the_others(self):
        self.wait_in_rounds(takes_first=True)

    def test_one_wake_up_of_the_loop_is_for_all_tasks(self):
        self.wait_in_rounds(takes_first=False)

    def test_close_on_another_thread_during_the_first_wait(self):
        class ClosedMeanwhile(aio.Subscription):
            def fileno(self):
                fd = super().fileno()
                close_elsewhere(self)
                return fd

        async def main():
            with self.assertRaises(exitbus.Closed):
                await ClosedMeanwhile(self.bus, Topic.all()).receive()

        self.run_in_loop(main())

    def test_a_descriptor_is_readable_after_close_on_another_thread(self):
        async def main():
            sub = aio.Subscription(self.bus, Topic.all())
            task = asyncio.ensure_future(sub.receive())
            await asyncio.sleep(0)
            close_elsewhere(sub)
            sub._ready()  # the loop may be so fast
            with self.assertRaises(exitbus.Closed):
                await task

        self.run_in_loop(main())

    def test_a_cancelled_task_hands_its_wake_up_on(self):
        async def main():
            sub = aio.Subscription(self.bus, Topic.all())
            first, second = (asyncio.ensure_future(sub.receive()) for _ in range(2))
            await asyncio.sleep(0)
            self.bus.publish_pid(1, 0)
            sub._ready()  # wakes the first, as the loop would
            first.cancel()
            self.assertEqual((await second).pid, 1)
            self.assertTrue(first.cancelled())

        self.run_in_loop(main())

    def test_cancelled_receives_leave_nothing_behind(self):
        async def main():
            sub = aio.Subscription(self.bus, Topic.all())
            for _ in range(10):
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(sub.receive(), 0.001)
            self.bus.publish_pid(1, 0)
            before = self.loop.wake_ups
            for _ in range(10):  # a reader would be called
                await asyncio.sleep(0.001)
            self.assertEqual(self.loop.wake_ups, before)
            self.assertEqual((await sub.receive()).pid, 1)

        self.run_in_loop(main())

    def test_nobody_waits_and_events_come(self):
        async def main():
            sub = aio.Subscription(self.bus, Topic.all())
            task = asyncio.ensure_future(sub.receive())
            await asyncio.sleep(0)
            for _ in range(200):
                self.bus.publish_pid(1, 0)
            await task
            before = self.loop.wake_ups
            for _ in range(100):
                await asyncio.sleep(0)
            self.assertLessEqual(self.loop.wake_ups - before, 2)
            self.assertEqual(sub.pending(), 199)
            for seq in range(2, 201):
                self.assertEqual((await sub.receive()).seq, seq)

        self.run_in_loop(main())

    def test_close_wakes_tasks(self):
        async def main():
            for by_thread in False, True:
                for close_bus in False, True:
                    bus = Bus()
                    sub = aio.Subscription(bus, Topic.all())
                    tasks = [asyncio.ensure_future(sub.receive()) for _ in range(3)]
                    await asyncio.sleep(0)
                    close = (bus if close_bus else sub).close
                    thread = threading.Thread(target=close)
                    thread.start() if by_thread else close()
                    ends = await asyncio.gather(*tasks, return_exceptions=True)
                    self.assertEqual({end.errno for end in ends}, {errno.ESHUTDOWN})
                    if by_thread:
                        thread.join()
                    sub.close()
                    bus.close()

        self.run_in_loop(main())

    def test_one_shot_and_sticky(self):
        async def main():
            once = aio.Subscription(self.bus, Topic.all(), SubscribeFlag.ONE_SHOT)
            kept = aio.Subscription(self.bus, Topic.all(), SubscribeFlag.STICKY)
            task = asyncio.ensure_future(kept.receive())
            await asyncio.sleep(0)
            self.bus.publish_pid(1, 0)
            self.assertEqual([event.pid async for event in once], [1])
            self.assertEqual([(await task).pid, (await kept.receive()).pid], [1, 1])
            with self.assertRaises(TypeError):
                kept.__aiter__()

        self.run_in_loop(main())

    def test_another_loop_is_refused(self):
        sub = aio.Subscription(self.bus, Topic.all())

        async def main():
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(sub.receive(), 0.001)

        self.run_in_loop(main())
        with self.assertRaises(RuntimeError):
            self.run_in_loop(sub.receive())

    def test_no_descriptor_is_left(self):
        async def main():
            await aio.Process.spawn(self.bus, ["true"]).wait()  # from now on there is a reaper
            before = open_files()
            for _ in range(20):
                with aio.Subscription(self.bus, Topic.all()) as sub:
                    task = asyncio.ensure_future(sub.receive())
                    await asyncio.sleep(0)
                await asyncio.gather(task, return_exceptions=True)
                with aio.Process.spawn(self.bus, ["true"]) as process:
                    await process.wait()
            del sub, task
            gc.collect()
            until(lambda: open_files() <= before)

        self.run_in_loop(main())


class Processes(AsyncCase):
    def test_wait(self):
        async def main():
            process = aio.Process.spawn(self.bus, ["sh", "-c", "sleep 0.02; exit 3"])
            ends = await asyncio.gather(*(process.wait() for _ in range(3)))
            self.assertEqual({end.returncode for end in ends}, {3})
            self.assertEqual(await process.wait(), ends[0])
            self.assertLessEqual(self.loop.wake_ups, 1)

        self.run_in_loop(main())

    def test_a_wait_that_is_cancelled(self):
        async def main():
            process = aio.Process.spawn(self.bus, ["sleep", "1000"])
            other = asyncio.ensure_future(process.wait())
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 0.01)
            process.signal(signal.SIGTERM)
            self.assertEqual((await other).returncode, -signal.SIGTERM)

        self.run_in_loop(main())

    def test_many_processes(self):
        async def main():
            processes = [
                aio.Process.spawn(self.bus, ["sh", "-c", f"exit {n % 256}"]) for n in range(100)
            ]
            ends = await asyncio.gather(*(process.wait() for process in processes))
            self.assertEqual([end.exit_code for end in ends], [n % 256 for n in range(100)])

        self.run_in_loop(main())
        self.assertLessEqual(self.loop.wake_ups, 100 * PER_EVENT)

    def test_close_and_destroy_wake_tasks(self):
        async def main():
            bus = Bus()
            process = aio.Process.spawn(bus, ["sleep", "1000"])
            other = aio.Process.adopt(bus, process.pid)
            tasks = [asyncio.ensure_future(p.wait()) for p in (process, other)]
            await asyncio.sleep(0)
            pid = process.pid
            process.close()
            bus.close()
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                self.assertEqual(end.errno, errno.ESHUTDOWN)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

        self.run_in_loop(main())

    def test_a_group(self):
        async def main():
            job = aio.Group.set(self.bus, "job")
            process = aio.Process.spawn(self.bus, ["sleep", "1000"])
            job.add(process)
            job.end(signal.SIGTERM)
            self.assertEqual((await job.wait()).container_id, "job")
            self.assertEqual((await process.wait()).returncode, -signal.SIGTERM)

        self.run_in_loop(main())


class EdgeSubscriptions(Subscriptions):
    selector = EdgeSelector


class EdgeProcesses(Processes):
    selector = EdgeSelector


@unittest.skipUnless(hasattr(asyncio, "AbstractChildWatcher"), "this Python has no child watchers")
class Watcher(AsyncCase):
    flags, mode = None, None

    def make(self):
        """A watcher, with a reaper that the class names, if any."""
        if self.mode is None:
            return aio.ChildWatcher()
        self.reaper = Reaper(self.bus, self.mode, self.flags)
        self.addCleanup(self.reaper.close)
        return aio.ChildWatcher(self.reaper)

    def setUp(self):
        super().setUp()
        self.watcher = self.make()
        self.addCleanup(self.watcher.close)
        catch = warnings.catch_warnings()
        catch.__enter__()
        self.addCleanup(catch.__exit__, None, None, None)
        warnings.simplefilter("ignore", DeprecationWarning)

    def run_in_loop(self, coroutine):
        async def main():
            self.watcher.attach_loop(self.loop)
            try:
                return await coroutine
            finally:
                self.watcher.attach_loop(None)

        return super().run_in_loop(main())

    def start(self, script):
        """A child and the future of what its handler is called with."""
        future = self.loop.create_future()

        def ended(*arguments):
            self.loop.call_soon_threadsafe(future.set_result, arguments)

        with self.watcher:
            pid = os.posix_spawnp("sh", ["sh", "-c", script], os.environ)
            self.watcher.add_child_handler(pid, ended, "more")
        return pid, future

    def publish(self, *events):
        """Exits of processes that do not exist, in one batch."""
        self.watcher._reaper.bus.publish_batch([Event(pid=pid, status=s) for pid, s in events])

    def test_a_handler_that_fails_costs_no_other_its_exit(self):
        def fail(_pid, _code, problem):
            raise problem

        async def main():
            got, handlers = [], self.watcher._handlers
            handlers[NO_PID] = fail, (RuntimeError("Event loop is closed"),)
            handlers[NO_PID + 1] = fail, (exitbus.Error(errno.EINVAL, "of the handler"),)
            for n in 2, 3:
                handlers[NO_PID + n] = lambda *a: got.append(a), ()
            stopped = 0x137F  # has no exit code
            statuses = 0, 0, stopped, 0x300
            self.publish(*((NO_PID + n, status) for n, status in enumerate(statuses)))
            with self.assertLogs("exitbus.aio", "ERROR") as logs:
                self.watcher._collect()
            self.assertEqual(got, [(NO_PID + 2, stopped), (NO_PID + 3, 3)])
            self.assertEqual(len(logs.records), 2)
            self.assertTrue(self.watcher.is_active())

        self.run_in_loop(main())

    def test_a_handler_that_closes_the_watcher(self):
        async def main():
            self.watcher._handlers[NO_PID] = lambda *_: self.watcher.close(), ()
            self.publish((NO_PID, 0))
            self.watcher._collect()
            self.assertFalse(self.watcher.is_active())
            with self.assertRaises(RuntimeError):
                self.watcher.add_child_handler(1, print)

        self.run_in_loop(main())

    def test_exits_while_it_is_detached_are_of_no_later_child(self):
        async def main():
            got, bus = [], self.watcher._reaper.bus
            before = bus.stats().subscriptions
            self.watcher.attach_loop(None)
            self.assertEqual(bus.stats().subscriptions, before - 1)
            self.publish((NO_PID, 0x100))
            self.watcher.attach_loop(self.loop)
            self.watcher._handlers[NO_PID] = lambda *a: got.append(a), ()
            self.watcher._collect()
            self.assertEqual(got, [])
            self.publish((NO_PID, 0x200))
            self.watcher._collect()
            self.assertEqual(got, [(NO_PID, 2)])

        self.run_in_loop(main())

    def test_a_receive_that_lacks_memory_is_tried_again(self):
        whole = aio.C.receive_batch
        self.addCleanup(setattr, aio.C, "receive_batch", whole)

        def lacking(*_):
            aio.C.receive_batch = whole
            return -errno.ENOMEM

        async def main():
            pid, future = self.start("exit 3")
            aio.C.receive_batch = lacking
            self.assertEqual(await future, (pid, 3, "more"))

        self.run_in_loop(main())

    def test_each_child_once_with_few_wake_ups(self):
        async def main():
            count = 2000 if LONG else 200
            children = []
            for n in range(count):
                children.append(self.start(f"exit {n % 256}"))
                if n % 10 == 0:
                    await asyncio.sleep(0)
            for n, (pid, future) in enumerate(children):
                self.assertEqual(await future, (pid, n % 256, "more"))
            self.assertLessEqual(self.loop.wake_ups, count * PER_EVENT + 1)
            self.assertEqual(self.watcher._handlers, {})

        self.run_in_loop(main())

    def test_one_after_the_other(self):
        async def main():
            for n in range(50):
                pid, future = self.start(f"sleep 0.00{n % 5}; kill -9 $$")
                self.assertEqual(await future, (pid, -9, "more"))

        self.run_in_loop(main())
        self.assertLessEqual(self.loop.wake_ups, 50 * PER_EVENT)

    def test_a_handler_that_is_removed_or_replaced(self):
        async def main():
            pid, gone = self.start("sleep 0.05")
            self.assertTrue(self.watcher.remove_child_handler(pid))
            self.assertFalse(self.watcher.remove_child_handler(pid))
            pid, replaced = self.start("sleep 0.05; exit 3")
            future = self.loop.create_future()
            self.watcher.add_child_handler(pid, lambda *a: future.set_result(a))
            self.assertEqual(await future, (pid, 3))
            self.assertFalse(gone.done() or replaced.done())

        self.run_in_loop(main())

    def test_children_of_loops_of_other_threads(self):
        async def one(n):
            process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {n}")
            return await process.wait()

        async def main():
            await asyncio.gather(
                *(self.loop.run_in_executor(None, asyncio.run, some(n)) for n in range(3))
            )

        async def some(n):
            for _ in range(10):
                self.assertEqual(await asyncio.gather(one(n), one(n + 1)), [n, n + 1])

        asyncio.set_child_watcher(self.watcher)
        try:
            self.run_in_loop(main())
        finally:
            asyncio.set_child_watcher(None)

    def test_asyncio_run_twice_with_output(self):
        async def main():
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", "cat; exit 4", stdin=-1, stdout=-1
            )
            output, _ = await process.communicate(b"text")
            self.assertEqual((output, await process.wait()), (b"text", 4))

        asyncio.set_child_watcher(self.watcher)
        try:
            asyncio.run(main())
            asyncio.run(main())
        finally:
            asyncio.set_child_watcher(None)

    def test_a_forked_child_has_its_own(self):
        async def main():
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 6")
            self.assertEqual(await process.wait(), 6)

        async def parent():
            def child():
                asyncio._set_running_loop(None)
                asyncio.set_event_loop_policy(None)
                asyncio.set_child_watcher(self.watcher)
                if self.mode is None:
                    asyncio.run(main())
                else:  # the reaper is the parent's
                    loop = asyncio.new_event_loop()
                    self.assert_error(errno.ESTALE, self.watcher.attach_loop, loop)
                    loop.close()

            pid, future = self.start("sleep 0.2; exit 5")
            self.assertTrue(passes_in_child(child))
            self.assertEqual(await future, (pid, 5, "more"))  # the parent's loop is as it was

        self.run_in_loop(parent())

    def test_inactive_and_closed(self):
        self.assertFalse(self.watcher.is_active())

        async def main():
            self.assertTrue(self.watcher.is_active())

        self.run_in_loop(main())
        self.assertFalse(self.watcher.is_active())
        self.watcher.close()
        self.watcher.close()
        self.run_in_loop(main())  # opens it again

    def test_a_loop_is_detached_with_handlers(self):
        async def main():
            pid, _ = self.start("exec sleep 1000")
            with self.assertWarns(RuntimeWarning):
                self.watcher.attach_loop(None)
            os.kill(pid, signal.SIGKILL)

        self.run_in_loop(main())


class WatcherOfOwnReaper(Watcher):
    def test_a_child_that_is_none(self):
        async def main():
            got = []
            with self.assertLogs("exitbus.aio", "WARNING"):
                self.watcher.add_child_handler(1, lambda *a: got.append(a))
            self.assertEqual(got, [(1, 255)])

        self.run_in_loop(main())

    def test_a_child_whose_status_was_taken(self):
        async def main():
            pid, future = self.start("exit 3")
            os.waitpid(pid, 0)
            self.assertIn((await future)[1], (3, 255))  # from Linux 6.15 on it is known

        self.run_in_loop(main())

    def test_no_thread_of_its_own(self):
        self.assertEqual(threads("exitbus-reaper"), 0)

    def test_a_reaper_that_fails_ends_the_watcher(self):
        class Failing:
            mode, flags, bus = ReaperMode.WATCHED, ReaperFlag.POLLED, None

            def poll(self):
                raise exitbus.Error(errno.EBADF, "closed by the host")

        async def main():
            problems = []
            self.loop.set_exception_handler(lambda _, context: problems.append(context))
            self.watcher._handlers[NO_PID] = lambda: None, ()  # fails: too many arguments
            pid, future = self.start("exec sleep 1000")
            whole, self.watcher._reaper = self.watcher._reaper, Failing()
            with self.assertLogs("exitbus.aio", "WARNING"):
                self.loop.call_soon(self.watcher._collect)
                self.assertEqual(await future, (pid, 255, "more"))
            self.assertEqual(len(problems), 1)
            self.assertFalse(self.watcher.is_active())
            self.watcher._reaper = whole
            os.kill(pid, signal.SIGKILL)

        self.run_in_loop(main())

    def test_beside_a_reaper_of_all_it_says_so(self):
        self.watcher.close()
        with Reaper(self.bus, ReaperMode.ALL):
            self.assert_error(errno.EBUSY, aio.ChildWatcher)


class WatcherOfThread(Watcher):
    mode, flags = ReaperMode.WATCHED, 0


class WatcherOfAll(Watcher):
    mode, flags = ReaperMode.ALL, 0

    def test_two_children_of_one_block(self):
        async def main():
            got, scripts = [], ("exit 1", "exit 2")
            with self.watcher:
                pids = [os.posix_spawnp("sh", ["sh", "-c", s], os.environ) for s in scripts]
                self.watcher.add_child_handler(pids[0], lambda *a: got.append(a))
                until(lambda: self.watcher._collect() or not children().intersection(pids))
                self.watcher._collect()
                self.watcher.add_child_handler(pids[1], lambda *a: got.append(a))
            self.assertEqual(dict(got), {pids[0]: 1, pids[1]: 2})
            self.assertEqual(self.watcher._unknown, {})

        self.run_in_loop(main())


class WatcherOfAllPolled(WatcherOfAll):
    flags = ReaperFlag.POLLED


class WatcherInEdges(WatcherOfOwnReaper):
    selector = EdgeSelector


class WatcherOfAllInEdges(WatcherOfAll):
    selector = EdgeSelector


def load_tests(loader, _tests, _pattern):
    """All but the base of the watchers."""
    suite = unittest.TestSuite()
    for case in list(globals().values()):
        if isinstance(case, type) and issubclass(case, AsyncCase):
            if case not in (AsyncCase, Watcher):
                suite.addTests(loader.loadTestsFromTestCase(case))
    return suite


if __name__ == "__main__":
    unittest.main()
