"""What a comparison must hold before anything is drawn; everything else in this folder may rely on it."""

import math

import numpy as np

from qmargin.protocols.comparison import Comparison, Difference, Estimate, Floats, Histogram, System
from qmargin.report._numbers import plain


def check(comparison: Comparison) -> None:
    """Refuse what cannot be drawn honestly: something missing, something not a number, two rows of one name.

    Raises:
        ValueError: the message names the system and the field.
    """
    _check_head(comparison)
    for system in comparison.systems:
        where = f"system {system.name!r}"
        if not system.seeds or not system.runs:
            raise ValueError(f"{where} must name its seeds and runs, got {system.seeds} and {system.runs}")
        for figure in comparison.figures:
            _check_estimate(system.estimates.get(figure.name), f"{where}, estimate of {figure.name!r}")
        _check_differences(comparison, system)
        _check_estimate(system.final_support, f"{where}, final_support")
        _check_false_accepts(system)
        _check_band(system)
        _check_histogram(system.histogram, comparison.systems[0].histogram, where)
        _check_support(system)


def _check_head(comparison: Comparison) -> None:
    if not plain(comparison.title):
        raise ValueError("a comparison needs a title, got an empty one; say what was compared, on which trials")
    names = _distinct("system", [system.name for system in comparison.systems])
    _distinct("figure", [figure.name for figure in comparison.figures])
    if comparison.baseline not in names:
        raise ValueError(
            f"the baseline must be one of the systems {', '.join(names)}, got {comparison.baseline!r}; "
            "its row is what the others are compared with"
        )
    for field in ("subjects", "genuine", "impostor"):
        if getattr(comparison, field) < 1:
            raise ValueError(f"{field} must be at least 1, got {getattr(comparison, field)}: were any trials scored?")


def _distinct(kind: str, names: list[str]) -> list[str]:
    if not names:
        raise ValueError(f"a comparison needs at least one {kind}, got none")
    if not all(map(plain, names)):
        raise ValueError(f"every {kind} needs a name, got {names}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{kind} names must differ, got {twice[0]!r} more than once; rename one of them")
    return names


def _check_estimate(estimate: Estimate | Difference | None, what: str) -> None:
    if estimate is None:
        raise ValueError(f"{what} is missing; evaluate it for every system, or leave the figure out for all")
    numbers = [value for value in vars(estimate).values() if value is not None]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{what} must be finite, got {estimate}; a figure that is not known must not be drawn")
    if estimate.low > estimate.high:
        raise ValueError(f"{what} must have low <= high, got [{estimate.low}, {estimate.high}]")


def _check_differences(comparison: Comparison, system: System) -> None:
    if system.name == comparison.baseline:
        if system.differences:
            raise ValueError(f"the baseline {system.name!r} must have no differences: it would be compared with itself")
        return
    for figure in comparison.figures:
        difference = system.differences.get(figure.name)
        what = f"system {system.name!r}, difference of {figure.name!r} to the baseline"
        _check_estimate(difference, what)
        if difference is not None and not 0.0 <= difference.won <= 1.0:
            raise ValueError(f"{what}: the share of resamples won must be in [0, 1], got {difference.won}")


def _check_false_accepts(system: System) -> None:
    for name, number in system.false_accepts.items():
        if not (math.isfinite(number) and number >= 0.0):
            raise ValueError(f"system {system.name!r}, false_accepts of {name!r} must be a count >= 0, got {number}")


def _check_band(system: System) -> None:
    band, where = system.band, f"system {system.name!r}, DET curve"
    _check_series(where, band.far, band.frr, band.low, band.high)
    for name, rates in (("far", band.far), ("frr", band.frr), ("low", band.low), ("high", band.high)):
        if not ((rates >= 0.0) & (rates <= 1.0)).all():
            raise ValueError(f"{where}: {name} must be shares in [0, 1]; percent were given?")


def _check_histogram(histogram: Histogram, first: Histogram, where: str) -> None:
    _check_series(f"{where}, histogram", histogram.genuine, histogram.impostor)
    if histogram.edges.shape != (histogram.genuine.size + 1,) or not (np.diff(histogram.edges) > 0.0).all():
        raise ValueError(
            f"{where}, histogram: edges must rise and be one more than the {histogram.genuine.size} bins, "
            f"got {histogram.edges.size}"
        )
    if not np.array_equal(histogram.edges, first.edges):
        raise ValueError(f"{where}, histogram: all systems must share the same edges, or their heights do not compare")


def _check_support(system: System) -> None:
    where = f"system {system.name!r}, support over training"
    if not system.support:
        raise ValueError(f"{where} is missing; read it from the training log, one curve a seed")
    for curve in system.support:
        _check_series(f"{where}, seed {curve.seed}", curve.steps, curve.values)
        if curve.values.min() <= 0.0 or not (np.diff(curve.steps) > 0.0).all():
            raise ValueError(f"{where}, seed {curve.seed}: sizes must be > 0 and steps must rise")


def _check_series(what: str, *arrays: Floats, at_least: int = 1) -> None:
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1 or arrays[0].size < at_least:
        got = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"{what}: arrays must be of one shape (n,) with n >= {at_least}, got {got}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{what} must be finite, got nan or inf")
