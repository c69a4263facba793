"""Recordings of people, where there are some: the folder that QMARGIN_SPEECH names, with its manifest.csv.

The manifest has path, speaker, split, gender, age; splits are train, test, and extra for speakers of one recording.
"""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmargin.data.speech import FrontEnd, SpeechTable, recording_features
from qmargin.metrics import eer
from qmargin.protocols import all_pairs, training_validator
from qmargin.recipes import find_recipe
from qmargin.scoring import open_speech_embedder
from qmargin.scoring.embed import embed_samples
from qmargin.training import TrainConfig, ValidationConfig, train
from qmargin.training.manifest import read_samples

FOLDER = Path(os.environ.get("QMARGIN_SPEECH", "data/speech"))
MANIFEST = FOLDER / "manifest.csv"
pytestmark = pytest.mark.skipif(
    not MANIFEST.is_file(), reason=f"no {MANIFEST}: set QMARGIN_SPEECH to a folder of recordings with its manifest.csv"
)
TRAIN, TEST, UTTERANCES = 40, 20, 8


def rows() -> list[dict[str, str]]:
    with MANIFEST.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_is_an_utterance_and_no_speaker_is_in_two_splits() -> None:
    listed = rows()
    table = SpeechTable(path=MANIFEST, train=("train", "extra")).read()
    assert len(table) == len(listed)
    for split, names in (("train", ("train", "extra")), ("test", ("test",))):
        own = [row for row in listed if row["split"] in names]
        assert len(table.subset(split)) == len(own)
        assert table.subset(split).num_classes == len({row["speaker"] for row in own})


def test_features_are_as_long_as_the_recording() -> None:
    table = SpeechTable(path=MANIFEST, train=("train", "extra")).read()
    seconds = {row["path"]: float(row["seconds"]) for row in rows()}
    for index in range(0, len(table), max(len(table) // 50, 1)):
        features = recording_features(table.recording(index), FrontEnd.wespeaker())
        assert len(features) == pytest.approx(100 * seconds[table.path(index)] - 2, abs=2)
        assert np.isfinite(features).all()
        assert features.std() > 1.0


@pytest.fixture
def few(tmp_path: Path) -> TrainConfig:
    """The small recipe on the first speakers of each split."""
    (tmp_path / "voices").symlink_to(FOLDER.resolve())
    lines, taken = ["path,speaker,split"], dict[str, int]()
    for split, most in (("train", TRAIN), ("test", TEST)):
        own = [row for row in rows() if row["split"] == split]
        kept = sorted({row["speaker"] for row in own})[:most]
        for row in own:
            count = taken[row["speaker"]] = taken.get(row["speaker"], 0) + 1
            if row["speaker"] in kept and count <= UTTERANCES:
                lines.append(f"voices/{row['path']},{row['speaker']},{split}")
    (tmp_path / "few.csv").write_text("\n".join(lines) + "\n")
    config = find_recipe("speakers-small").with_loss("cosface")
    data = config.speech_data
    source = SpeechTable(path=tmp_path / "few.csv")
    change = replace(data.augmentation, noise=None)
    return replace(
        config,
        data=replace(data, source=source, augmentation=change, frames=100, feature_cache=tmp_path / "features"),
        batch_size=32,
        epochs=1,
        threads=1,
    )


def test_the_best_weights_are_those_of_the_best_validation(few: TrainConfig, tmp_path: Path) -> None:
    config = replace(
        few,
        data=replace(few.speech_data, validation_identities=8),
        validation=ValidationConfig(every=5, watch="identities.eer"),
    )
    run = train(config, tmp_path / "run", validate=training_validator(config))
    with run.validation.open(newline="") as file:
        told = {int(float(row["step"])): float(row["identities.eer"]) for row in csv.DictReader(file)}
    best = min(told, key=lambda step: told[step])
    model = open_speech_embedder(run.best)
    assert model.step == best
    held_out = read_samples(config).subset("validation")
    trials = all_pairs(embed_samples(model.backbone, held_out, config.data, quiet=True))
    assert eer(trials.scores, trials.labels) == pytest.approx(told[best], abs=1e-6)
    # a network that knows nothing yet hears children and adults apart: 50 % would be mixed-up recordings or speakers
    fresh = embed_samples(config.backbone.build(), read_samples(config).subset("test"), config.data, quiet=True)
    trials = all_pairs(fresh)
    assert eer(trials.scores, trials.labels) < 0.4
