"""Peaks that are measured are those of the formulas, to 10 %; what cannot be measured is refused."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qmargin import QMargin
from qmargin.bench import memory
from qmargin.bench.measure import Side, take_turns
from qmargin.bench.memory import Peak, available_memory, peak_of
from qmargin.bench.plan import Problem, dense
from qmargin.bench.scene import Sizes, make_scene
from qmargin.bench.sides import AUTOCAST, DENSE, FLOOR, FLOOR_FULL, PFC, baseline_sides, streaming_side
from qmargin.heads.chunks import default_chunk
from qmargin.heads.products import multiplies

LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc/self")
SIZES = Sizes(classes=200_000, dim=128, batch=64)
TOLERANCE = 0.10
PROBLEM = Problem(classes=SIZES.classes, dim=SIZES.dim, batch=SIZES.batch)
BASELINES = {side.name: side for side in baseline_sides()}
ARCFACE = next(name for name in BASELINES if name.startswith("streaming"))


class DiesOnArrival:
    """Kills the process that unpickles it, as a lack of memory would."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def least_peak(side: Side, expected: float, sizes: Sizes = SIZES) -> Peak:
    """The least of up to three measurements: what the C library keeps for later only adds, some megabytes at times."""
    peaks = []
    for _ in range(3):
        peaks.append(peak_of(side, sizes))
        if peaks[-1].resident == pytest.approx(expected, rel=TOLERANCE):
            break
    return Peak(*(min(account) for account in zip(*peaks, strict=True)))


@LINUX
@pytest.mark.parametrize(
    ("name", "account"),
    [
        (DENSE, "resident"),
        (DENSE, "allocated"),
        (AUTOCAST, "allocated"),
        (PFC, "allocated"),
        (FLOOR, "resident"),
        (FLOOR, "allocated"),
        (FLOOR_FULL, "allocated"),
        (ARCFACE, "resident"),  # its gradient lies in a buffer of numpy, which torch's account does not see
    ],
)
def test_the_formula_is_the_measured_peak(name: str, account: str, peaks: dict[str, Peak]) -> None:
    expected = BASELINES[name].cost(PROBLEM).beyond
    if name not in peaks:
        peaks[name] = least_peak(BASELINES[name], expected)
    assert getattr(peaks[name], account) == pytest.approx(expected, rel=TOLERANCE)


@pytest.fixture(scope="module")
def peaks() -> dict[str, Peak]:
    """Each side is measured once."""
    return {}


@LINUX
@pytest.mark.parametrize("scale", [6.0, 64.0])
def test_the_formula_of_the_screened_head_is_the_measured_peak(scale: float) -> None:
    side = streaming_side("QMargin", QMargin(scale=scale), "dense", "untrained", "bfloat16")
    sizes = SIZES._replace(classes=2 * SIZES.classes)  # it is small beside the megabytes that a process holds anyway
    support = take_turns(make_scene(sizes), [side], rounds=1, steps=1)[side.name].stats["support_size"]
    expected = side.cost(replace(PROBLEM, classes=sizes.classes, support=support)).beyond
    if not multiplies(torch.bfloat16, torch.device("cpu")):  # a chunk is widened to float32, which auto would not do
        expected += 4.0 * default_chunk(sizes.batch, sizes.classes) * sizes.dim
    assert least_peak(side, expected, sizes).resident == pytest.approx(expected, rel=TOLERANCE)


@LINUX
def test_a_process_that_dies_is_named() -> None:
    side = Side("the mortal side", DiesOnArrival(), dense)  # type: ignore[arg-type] # never called
    with pytest.raises(
        ValueError, match=r"the process that measured the mortal side at .* was killed: most likely memory"
    ):
        peak_of(side, Sizes(100, 8, 4))


def test_peaks_are_refused_where_the_kernel_keeps_no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    with pytest.raises(ValueError, match="peak memory is read from /proc/self, which Linux has"):
        peak_of(BASELINES[DENSE], Sizes(100, 8, 4))
    assert available_memory() > 0


def test_available_memory_is_the_kernels_estimate_or_the_containers_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 999 kB\nMemAvailable:     123 kB\n")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(memory, "GROUP", tmp_path / "group")
    assert available_memory() == 123 * 1024
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "memory.max").write_text("max\n")
    assert available_memory() == 123 * 1024
    (tmp_path / "group" / "memory.max").write_text("100000\n")
    (tmp_path / "group" / "memory.current").write_text("60000\n")
    assert available_memory() == 40_000
