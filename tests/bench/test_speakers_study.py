"""The study of voices in benchmarks/: who judges, what is cut, which pairs are apart, and a tiny study as a whole."""

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.voices import hum

from qmargin.backbones import EcapaConfig
from qmargin.data.speech import FrontEnd, KaldiFolders
from qmargin.losses import CosFace, QMargin
from qmargin.metrics import eer
from qmargin.recipes import find_recipe
from qmargin.scoring import Embeddings
from qmargin.training import TrainConfig
from qmargin.training.manifest import read_samples

Rule = Callable[[str, str], bool]  # whether a pair of people is in
MODULES = (
    "study",
    "study_rows",
    "study_running",
    "study_measured",
    "study_plots",
    "study_report",
    "faces_small",
    "speakers_small",
    "speakers_small_report",
)
AGES = {"train": (8, 9, 10, 30, 31, 32, 33, 34), "test": (7, 11, 40, 41), "extra": ("", "")}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight speakers to train on and four to judge on, of four utterances, and two of one long recording."""
    folder = tmp_path_factory.mktemp("voices")
    lines = ["path,speaker,split,gender,age,seconds"]
    for split, ages in AGES.items():
        for number, age in enumerate(ages):
            speaker = f"{split}{number}"
            for part in range(1 if split == "extra" else 4):
                seconds = 9.0 + number if split == "extra" else 1.0 + 0.2 * part
                wave = hum(seconds, 90.0 + 17.0 * len(lines) ** 0.5 + 40.0 * number, seed=len(lines))
                soundfile.write(folder / f"{speaker}-{part}.flac", wave, 16_000)
                gender = "" if split == "extra" else "mf"[number % 2]
                lines.append(f"{speaker}-{part}.flac,{speaker},{split},{gender},{age},{seconds}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


@pytest.fixture
def _few(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts["speakers_small"], "HELD_OUT", 4)


@pytest.mark.usefixtures("_few")
def test_lists_hold_out_children_and_adults_and_cut_single_recordings(
    scripts: dict[str, ModuleType], manifest: Path, tmp_path: Path
) -> None:
    speakers = scripts["speakers_small"]
    rows = speakers.read_manifest(manifest)
    speakers.write_lists(rows, tmp_path)
    lists = tmp_path / "lists"
    tuning = KaldiFolders(train=lists / "fewer", validation=lists / "held-out").read()
    final = KaldiFolders(train=lists / "train", test=lists / "test").read()
    found = {split: tuning.subset(split) for split in ("train", "validation")}
    held = set(found["validation"].table.identities)
    assert held == speakers.held_out(row for row in rows if row["split"] == "train")
    assert len(held) == 4
    assert len(held & {"train0", "train1", "train2"}) == 2  # children
    assert held.isdisjoint(found["train"].table.identities)
    assert final.subset("train").num_classes == 8 + 2
    assert final.subset("test").num_classes == 4
    parts = [final.recording(index).span for index, (_, speaker, _) in enumerate(final.rows()) if speaker == "extra1"]
    assert parts == [(0.0, 5.0), (5.0, 10.0)]  # of 10 s: the nearest to 4 s
    whole = [final.recording(index).span for index, (_, speaker, _) in enumerate(final.rows()) if speaker == "test0"]
    assert whole == [(0.0, 1.0), (0.0, 1.2), (0.0, 1.4), (0.0, 1.6)]


def test_a_manifest_without_ages_is_refused(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,speaker,split\na,b,train\n")
    with pytest.raises(ValueError, match="must have the columns age, gender, path, speaker, split"):
        scripts["speakers_small"].read_manifest(tmp_path / "m.csv")


def test_cohorts_are_the_pairs_that_their_names_say(scripts: dict[str, ModuleType]) -> None:
    ages, genders, draw = (8, 40, 9, 41), "mmff", np.random.default_rng(0)
    names = [f"p{number}" for number in range(4)]
    people = {name: {"age": str(age), "gender": gender} for name, age, gender in zip(names, ages, genders, strict=True)}
    who = np.repeat(names, 3)
    embeddings = Embeddings(draw.normal(size=(12, 5)).astype(np.float32), who, np.array([f"u{n}" for n in range(12)]))
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    wanted: dict[str, Rule] = {
        "": lambda a, b: True,  # noqa: ARG005 - of all pairs
        "children": lambda a, b: float(people[a]["age"]) < 18 > float(people[b]["age"]),
        "adults": lambda a, b: float(people[a]["age"]) >= 18 <= float(people[b]["age"]),
        "same gender": lambda a, b: people[a]["gender"] == people[b]["gender"],
    }
    found = scripts["speakers_small"].cohorts(embeddings, people)
    assert list(found) == list(wanted)
    for name, rule in wanted.items():
        pairs = [(i, j) for i, j in combinations(range(12), 2) if rule(who[i], who[j])]
        assert len(found[name].scores) == len(pairs)
        np.testing.assert_allclose(found[name].scores, [unit[i] @ unit[j] for i, j in pairs], atol=1e-6)
        assert found[name].labels.tolist() == [who[i] == who[j] for i, j in pairs]
    assert len({trials.digest for trials in found.values()}) == 4
    cells = scripts["speakers_small"].cells(embeddings, people)
    children = found["children"]
    assert float(cells["EER, children"]) == pytest.approx(eer(children.scores, children.labels), abs=1e-5)
    assert set(cells) <= set(scripts["speakers_small"].COLUMNS)


def test_the_study_is_that_of_faces_in_names_of_speech(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    speakers, faces = scripts["speakers_small"], scripts["faces_small"]
    plan = speakers.study()
    scales = {loss: [one.scale for one in tried] for loss, tried in plan.candidates.items()}
    assert {loss: own[0] for loss, own in scales.items() if own[0] < 12.0} == dict.fromkeys(
        ("AM", "AAM", "NormFace", "Q-Margin 1.1", "Q-Margin 1.25"), 6.0
    )
    assert {len(own) for own in scales.values()} == {4}
    same = zip(plan.candidates.values(), faces.CANDIDATES.values(), strict=True)
    assert all(replace(own[0], scale=1.0) == replace(other[0], scale=1.0) for own, other in same)
    assert {"AAM", "AM", "NormFace", "entmax 1.5", "A3M"} < set(plan.candidates)
    assert (plan.judged_by, plan.higher_is_better, len(plan.seeds), plan.one_rate) == ("EER", False, 3, 0.25)
    run = scripts["study"].Run(
        phase="final", loss=find_recipe("speakers-small").losses["qmargin"], rate=0.2, seed=2, epochs=7, head_rate=0.5
    )
    config = speakers.config(run, tmp_path)
    assert (config.seed, config.epochs, config.threads) == (2, 7, 1)
    assert (config.optimizer.learning_rate, config.optimizer.head_learning_rate_factor) == (0.2, 0.5)
    assert config.data.source == KaldiFolders(train=tmp_path / "lists/train", test=tmp_path / "lists/test")
    assert (config.data.feature_cache, config.data.augmentation.noise) == (tmp_path / "features", None)
    tuning = speakers.config(replace(run, phase="around"), tmp_path)
    assert tuning.data.source == KaldiFolders(train=tmp_path / "lists/fewer", validation=tmp_path / "lists/held-out")


@pytest.mark.usefixtures("_few")
def test_a_whole_study_of_voices(
    scripts: dict[str, ModuleType], manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speakers, study = scripts["speakers_small"], scripts["study"]
    real = speakers.config

    def config(run: Any, out: Path, precision: Any) -> TrainConfig:
        found: TrainConfig = real(run, out, precision)
        return replace(
            found,
            data=replace(found.speech_data, frames=40, front_end=FrontEnd(bins=24)),
            backbone=EcapaConfig(channels=16, pooled=24, bottleneck=8, embedding_dim=12, bins=24),
            batch_size=8,
            log_every=1,
        )

    small = study.Study(
        candidates={"AM": [CosFace(0.1, 8.0)], "q": [QMargin(1.5, 0.1, 3.0)]},
        rate=0.1,
        other_rates=(0.05,),
        other_margins=(),
        seeds=(0, 1),
        tuning_epochs=1,
        final_epochs=1,
        judged_by="EER",
        higher_is_better=False,
        varied="q",
        variations={"as chosen": study.Variation()},
        one_rate=0.02,
        of_one_rate=("AM", "q"),
    )
    monkeypatch.setattr(speakers, "config", config)
    monkeypatch.setattr(speakers, "study", lambda *_: small)
    rows = tmp_path / "rows.csv"
    words = ["study", f"--manifest={manifest}", f"--out={tmp_path / 'runs'}", f"--rows={rows}"]
    monkeypatch.setattr(sys, "argv", [*words, "--tuning-epochs=1", "--final-epochs=1"])
    speakers.main()
    done = scripts["study_rows"].read_rows(rows)
    assert [row["phase"] for row in done] == ["settings"] * 2 + ["around"] * 2 + ["final"] * 4 + [
        "schedules",
        *["one rate"] * 2,
    ]
    assert {(row["phase"] in {"final", "one rate"}, row["split"], row["subjects"]) for row in done} == {
        (True, "test", "4"),
        (False, "validation", "4"),
    }
    for row in done:
        for figure in ("EER", "minDCF(0.01)", "EER, children", "minDCF(0.01), same gender", "EER, adults"):
            assert 0.0 <= float(row[figure]) <= 1.0
    assert any((tmp_path / "runs" / "features").rglob("*.npy"))
    before = rows.read_bytes()
    speakers.main()  # nothing is left to do
    assert rows.read_bytes() == before
    samples = read_samples(
        config(study.Run(phase="around", loss=small_loss(), rate=0.1, seed=0, epochs=1), tmp_path / "runs", "float32")
    )
    assert samples.subset("train").num_classes == 4 + 2
    check_report(scripts, manifest, tmp_path, monkeypatch, small)


def check_report(
    scripts: dict[str, ModuleType], manifest: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, plan: Any
) -> None:
    """The page of the finished study: once from its runs, and the same again from the CSV files."""
    report, results, page = scripts["speakers_small_report"], folder / "results", folder / "docs" / "speakers-small.md"
    results.mkdir()
    (folder / "rows.csv").rename(results / "speakers_small.csv")
    monkeypatch.setattr(report, "study", lambda *_: plan)
    monkeypatch.setattr(report, "BASELINES", ("AM",))
    words = ["report", f"--results={results}", f"--page={page}", "--resamples=40"]
    monkeypatch.setattr(sys, "argv", [*words, f"--manifest={manifest}", f"--out={folder / 'runs'}"])
    report.main()
    text = page.read_text()
    for heading in ("Settings chosen", "Error rates", "Differences to AM", "Cohorts, against AM"):
        assert f"## {heading}" in text
    told = scripts["study_rows"].read_rows(results / "speakers_small_intervals.csv")
    rows = scripts["study_rows"].read_rows(results / "speakers_small.csv")
    for cohort in ("all pairs", "children", "adults", "same gender"):
        column = "EER" if cohort == "all pairs" else f"EER, {cohort}"
        finals = [float(row[column]) for row in rows if (row["phase"], row["loss"]) == ("final", "q")]
        (told_row,) = [
            row
            for row in told
            if (row["cohort"], row["loss"], row["baseline"], row["figure"]) == (cohort, "q", "", "EER")
        ]
        assert float(told_row["value"]) == pytest.approx(np.mean(finals), abs=1e-5)
        assert f"{100 * float(told_row['value']):.3f}" in text
    monkeypatch.setattr(sys, "argv", words)
    report.main()
    assert page.read_text() == text
    monkeypatch.setattr(sys, "argv", [*words, f"--out={folder / 'runs'}"])
    with pytest.raises(ValueError, match="--out and --manifest go together"):
        report.main()


def small_loss() -> Any:
    return find_recipe("speakers-small").losses["cosface"]
