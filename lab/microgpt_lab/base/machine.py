"""The machine and this process: processor, system, memory. Imports only the standard library, so
that a process that measures its own memory stays small."""

import os
import platform
import sys
from pathlib import Path
from typing import Any


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes. Linux's ru_maxrss includes
    what the parent held when it started this process, so there /proc/self/status is read."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        import resource  # here: Windows has no such module

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def processor() -> str:
    """The processor's name, as the operating system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def description() -> dict[str, Any]:
    """Processor, cores, system and Python version, for a record of measurements."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
