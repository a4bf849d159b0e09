# SPDX-License-Identifier: MIT OR Apache-2.0
"""Processes and groups."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

import exitbus
from common import Case, children, open_files, until
from exitbus import EventFlag, Group, Process, SpawnFlag, SpawnStep, Subscription, Topic


class Spawn(Case):
    def output(self, argv, **options):
        """What a child prints, and its exit."""
        read_end, write_end = os.pipe()
        try:
            process = Process.spawn(self.bus, argv, stdout=write_end, **options)
        finally:
            os.close(write_end)
        with open(read_end, encoding="utf-8") as file:
            text = file.read()
        return text, process.wait(60).returncode

    def shell(self, script, **options):
        return self.output(["sh", "-c", script], **options)

    def test_exit_codes_and_signals(self):
        self.assertEqual(self.shell("exit 7"), ("", 7))
        self.assertEqual(self.shell("kill -TERM $$"), ("", -signal.SIGTERM))

    def test_the_exit_is_told_to_all_again_and_again(self):
        with Subscription(self.bus, Topic.any_pid()) as sub:
            process, got = Process.spawn(self.bus, ["sleep", "0.05"]), []
            workers = [
                threading.Thread(target=lambda: got.append(process.wait())) for _ in range(4)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            self.assertEqual(set(got), {sub.receive(60)})
            self.assertEqual(process.wait(0), got[0])
            self.assertEqual(process.pid, got[0].pid)

    def test_a_wait_ends_in_time(self):
        process = Process.spawn(self.bus, ["sleep", "1000"])
        self.assert_error(errno.EAGAIN, process.wait, 0)
        self.assert_error(errno.ETIMEDOUT, process.wait, 0.002)
        process.signal(signal.SIGKILL)
        self.assertEqual(process.wait(60).returncode, -9)
        self.assert_error(errno.ESRCH, process.signal, 0)
        self.assert_error(errno.EINVAL, process.signal, 1000)

    def test_environment_directory_and_program(self):
        text, _ = self.shell("env; pwd", env={"A": "1", "B": b"two"}, cwd="/tmp")
        self.assertIn("A=1\nB=two\n", text)
        self.assertTrue(text.endswith("\n/tmp\n"), text)
        self.assertNotIn("HOME=", text)
        self.assertEqual(self.output(["name", "-c", "echo $0"], path="/bin/sh"), ("name\n", 0))

    def test_standard_descriptors(self):
        script = "cat; echo two >&2"
        with tempfile.TemporaryFile() as file:
            file.write(b"one\n")
            file.seek(0)
            self.assertEqual(
                self.shell(script, stdin=file, stderr=subprocess.STDOUT), ("one\ntwo\n", 0)
            )
        self.assertEqual(
            self.shell(script, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL), ("", 0)
        )
        with self.assertRaises(ValueError):
            Process.spawn(self.bus, ["true"], stdin=subprocess.PIPE)

    def test_one_and_two_are_swapped(self):
        read_end, write_end = os.pipe()
        script = f"""
import exitbus, os
bus = exitbus.Bus()
os.dup2({write_end}, 1)
os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
child = ["sh", "-c", "echo out; echo err >&2"]
exitbus.Process.spawn(bus, child, stdout=2, stderr=1).wait()
"""
        subprocess.run(
            [sys.executable, "-B", "-c", script],
            pass_fds=[write_end],
            check=True,
        )
        os.close(write_end)
        with open(read_end, "rb") as file:
            self.assertEqual(file.read(), b"err\n")

    def test_passed_descriptors(self):
        Process.spawn(self.bus, ["true"]).wait(60)  # from now on there is a reaper
        read_end, write_end = os.pipe()
        before = open_files()
        process = Process.spawn(
            self.bus, ["sh", "-c", f"echo x >/proc/self/fd/{write_end}"], pass_fds=[write_end]
        )
        self.assertEqual(process.wait(60).returncode, 0)
        self.assertEqual(os.read(read_end, 10), b"x\n")
        process = Process.spawn(
            self.bus, ["sh", "-c", f"echo x >/proc/self/fd/{write_end}"], stderr=subprocess.DEVNULL
        )
        self.assertEqual(process.wait(60).returncode, 2)
        del process
        until(lambda: open_files() <= before)
        os.close(read_end)
        os.close(write_end)

    def test_attributes(self):
        text, _ = self.shell("umask; nice; pwd", umask=0o27, nice=3, root="/")
        self.assertEqual(text, "0027\n3\n/\n")
        if os.getuid() == 0:
            self.assertEqual(self.shell("id -u; id -g", uid=65534, gid=65533)[0], "65534\n65533\n")
        text, _ = self.shell("ps -o sid=,pgid= $$; echo $$", flags=flags(SpawnFlag.SETSID))
        self.assertEqual(len(set(text.split())), 1)
        text, _ = self.shell("ps -o pgid= $$; echo $$", process_group=0)
        self.assertEqual(len(set(text.split())), 1)

    def test_what_is_wrong_is_said_and_leaves_no_child(self):
        wrong = [
            (errno.ENOENT, SpawnStep.EXEC, ["/nonexistent"], {}),
            (errno.EACCES, SpawnStep.EXEC, ["/etc/passwd"], {}),
            (errno.ENOENT, SpawnStep.DIRECTORY, ["true"], {"cwd": "/nonexistent"}),
            (errno.EBADF, SpawnStep.ACTION, ["true"], {"stdin": 1000}),
            (errno.EINVAL, SpawnStep.ARGUMENTS, [], {}),
            (errno.EINVAL, SpawnStep.ARGUMENTS, ["true"], {"nice": 1000}),
        ]
        before = children()
        for code, step, argv, options in wrong:
            error = self.assert_error(code, Process.spawn, self.bus, argv, **options)
            self.assertIsInstance(error, exitbus.SpawnError)
            self.assertEqual(error.step, step, argv)
        with self.assertRaises(TypeError):
            Process.spawn(self.bus, ["true"], colour="red")
        with self.assertRaises(ValueError):
            Process.spawn(self.bus, ["tr\0ue"])
        self.assertLessEqual(children(), before)


def flags(more):
    return SpawnFlag.SEARCH_PATH | more


class Adopt(Case):
    def test_a_child_alive_and_a_zombie(self):
        child = subprocess.Popen(["sleep", "1000"])
        process = Process.adopt(self.bus, child.pid)
        self.assertGreater(process.start_time(), 0)
        process.signal(signal.SIGTERM)
        self.assertEqual(process.wait(60).returncode, -signal.SIGTERM)
        child.returncode = 0  # subprocess must not wait for it
        pid = os.posix_spawnp("sh", ["sh", "-c", "exit 2"], os.environ)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with Process.adopt(self.bus, pid) as process:
            self.assertEqual(process.wait(60).exit_code, 2)
        self.assert_error(errno.ECHILD, Process.adopt, self.bus, pid)
        self.assert_error(errno.ECHILD, Process.adopt, self.bus, 1)
        self.assert_error(errno.EINVAL, Process.adopt, self.bus, 0)

    def test_a_pidfd_of_no_child(self):
        with subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!"], stdout=subprocess.PIPE) as shell:
            pid = int(shell.stdout.readline())
            pidfd = os.pidfd_open(pid)
            shell.stdout.close()
        process = Process.adopt_pidfd(self.bus, pidfd)
        os.close(pidfd)
        self.assertEqual(process.pid, pid)
        process.signal(signal.SIGKILL)
        event = process.wait(60)
        self.assertEqual(event.seq, 0)
        self.assertEqual(event.returncode, None if event.lost else -9)
        self.assert_error(errno.EBADF, Process.adopt_pidfd, self.bus, 1000)

    def test_a_pidfd_is_the_callers(self):
        process = Process.spawn(self.bus, ["sleep", "1000"])
        pidfd = process.pidfd()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self.assertEqual(process.wait(60).returncode, -9)
        os.close(pidfd)

    def test_a_status_that_another_took(self):
        process = Process.spawn(self.bus, ["sleep", "1000"])
        process.signal(signal.SIGKILL)
        try:
            os.waitpid(process.pid, 0)
        except ChildProcessError:  # the reaper was faster
            pass
        event = process.wait(60)
        self.assertEqual(event.returncode, None if event.flags & EventFlag.STATUS_LOST else -9)


class Groups(Case):
    def test_a_set(self):
        with Subscription(self.bus, Topic.container("job")) as sub, Group.set(self.bus, "job") as job:
            for _ in range(3):
                job.add(Process.spawn(self.bus, ["sleep", "1000"]))
            self.assert_error(errno.EAGAIN, job.wait, 0)
            job.end(signal.SIGTERM)
            self.assertEqual(job.wait(60), sub.receive(60))
            self.assertEqual(job.wait(0).container_id, "job")
            self.assert_error(
                errno.ESHUTDOWN, job.add, Process.spawn(self.bus, ["true"])
            )

    def test_the_stubborn_are_killed(self):
        job = Group.set(self.bus, "job")
        read_end, write_end = os.pipe()
        process = Process.spawn(
            self.bus, ["sh", "-c", "trap '' TERM; echo; exec sleep 1000"], stdout=write_end
        )
        os.read(read_end, 1)
        os.close(read_end)
        os.close(write_end)
        job.add(process)
        job.end(signal.SIGTERM, grace=0.02)
        job.wait(60)
        self.assertEqual(process.wait(0).returncode, -9)

    def test_a_process_group(self):
        leader = Process.spawn(self.bus, ["sh", "-c", "sleep 1000 & wait"], process_group=0)
        try:
            job = Group.processes(self.bus, "job", leader)
        except exitbus.Error as error:
            if error.errno == errno.ENOTSUP:
                leader.signal(signal.SIGKILL)
                self.skipTest("this kernel has no process groups by pidfd")
            raise
        job.end(signal.SIGKILL, grace=0)
        job.wait(60)
        self.assertEqual(leader.wait(60).returncode, -9)

    def test_bad_groups(self):
        self.assert_error(errno.EINVAL, Group.set, self.bus, "")
        with tempfile.TemporaryFile() as file:
            self.assert_error(errno.EINVAL, Group.cgroup, self.bus, "job", file)
        job = Group.set(self.bus, "job")
        self.assert_error(errno.EINVAL, job.end, 1000)
        job.close()
        self.assert_error(errno.ESHUTDOWN, job.end, 9)


class Signals(Case):
    def test_signals_of_the_host_do_not_disturb_a_wait(self):
        seen = []
        old = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        process = Process.spawn(self.bus, ["sleep", "1000"])
        timer = threading.Timer(0.05, process.signal, (signal.SIGKILL,))
        timer.start()
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            self.assertEqual(process.wait(60).returncode, -9)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        self.assertTrue(seen)
        timer.join()


if __name__ == "__main__":
    unittest.main()
