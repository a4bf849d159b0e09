#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a child costs a program on asyncio, by child watcher. CPU time of the program alone.

bench.py [CHILDREN [ROUNDS]]. Watchers take turns, each time in a process of their own.
  asyncio   create_subprocess_exec() and wait(); beside it exitbus.aio.Process, which has no watcher
  watcher   os.posix_spawn(), add_child_handler() and the callback: without what Popen costs
  alive     likewise, but all children live until the last one is started
Printed: microseconds a child, the least of the rounds since noise only adds; median and most in
parentheses; and this package's least divided by the other.
"""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import warnings

import exitbus
from exitbus import aio

AT_ONCE = 32
WATCHERS = {
    "exitbus": aio.ChildWatcher,
    "PidfdChildWatcher": asyncio.PidfdChildWatcher,
    "ThreadedChildWatcher": asyncio.ThreadedChildWatcher,
}
OTHERS = {  # ways not taken
    "exitbus-thread": lambda: aio.ChildWatcher(exitbus.Reaper(exitbus.Bus())),
    "exitbus-all": lambda: aio.ChildWatcher(
        exitbus.Reaper(exitbus.Bus(), exitbus.ReaperMode.ALL, exitbus.ReaperFlag.POLLED)
    ),
}


async def one_asyncio(_watcher):
    process = await asyncio.create_subprocess_exec("/bin/true")
    assert await process.wait() == 0


async def one_process(bus):
    with aio.Process.spawn(bus, ["/bin/true"]) as process:
        assert (await process.wait()).status == 0


def handled(watcher, argv, **options):
    """A future of the exit of a new child, by the watcher alone."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def ended(_pid, code):
        loop.call_soon_threadsafe(future.set_result, code)

    with watcher:
        watcher.add_child_handler(os.posix_spawn(argv[0], argv, os.environ, **options), ended)
    return future


async def one_watcher(watcher):
    assert await handled(watcher, ["/bin/true"]) == 0


async def at_once(one, argument, count):
    """`count` children, AT_ONCE at a time."""
    left = iter(range(count))

    async def lane():
        for _ in left:
            await one(argument)

    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))


async def all_alive(watcher, count):
    read_end, write_end = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, read_end, 0)]
    argv = ["/bin/sh", "-c", "read line; exit 0"]
    futures = [handled(watcher, argv, file_actions=actions) for _ in range(count)]
    os.close(read_end)
    os.close(write_end)
    assert set(await asyncio.gather(*futures)) == {0}


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(workload, watcher, count):
    before = cpu_s()
    if workload == "alive":
        await all_alive(watcher, count)
    elif isinstance(watcher, exitbus.Bus):
        await at_once(one_process, watcher, count)
    else:
        await at_once(one_asyncio if workload == "asyncio" else one_watcher, watcher, count)
    return cpu_s() - before


def worker(workload, name, count):
    """Print microseconds a child."""
    warnings.simplefilter("ignore", DeprecationWarning)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if name == "aio.Process":
        watcher = exitbus.Bus()
    else:
        watcher = (WATCHERS | OTHERS)[name]()
        asyncio.set_child_watcher(watcher)
    print(asyncio.run(measure(workload, watcher, count)) * 1e6 / count)


def run(workload, name, count):
    command = [sys.executable, "-B", __file__, "--worker", workload, name, str(count)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main(count=2000, rounds=5):
    for workload in "asyncio", "watcher", "alive":
        names = list(WATCHERS | OTHERS) + ["aio.Process"] * (workload == "asyncio")
        costs = {name: [] for name in names}
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                costs[name].append(run(workload, name, count))
        for name, values in costs.items():
            spread = f"({statistics.median(values):.0f}, {max(values):.0f})"
            ratio = min(costs["exitbus"]) / min(values)
            print(f"{workload:8} {name:21} {min(values):5.0f} us {spread} exitbus/it {ratio:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(*map(int, sys.argv[1:]))
