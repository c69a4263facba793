"""Memory: what is available, and the peak of one side, measured in a process of its own in two ways.

* resident: the kernel's account. The high-water mark of the process is reset when the prototypes stand, and read after
  three steps (Linux).
* allocated: the profiler's account. The highest sum of torch's allocations and releases over the steps.

Both leave out the prototypes and the optimizer's state, which no head can do without. The first sees memory that torch
does not account for (libraries, buffers of numpy, fragmentation), the second no such thing.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from qmargin.bench.contenders import Contender
from qmargin.bench.measure import Side, release_gradients
from qmargin.bench.scene import Scene, Sizes, make_scene

STEPS = 3
PROC = Path("/proc")
GROUP = Path("/sys/fs/cgroup")  # limits of the container
TINY = Sizes(classes=64, dim=32, batch=4)


class Peak(NamedTuple):
    """Highest memory beyond prototypes and optimizer state, bytes."""

    resident: int
    allocated: int


def available_memory() -> int:
    """Bytes that can be allocated without swapping: the kernel's estimate, or the limit of the container if less."""
    meminfo = PROC / "meminfo"
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    else:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = GROUP / "memory.max"
    if limit.exists() and (most := limit.read_text(encoding="ascii").strip()) != "max":
        available = min(available, int(most) - int((GROUP / "memory.current").read_text(encoding="ascii")))
    return max(available, 0)


def peak_of(side: Side, sizes: Sizes, threads: int = 1) -> Peak:
    """Peak of a side over three steps, in a fresh process.

    Raises:
        ValueError: not Linux; or the process died, which is what a lack of memory looks like.
    """
    if not (PROC / "self" / "clear_refs").exists():
        raise ValueError("peak memory is read from /proc/self, which Linux has: run without the memory columns here")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, side, sizes, threads).result()
        except BrokenProcessPool as error:
            raise ValueError(
                f"the process that measured {side.name} at {sizes} was killed: most likely memory ran out"
            ) from error


def _measure(side: Side, sizes: Sizes, threads: int) -> Peak:
    torch.set_num_threads(threads)
    _account(side, TINY)  # libraries are loaded and their threads started before anything is counted
    return _account(side, sizes)


def _account(side: Side, sizes: Sizes) -> Peak:
    scene = make_scene(sizes)
    before = _status("VmRSS")
    (PROC / "self" / "clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    contender = _steps(scene, side)
    resident = _status("VmHWM") - before - contender.optimizer_bytes()
    del contender
    release_gradients(scene)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        contender = _steps(scene, side)
    return Peak(resident, _high_water(profiler) - contender.optimizer_bytes())


def _steps(scene: Scene, side: Side) -> Contender:
    contender = side.make(scene)
    for number in range(STEPS):
        contender.step(scene.batches[side.state][number])
    return contender


def _high_water(profiler: profile) -> int:
    """Highest running sum of the bytes that torch allocated and released."""
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    total = highest = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()  # type: ignore[attr-defined] # torch's stub lacks it
            highest = max(highest, total)
    return highest


def _status(name: str) -> int:
    lines = (PROC / "self" / "status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024
