#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs shell commands side by side, prints how each ends, and ends them all on SIGTERM.

supervisor.py COMMAND…
"""

import asyncio
import signal
import sys

import exitbus
from exitbus import aio


async def report(command, process):
    event = await process.wait()
    print(f"{command}: {event.returncode}")


async def main(commands):
    loop = asyncio.get_running_loop()
    with exitbus.Bus() as bus, exitbus.Group.set(bus, "commands") as job:
        reports = []
        for command in commands:
            process = aio.Process.spawn(bus, ["sh", "-c", command])
            job.add(process)
            reports.append(report(command, process))
        loop.add_signal_handler(signal.SIGTERM, job.end, signal.SIGTERM, 5.0)
        await asyncio.gather(*reports)


asyncio.run(main(sys.argv[1:]))
