"""What a comparison of runs holds: filled here from scores, only drawn by `qmargin.report`.

A **system** is one setting (a loss) trained under several seeds; its runs are scored on the same trials as every
other system's, so differences are paired.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics.bands import DetBand
from qmargin.metrics.tar import TarAtFar

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One column of the table, e.g. TAR at FAR 1e-3; values are shares in [0, 1]."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure of one system: mean and standard deviation over its seeds, 95 % interval over the test subjects."""

    mean: float
    spread: float | None  # None with a single seed
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """System minus baseline on the same resampled subjects, and the share of resamples the system won."""

    mean: float
    low: float
    high: float
    won: float


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Share of trials in each score bin: `edges` (bins + 1,), `genuine` and `impostor` (bins,), each summing to 1."""

    edges: Floats
    genuine: Floats
    impostor: Floats


@dataclass(frozen=True, kw_only=True)
class TrainingCurve:
    """One scalar of the training log of one run, e.g. the mean support size: `steps` (n,), `values` (n,)."""

    seed: int
    steps: Floats
    values: Floats


@dataclass(frozen=True, kw_only=True)
class System:
    """One row of the table with what is drawn for it; `differences` is empty for the baseline."""

    name: str
    setting: str  # its value of the one differing field, as text
    seeds: tuple[int, ...]
    runs: tuple[str, ...]  # run folders, as given
    estimates: dict[str, Estimate]  # by figure name
    differences: dict[str, Difference]
    false_accepts: dict[str, float]  # figure name -> mean number of false accepts it rests on, where that applies
    points: dict[str, tuple[TarAtFar, ...]]  # figure name -> where each seed's TAR stands, where that applies
    band: DetBand  # of the DET curve over test subjects, FRR averaged over the seeds at equal FAR
    histogram: Histogram
    support: tuple[TrainingCurve, ...]  # mean support size (classes) over training, one a seed
    final_support: Estimate  # mean support size at the end of training; the interval is the range over seeds


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A whole comparison: the table's rows and what the reader must know to trust it."""

    title: str
    baseline: str
    figures: tuple[Figure, ...]
    systems: tuple[System, ...]
    subjects: int
    genuine: int
    impostor: int
    differing_field: str  # e.g. "loss"; "" where they differ in several, or in nothing but the seed
    shared_settings: dict[str, str]  # flattened config that all runs share: "optimizer.learning_rate" -> "0.1"
    notes: tuple[str, ...]  # caveats, in plain sentences
    provenance: dict[str, str]  # command, machine, date, versions
