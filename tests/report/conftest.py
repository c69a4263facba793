"""A comparison as `qmargin compare` fills it, from simulated scores, and a browser that tells what it complains of."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qmargin.metrics import det_band
from qmargin.protocols.comparison import (
    Comparison,
    Difference,
    Estimate,
    Figure,
    Floats,
    Histogram,
    System,
    TrainingCurve,
)

SUBJECTS, GENUINE, IMPOSTOR, SEEDS = 20, 45, 180, (0, 1, 2)
SETTINGS = {
    "ArcFace": ("name ArcFace, alpha 1.0, scale 64, margin 0.5", 0.0, 280.0),
    "CosFace": ("name CosFace, alpha 1.0, scale 64, margin 0.35", -0.03, 280.0),
    "Q-Margin": ("name QMargin, alpha 1.5, scale 6, margin 0.1", 0.35, 6.4),
}
FIGURES = (
    Figure(name="TAR@FAR=1e-02", higher_is_better=True),
    Figure(name="TAR@FAR=1e-03", higher_is_better=True),
    Figure(name="EER", higher_is_better=False),
)


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    """Three systems, three seeds each, 900 genuine and 3,600 impostor trials of 20 people."""
    scores = {name: _scores(shift) for name, (_, shift, _) in SETTINGS.items()}
    return Comparison(
        title="Q-Margin, ArcFace and CosFace on simulated faces",
        baseline="ArcFace",
        figures=FIGURES,
        systems=tuple(_system(name, scores) for name in SETTINGS),
        subjects=SUBJECTS,
        genuine=SUBJECTS * GENUINE,
        impostor=SUBJECTS * IMPOSTOR,
        differing_field="loss",
        shared_settings={"batch_size": "128", "optimizer.learning_rate": "0.1", "data.source.path": ""},
        notes=("The scores are simulated: this page shows a layout, not a result.",),
        provenance={
            "command": "qmargin compare runs/arcface-0 runs/arcface-1 runs/arcface-2 runs/qmargin-0 --baseline ArcFace",
            "date": "2026-01-01 12:00 UTC",
            "machine": "x86_64, 2 threads, Linux",
            "versions": "qmargin 0.1.0, Python 3.11.7, torch 2.13.0, numpy 2.2.6",
        },
    )


def _scores(shift: float) -> Floats:
    """(seeds, subjects, trials): genuine trials first; subjects and trials are the same for every shift."""
    subject = np.random.default_rng(7).normal(scale=0.45, size=(SUBJECTS, 1))
    noise = np.random.default_rng(8).normal(size=(len(SEEDS), SUBJECTS, GENUINE + IMPOSTOR))
    seed = np.random.default_rng([9, int(100 * abs(shift))]).normal(scale=0.05, size=(len(SEEDS), 1, 1))
    noise[:, :, :GENUINE] += 3.6 + shift + seed + subject
    return np.tanh(noise / 5.0)


def _tar(scores: Floats, rate: float) -> float:
    impostor = np.sort(scores[:, GENUINE:], axis=None)
    cutoff = impostor[-1 - int(rate * impostor.size)]
    return float(np.mean(scores[:, :GENUINE] > cutoff))


def _eer(scores: Floats) -> float:
    cutoffs = np.sort(scores, axis=None)[::4]
    frr = np.searchsorted(np.sort(scores[:, :GENUINE], axis=None), cutoffs) / scores[:, :GENUINE].size
    far = 1.0 - np.searchsorted(np.sort(scores[:, GENUINE:], axis=None), cutoffs) / scores[:, GENUINE:].size
    cross = int(np.abs(far - frr).argmin())
    return float(far[cross] + frr[cross]) / 2.0


STATISTICS: dict[str, Callable[[Floats], float]] = {
    "TAR@FAR=1e-02": lambda scores: _tar(scores, 1e-2),
    "TAR@FAR=1e-03": lambda scores: _tar(scores, 1e-3),
    "EER": _eer,
}


def _resamples(scores: Floats, name: str) -> Floats:
    draws = np.random.default_rng(11).integers(SUBJECTS, size=(40, SUBJECTS))
    return np.array([np.mean([STATISTICS[name](run[draw]) for run in scores]) for draw in draws])


def _estimate(scores: Floats, name: str) -> Estimate:
    values = [STATISTICS[name](run) for run in scores]
    low, high = np.quantile(_resamples(scores, name), (0.025, 0.975))
    return Estimate(mean=float(np.mean(values)), spread=float(np.std(values, ddof=1)), low=float(low), high=float(high))


def _difference(scores: Floats, baseline: Floats, figure: Figure) -> Difference:
    statistic = STATISTICS[figure.name]
    resampled = _resamples(scores, figure.name) - _resamples(baseline, figure.name)
    low, high = np.quantile(resampled, (0.025, 0.975))
    mean = float(np.mean([statistic(run) - statistic(base) for run, base in zip(scores, baseline, strict=True)]))
    won = float(np.mean((resampled > 0.0) == figure.higher_is_better))
    return Difference(mean=mean, low=float(low), high=float(high), won=won)


def _system(name: str, scores: dict[str, Floats]) -> System:
    setting, _, support = SETTINGS[name]
    own, baseline = scores[name], scores["ArcFace"]
    labels = np.tile(np.arange(GENUINE + IMPOSTOR) < GENUINE, (len(SEEDS), SUBJECTS, 1))
    edges = np.linspace(-0.8, 1.0, 55, dtype=np.float64)
    counts = [np.histogram(own[labels == kind], edges)[0] for kind in (True, False)]
    steps = np.linspace(10.0, 1500.0, 150, dtype=np.float64)
    curves = [support + (300.0 - support) * np.exp(-steps / (150.0 + 30.0 * seed)) for seed in SEEDS]
    return System(
        name=name,
        setting=setting,
        seeds=SEEDS,
        runs=tuple(f"runs/{name.lower()}-{seed}" for seed in SEEDS),
        estimates={figure.name: _estimate(own, figure.name) for figure in FIGURES},
        differences={} if name == "ArcFace" else {f.name: _difference(own, baseline, f) for f in FIGURES},
        false_accepts={"TAR@FAR=1e-02": 36.0, "TAR@FAR=1e-03": 3.0},
        points={},
        band=det_band(own.reshape(len(SEEDS), -1), labels[0].ravel(), _sides(), resamples=40),
        histogram=Histogram(edges=edges, genuine=counts[0] / counts[0].sum(), impostor=counts[1] / counts[1].sum()),
        support=tuple(
            TrainingCurve(seed=seed, steps=steps, values=values) for seed, values in zip(SEEDS, curves, strict=True)
        ),
        final_support=Estimate(mean=support, spread=0.02 * support, low=0.98 * support, high=1.03 * support),
    )


def _sides() -> NDArray[np.int64]:
    """Subject on each side of each trial (trials, 2): impostors are the others in turn."""
    own, trial = np.indices((SUBJECTS, GENUINE + IMPOSTOR))
    other = np.where(trial < GENUINE, own, (own + 1 + trial % (SUBJECTS - 1)) % SUBJECTS)
    return np.stack([own.ravel(), other.ravel()], axis=1)


Change = Callable[..., Comparison]


@pytest.fixture
def change(comparison: Comparison) -> Change:
    """Replace fields of one system: `change("Q-Margin", seeds=(0,))`."""

    def change_it(name: str, **fields: Any) -> Comparison:
        changed = [replace(s, **fields) if s.name == name else s for s in comparison.systems]
        return replace(comparison, systems=tuple(changed))

    return change_it


@dataclass(frozen=True)
class Opened:
    """A page as the browser left it: the DOM after loading, and every console message and uncaught exception."""

    dom: str
    complaints: list[str]


OpenPage = Callable[[Path], Opened]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--hide-scrollbars",
    "--dump-dom",
)


@pytest.fixture(scope="session")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> OpenPage:
    """Open a file in a headless browser; skips where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser found: none of {', '.join(BROWSERS)} is on the PATH")

    def open_it(path: Path) -> Opened:
        profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
        command = [browser, *QUIET, profile, path.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        return Opened(done.stdout, re.findall(r"CONSOLE.*", done.stderr))

    return open_it
