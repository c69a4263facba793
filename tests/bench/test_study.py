"""Planning, choosing, measuring and reporting of the studies in benchmarks/, on rows made up and on a tiny study."""

import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qmargin.backbones import IResNetConfig
from qmargin.data import ImageFormat
from qmargin.data.synthetic import SyntheticSamples
from qmargin.losses import ArcFace, CosFace, QMargin, Ramp
from qmargin.metrics import paired_subject_bootstrap, subject_bootstrap
from qmargin.protocols.pairs import Trials
from qmargin.protocols.verification import by_name, figures_for
from qmargin.recipes import find_recipe
from qmargin.scoring import Embeddings
from qmargin.training import RunFolder, TrainConfig

MODULES = (
    "study",
    "study_rows",
    "study_running",
    "study_measured",
    "study_plots",
    "study_report",
    "faces_small",
    "faces_small_report",
)
JUDGED = "TAR@FAR=1e-03"


@pytest.fixture
def plan(scripts: dict[str, ModuleType]) -> Any:
    """Two losses of two settings each, two rates, two seeds, two variations."""
    study = scripts["study"]
    return study.Study(
        candidates={
            "CosFace": [CosFace(0.1, 4.0), CosFace(0.2, 4.0)],
            "q": [QMargin(1.5, 0.1, 3.0), QMargin(2.0, 0.1, 3.0)],
        },
        rate=0.1,
        other_rates=(0.05,),
        other_margins=(),
        seeds=(3, 4),
        tuning_epochs=1,
        final_epochs=2,
        judged_by=JUDGED,
        higher_is_better=True,
        varied="q",
        variations={"as chosen": study.Variation(), "late": study.Variation(alpha=Ramp(start=1.0), head_rate=2.0)},
    )


class Tar:
    """Carries runs out by a table: the figure by (loss, margin or alpha, rate)."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def __call__(self, run: Any) -> dict[str, str]:
        self.done.append(run)
        final = run.loss.final
        value = {"CosFace": final.margin.m, "q": -final.alpha}.get(run.loss.name, 0.0) - run.rate
        return {"split": run.split, JUDGED: f"{value:.5f}", "minutes": "1.0"}


def carried(scripts: dict[str, ModuleType], plan: Any, path: Path, carry_out: Any) -> list[dict[str, str]]:
    path.parent.mkdir(exist_ok=True)
    columns = (*scripts["study_rows"].KEY, "split", *scripts["study_rows"].FIGURES, "minutes")
    rows: list[dict[str, str]] = scripts["study_running"].carry_on(
        plan, path, columns, carry_out, path.parent / "claims"
    )
    return rows


def test_the_phases_come_in_order_and_rest_on_what_was_measured(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    tar = Tar()
    rows = carried(scripts, plan, tmp_path / "rows.csv", tar)
    assert [run.phase for run in tar.done] == ["settings"] * 4 + ["around"] * 2 + ["final"] * 4 + ["schedules"] * 2
    final = [run for run in tar.done if run.phase == "final"]
    assert {(run.loss.name, run.loss.final, run.rate) for run in final} == {
        ("CosFace", CosFace(0.2, 4.0), 0.05),
        ("q", QMargin(1.5, 0.1, 3.0), 0.05),
    }
    assert [run.seed for run in final] == [3, 3, 4, 4]
    assert [run.epochs for run in tar.done] == [1] * 6 + [2] * 6
    assert [run.split for run in tar.done] == ["validation"] * 6 + ["test"] * 4 + ["validation"] * 2
    plain, late = tar.done[-2:]
    assert (plain.loss.alpha, plain.head_rate, plain.loss.name) == (None, 1.0, "q as chosen")
    assert (late.loss.alpha, late.head_rate, late.loss.name) == (Ramp(start=1.0), 2.0, "q late")
    assert plain.loss.final == late.loss.final == QMargin(1.5, 0.1, 3.0)
    assert len({run.folder for run in tar.done}) == len(rows) == 12


def test_other_margins_are_tried_around_the_best_and_may_be_chosen(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    plan = replace(plan, other_margins=(0.3,), candidates={**plan.candidates, "q": [QMargin(1.5, 0.0, 3.0)]})
    tar = Tar()
    rows = carried(scripts, plan, tmp_path / "rows.csv", tar)
    around = [(run.loss.name, run.loss.final.margin.m, run.rate) for run in tar.done if run.phase == "around"]
    assert around == [("CosFace", 0.2, 0.05), ("CosFace", 0.3, 0.1), ("q", 0.0, 0.05)]  # a loss without one has none
    assert plan.chosen(rows, "CosFace") == (CosFace(0.3, 4.0), 0.1)
    assert plan.sizes(rows) == {"settings": 3, "around": 3, "final": 4, "schedules": 2}


def test_the_lengths_come_last_at_the_chosen_settings(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    plan = replace(plan, lengths=(2, 6), of_lengths=("q", "CosFace"))
    tar = Tar()
    rows = carried(scripts, plan, tmp_path / "rows.csv", tar)
    last = tar.done[-4:]
    assert [(run.phase, run.loss.name, run.epochs, run.seed, run.rate, run.split) for run in last] == [
        ("lengths", loss, epochs, 3, 0.05, "validation") for epochs in (2, 6) for loss in ("q", "CosFace")
    ]
    assert last[0].loss.final == QMargin(1.5, 0.1, 3.0)
    assert plan.sizes(rows)["lengths"] == 4


def test_losses_chosen_at_another_rate_are_trained_at_the_one_rate_too(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    plan = replace(plan, one_rate=0.1, of_one_rate=("CosFace", "q", "fast"))
    plan = replace(plan, candidates={**plan.candidates, "fast": [CosFace(0.2, 4.0)]})

    class Fast(Tar):
        def __call__(self, run: Any) -> dict[str, str]:
            told = super().__call__(run)
            return {**told, JUDGED: f"{run.rate:.5f}"} if run.loss.name == "fast" else told

    tar = Fast()
    rows = carried(scripts, plan, tmp_path / "rows.csv", tar)
    last = tar.done[-2:]
    assert [(run.phase, run.loss.name, run.rate, run.seed, run.epochs, run.split) for run in last] == [
        ("one rate", loss, 0.1, 4, 2, "test") for loss in ("CosFace", "q")
    ]
    assert last[1].loss.final == QMargin(1.5, 0.1, 3.0)
    assert plan.sizes(rows)["one rate"] == 2
    shown = scripts["study_report"]._at_one_rate(plan, rows)
    assert [(row["loss"], row["phase"], row["seed"], row["learning rate"]) for row in shown] == [
        ("CosFace", "one rate", "4", "0.1"),
        ("q", "one rate", "4", "0.1"),
        ("fast", "final", "4", "0.1"),
    ]
    assert scripts["study_report"]._at_one_rate(plan, [row for row in rows if row["phase"] != "one rate"]) == []


def test_a_sharper_end_is_reached_from_the_chosen_scale(scripts: dict[str, ModuleType], plan: Any) -> None:
    plan = replace(plan, variations={"sharper": scripts["study"].Variation(sharper=4.0)})
    (run,) = plan._varied(QMargin(1.5, 0.1, 3.0), 0.1)
    assert [run.loss.at(progress).scale for progress in (0.0, 0.5, 1.0)] == [3.0, 7.5, 12.0]


def test_a_stopped_study_goes_on_where_it_was(scripts: dict[str, ModuleType], plan: Any, tmp_path: Path) -> None:
    whole = carried(scripts, plan, tmp_path / "whole.csv", Tar())
    for stop in (0, 3, 5, 8, 11):
        tar, path = Tar(), tmp_path / f"{stop}.csv"

        def carry_out(run: Any, tar: Tar = tar, stop: int = stop) -> dict[str, str]:
            if len(tar.done) == stop:
                raise KeyboardInterrupt
            return tar(run)

        with pytest.raises(KeyboardInterrupt):
            carried(scripts, plan, path, carry_out)
        rest = Tar()
        carried(scripts, plan, path, rest)
        assert len(rest.done) == 12 - stop
        assert path.read_text() == (tmp_path / "whole.csv").read_text()
    assert len(whole) == 12
    again = Tar()
    carried(scripts, plan, tmp_path / "whole.csv", again)
    assert again.done == []


def test_two_processes_share_the_runs(scripts: dict[str, ModuleType], plan: Any, tmp_path: Path) -> None:
    """Each run is carried out once; what rests on others waits for them, whoever has them."""
    tar, path, pause = Tar(), tmp_path / "rows.csv", threading.Event()

    def slow(run: Any) -> dict[str, str]:
        pause.wait(0.02)  # two at a time
        return tar(run)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(scripts["study_running"], "PAUSE", 0.01)
        found = [pool.submit(carried, scripts, plan, path, slow) for _ in range(2)]
        rows = [one.result(timeout=60) for one in found]
    assert sorted(run.folder for run in tar.done) == sorted({run.folder for run in tar.done})
    assert len(tar.done) == len(rows[0]) == len(rows[1]) == 12
    alone = carried(scripts, plan, tmp_path / "alone" / "rows.csv", Tar())
    assert sorted(rows[0], key=str) == sorted(alone, key=str)


def test_a_run_that_another_process_holds_is_left_to_it(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    claimed = scripts["study_running"].claimed
    with claimed(tmp_path / "run") as first, claimed(tmp_path / "run") as second, claimed(tmp_path / "other") as third:
        assert (first, second, third) == (True, False, True)
    with claimed(tmp_path / "run") as again:
        assert again


def test_a_figure_that_would_overwrite_the_key_is_refused(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"must not be named as its key is: \['loss'\]"):
        carried(scripts, plan, tmp_path / "rows.csv", lambda run: Tar()(run) | {"loss": "4.2"})
    columns = scripts["faces_small"].COLUMNS
    assert len(set(columns)) == len(columns)


def test_runs_of_another_length_choose_nothing(scripts: dict[str, ModuleType], plan: Any, tmp_path: Path) -> None:
    longer = replace(plan, tuning_epochs=9)
    rows = carried(scripts, plan, tmp_path / "rows.csv", Tar())
    with pytest.raises(scripts["study"].NotTriedError, match="no row of CosFace with 9 epochs"):
        longer.chosen(rows, "CosFace")
    assert scripts["study"].finished_runs(longer, rows, "final") == []
    assert len(scripts["study"].finished_runs(plan, rows[:-3], "final", "schedules")) == 3


def test_the_best_is_the_lowest_where_lower_is_better(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    rows = carried(scripts, plan, tmp_path / "rows.csv", Tar())
    assert replace(plan, higher_is_better=False).chosen(rows, "CosFace", ("settings",)) == (CosFace(0.1, 4.0), 0.1)


def test_a_setting_that_was_taken_out_is_named(scripts: dict[str, ModuleType], plan: Any, tmp_path: Path) -> None:
    rows = carried(scripts, plan, tmp_path / "rows.csv", Tar())
    fewer = replace(plan, candidates={**plan.candidates, "CosFace": [CosFace(0.1, 4.0)]})
    with pytest.raises(ValueError, match=r"CosFace with alpha, scale, margin \('1', '4', '0.2'\) is in the CSV file"):
        fewer.chosen(rows, "CosFace")


def test_the_face_study_is_as_large_as_its_budget(scripts: dict[str, ModuleType]) -> None:
    """At most eight tuning runs a loss, the same number for each; three seeds; hypotheses about Q-Margin 1.5."""
    study = scripts["faces_small"].study()
    with_margin = {loss: settings[0].margin.m > 0.0 for loss, settings in study.candidates.items()}
    budget = {loss: len(own) + len(study.other_margins) * with_margin[loss] for loss, own in study.candidates.items()}
    assert budget == dict.fromkeys(study.candidates, 5) | dict.fromkeys(("CosFace", "Q-Margin 1.25", "Q-Margin 2"), 6)
    assert len(study.other_rates) == 2
    assert len(study.seeds) == 3
    assert study.varied in study.candidates
    keys = [(loss, setting) for loss, settings in study.candidates.items() for setting in settings]
    assert len(set(keys)) == len(keys)
    first, *others = study.variations.values()
    assert first == scripts["study"].Variation()
    assert all(other != first for other in others)


def test_the_face_runs_are_those_of_their_row(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    faces, study = scripts["faces_small"], scripts["study"]
    plan = faces.study()
    final = study.Run(
        phase="final", loss=find_recipe("faces-small").losses["qmargin"], rate=0.2, seed=2, epochs=15, head_rate=0.5
    )
    config = faces.config(final, tmp_path / "manifest.csv")
    assert (config.seed, config.epochs, config.compile, config.precision) == (2, 15, True, "float32")
    assert faces.config(final, tmp_path / "m.csv", "bfloat16").precision == "bfloat16"
    assert (config.optimizer.learning_rate, config.optimizer.head_learning_rate_factor) == (0.2, 0.5)
    assert config.data.validation_identities == 0
    for phase in ("settings", "around", "schedules"):
        assert (
            faces.config(replace(final, phase=phase), tmp_path / "m.csv").data.validation_identities == faces.HELD_OUT
        )
    first = next(plan.planned([]))
    assert first.folder == "settings-CosFace-1-6-0.2-1-0-6"  # runs of before go on in their folders


def test_the_spread_of_embeddings_is_that_of_their_directions(scripts: dict[str, ModuleType]) -> None:
    draw = np.random.default_rng(0)
    names = np.array(["x"] * 4000)

    def told(vectors: np.ndarray[Any, Any]) -> list[float]:
        cells = scripts["study_rows"].spread(Embeddings(vectors.astype(np.float32), names, names))
        return [float(cells[name]) for name in scripts["study_rows"].SPREAD]

    common, dimensions = told(draw.normal(size=(4000, 6)))
    assert common < 0.05
    assert dimensions == pytest.approx(6.0, abs=0.1)
    flat = np.concatenate([draw.normal(size=(4000, 2)), np.zeros((4000, 4))], axis=1)
    assert told(9.0 * flat)[1] == pytest.approx(2.0, abs=0.01)
    assert told(draw.normal(size=(4000, 6)) + 20.0)[0] > 0.99


# --- intervals -------------------------------------------------------------------------------------------------------


def scored(seed: int, noise: float) -> Trials:
    """Trials of 40 people with three images each, all pairs."""
    draw = np.random.default_rng(seed)
    people = np.repeat(np.arange(40), 3)
    first, second = np.triu_indices(len(people), 1)
    labels = people[first] == people[second]
    scores = (labels + noise * draw.normal(size=len(labels))).astype(np.float32)
    return Trials(scores, labels, np.stack([people[first], people[second]], 1).astype(np.int32), "all")


NOISE = {"CosFace": 0.5, "q": 0.4}


def read(folder: RunFolder) -> Trials:
    """Trials by the name of the run: `final-q-...-SEED-EPOCHS`."""
    _, loss, *_, seed, _ = folder.path.name.split("-")
    return scored(int(seed), NOISE[loss])


def test_intervals_are_those_of_the_package(scripts: dict[str, ModuleType], plan: Any, tmp_path: Path) -> None:
    measured = scripts["study_measured"]
    rows = carried(scripts, plan, tmp_path / "rows.csv", Tar())
    told = measured.interval_rows(plan, rows, tmp_path, ["CosFace"], kept=tmp_path / "kept", read=read, resamples=40)
    trials = {loss: [scored(seed, noise) for seed in plan.seeds] for loss, noise in NOISE.items()}
    scores = {loss: np.stack([one.scores for one in own]) for loss, own in trials.items()}
    one = trials["q"][0]
    chosen = figures_for(one)
    single = subject_bootstrap(scores["q"], one.labels, one.subjects, by_name(chosen), resamples=40)
    paired = paired_subject_bootstrap(
        scores["q"],
        scores["CosFace"],
        one.labels,
        one.subjects,
        by_name(chosen),
        higher_is_better={figure.name: figure.higher_is_better for figure in chosen},
        resamples=40,
    )
    cells = {(row["loss"], row.get("baseline", ""), row["figure"]): row for row in told}
    assert len(cells) == len(told) == 3 * len(chosen)
    for name in by_name(chosen):
        own, difference = cells["q", "", name], cells["q", "CosFace", name]
        assert [float(own[key]) for key in ("value", "low", "high")] == pytest.approx(
            [single[name].estimate, single[name].low, single[name].high], abs=1e-6
        )
        expected = [getattr(paired[name], key) for key in ("difference", "low", "high", "won")]
        assert [float(difference[key]) for key in ("value", "low", "high", "won")] == pytest.approx(expected, abs=1e-6)
    assert float(cells["q", "CosFace", "EER"]["value"]) < 0.0


def test_what_was_resampled_is_kept_for_its_row(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of another day, whose embeddings are gone, keep their intervals; a run that was made anew has others."""
    measured = scripts["study_measured"]
    rows = carried(scripts, plan, tmp_path / "rows.csv", Tar())

    def told(read: Any, resamples: int = 40) -> list[dict[str, str]]:
        found: list[dict[str, str]] = measured.interval_rows(
            plan, rows, tmp_path, ["CosFace"], kept=tmp_path / "kept", read=read, resamples=resamples
        )
        return found

    def gone(folder: RunFolder) -> Trials:
        raise FileNotFoundError(folder.path.name)

    first = told(read)
    assert len(list((tmp_path / "kept").iterdir())) == 4
    assert told(gone) == first
    with pytest.raises(FileNotFoundError):
        told(gone, resamples=41)
    anew = next(row for row in rows if (row["phase"], row["loss"]) == ("final", "q"))
    anew["EER"] = "0.12345"
    with pytest.raises(FileNotFoundError, match="final-q"):
        told(gone)
    monkeypatch.setitem(NOISE, "q", 0.41)
    assert told(read) != first


def test_intervals_are_over_the_seeds_of_all_losses_and_want_the_same_trials(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    measured = scripts["study_measured"]
    rows = carried(scripts, plan, tmp_path / "rows.csv", Tar())

    def told(rows: Any, read: Any = read) -> list[dict[str, str]]:
        found: list[dict[str, str]] = measured.interval_rows(
            plan, rows, tmp_path, ["CosFace"], kept=tmp_path / "kept", read=read, resamples=40
        )
        return found

    def without(*seeds: str) -> list[dict[str, str]]:
        return [row for row in rows if (row["phase"], row["loss"]) != ("final", "q") or row["seed"] not in seeds]

    assert {row["seeds"] for row in told(rows)} == {"2"}
    one = told(without("4"))
    assert {row["seeds"] for row in one} == {"1"}
    assert one == measured.interval_rows(
        replace(plan, seeds=(3,)), rows, tmp_path, ["CosFace"], kept=tmp_path / "other", read=read, resamples=40
    )
    assert told(without("3", "4")) == []
    shutil.rmtree(tmp_path / "kept")
    told(without("4"))
    names = {path.stem for path in (tmp_path / "kept").iterdir()}
    assert len(names) == 3  # of the seed that a loss has not yet, too

    def other(folder: RunFolder) -> Trials:
        return replace(read(folder), digest=folder.path.name.split("-")[1])

    shutil.rmtree(tmp_path / "kept")
    with pytest.raises(ValueError, match="scored on different trials"):
        told(rows, other)


# --- a whole study ---------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve people with six synthetic images each, as PNG files; the last four are the test split."""
    samples = SyntheticSamples.with_counts({"train": [6] * 8, "test": [6] * 4}, variation=0.3, seed=1)
    lines = ["path,identity,split"]
    for index, (name, identity, split) in enumerate(samples.rows()):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples.pixels(index, ImageFormat(height=16, width=16, channels=3))).save(path)
        lines.append(f"{name}.png,{identity},{split}")
    table = tmp_path / "images" / "manifest.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture
def _tiny_study(scripts: dict[str, ModuleType], plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The face study with a network of a few thousand weights, three held-out people, and two losses."""
    faces, real = scripts["faces_small"], scripts["faces_small"].config
    monkeypatch.setattr(faces, "HELD_OUT", 3)

    def config(run: Any, manifest: Path, precision: str) -> TrainConfig:
        found: TrainConfig = real(run, manifest, precision)
        return replace(
            found,
            data=replace(found.image_data, image=ImageFormat(height=16, width=16, channels=3)),
            backbone=IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=8, height=16, input_width=16),
            batch_size=10,
            log_every=2,
            compile=False,
        )

    small = replace(
        plan,
        candidates={"CosFace": [CosFace(0.1, 8.0)], "ArcFace": [ArcFace(0.1, 8.0)], "q": plan.candidates["q"]},
        judged_by="TAR@FAR=1e-01",
        lengths=(2,),
        of_lengths=("q",),
    )
    monkeypatch.setattr(faces, "config", config)
    monkeypatch.setattr(faces, "study", lambda *_: small)
    monkeypatch.setattr(scripts["faces_small_report"], "study", lambda *_: small)


@pytest.mark.usefixtures("_tiny_study")
def test_a_whole_study_from_images_to_its_page(
    scripts: dict[str, ModuleType], manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, runs, page = tmp_path / "results", tmp_path / "runs", tmp_path / "docs" / "faces-small.md"
    results.mkdir()
    rows = results / "faces_small.csv"
    report = ["report", f"--results={results}", f"--page={page}", "--resamples=40"]

    def call(script: str, *words: str) -> None:
        monkeypatch.setattr(sys, "argv", list(words))
        scripts[script].main()

    call("faces_small", "study", f"--manifest={manifest}", f"--out={runs}", f"--rows={rows}")
    done = scripts["study_rows"].read_rows(rows)
    phases = {"settings": 4, "around": 3, "final": 6, "schedules": 2, "lengths": 1}
    assert [row["phase"] for row in done] == [phase for phase, runs in phases.items() for _ in range(runs)]
    assert all(float(row["prototypes_taught"]) <= 8 for row in done)
    assert len(list(runs.glob("final-*/embeddings-test.npz"))) == 6
    short = [row for row in done if (row["phase"], row["loss"]) != ("final", "q") and row["phase"] != "schedules"]
    scripts["study_rows"].write_rows(rows, scripts["faces_small"].COLUMNS, short)
    call("faces_small_report", *report, f"--out={runs}")
    early = page.read_text()
    assert "4 of 6 final" in early
    assert "\n    make study-faces MANIFEST" in early  # a block of code, its first line too
    assert "## Differences to" not in early
    page.write_text(early.replace("# Losses", "Read this first.\n\n# Losses"))

    scripts["study_rows"].write_rows(rows, scripts["faces_small"].COLUMNS, done)
    call("faces_small_report", *report, f"--out={runs}")
    text = page.read_text()
    assert text.startswith("Read this first.\n\n# Losses compared")
    assert "6 of 6 final, 2 of 2 schedules, 1 of 1 lengths" in text
    for heading in (
        "Settings chosen",
        "Every scale that was tried",
        "Error rates",
        "Differences to CosFace",
        "Differences to ArcFace",
        "Schedules of q",
        "Length of training",
    ):
        assert f"## {heading}" in text
    by_eye = [float(row["EER"]) for row in done if row["phase"] == "final" and row["loss"] == "q"]
    assert f"{100 * np.mean(by_eye):.2f} ± {100 * np.std(by_eye, ddof=1):.2f}" in text
    for plot in ("settings", "tar", "differences", "training", "schedules"):
        assert f"(faces-small-{plot}.svg)" in text
        assert (page.parent / f"faces-small-{plot}.svg").read_text().count("<svg") == 1

    page.write_text("my own page")
    with pytest.raises(ValueError, match=r"faces-small.md has not the line '<!-- written by a script"):
        call("faces_small_report", *report)
    page.write_text(text)

    for folder in runs.iterdir():
        folder.rename(tmp_path / folder.name) if folder.is_file() else shutil.rmtree(folder)
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    call("faces_small_report", *report)
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before


def test_every_scale_stands_in_its_column(scripts: dict[str, ModuleType], plan: Any, tmp_path: Path) -> None:
    def carry_out(run: Any) -> dict[str, str]:
        return Tar()(run) | {"EER": f"{run.loss.final.scale / 100:.5f}", "support_size": "1012.4"}

    scales = {"CosFace": [CosFace(0.1, 4.0), CosFace(0.1, 16.0)], "q": [QMargin(1.5, 0.1, 16.0)]}
    plan = replace(plan, candidates=scales)
    columns = (*scripts["study_rows"].KEY, "split", "minutes", JUDGED, "EER", "support_size")
    rows = scripts["study_running"].carry_on(plan, tmp_path / "rows.csv", columns, carry_out, tmp_path / "claims")
    head, _, first, second = scripts["study_report"]._scales(plan, rows).splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["loss", "s = 4", "s = 16"]
    assert [cell.strip() for cell in first.strip("|").split("|")] == ["CosFace", "0.0, 4.0, 1,012", "0.0, 16.0, 1,012"]
    assert [cell.strip() for cell in second.strip("|").split("|")] == ["q", "", "-160.0, 16.0, 1,012"]


def difference(value: float, low: float, high: float) -> dict[str, str]:
    return {"value": str(value), "low": str(low), "high": str(high)}


def test_what_is_said_in_words_is_what_the_intervals_and_the_seeds_allow(scripts: dict[str, ModuleType]) -> None:
    report = scripts["study_report"]
    cells = {
        "EER": difference(-0.02, -0.03, -0.01),  # lower is better
        "TAR@FAR=1e-01": difference(-0.02, -0.03, -0.01),
        "TAR@FAR=1e-02": difference(0.02, -0.01, 0.05),  # the people may be luck
        "TAR@FAR=1e-03": difference(0.02, 0.01, 0.03),  # the seeds may be
    }
    seeds = dict.fromkeys(cells, 0.001) | {"TAR@FAR=1e-03": 0.02}
    assert report._verdict(cells, seeds) == (
        "better at EER; worse at TAR@FAR=1e-01; within noise at TAR@FAR=1e-02, TAR@FAR=1e-03"
    )
    assert report._difference(cells["EER"], 0.001) == "-2.00 ✓ [-3.00, -1.00]"
    assert report._difference(cells["TAR@FAR=1e-02"], 0.001) == "+2.00 [-1.00, +5.00]"
    assert report._difference(cells["TAR@FAR=1e-03"], 0.02) == "+2.00 ✓ ~ [+1.00, +3.00]"
