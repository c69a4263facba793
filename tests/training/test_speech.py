"""Speech through the loop that trains images: the same folder, log, checkpoints and resuming."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.voices import write_voices
from torch import nn

from qmargin.backbones import CamPlusPlusConfig, EcapaConfig, SpeakerResNetConfig
from qmargin.data.speech import (
    FrontEnd,
    RecordedNoise,
    SpeakerFolders,
    SpecAugment,
    SpeechAugmentation,
    SyntheticNoise,
)
from qmargin.heads import DenseHead
from qmargin.losses import QMargin
from qmargin.metrics import eer
from qmargin.protocols import all_pairs, training_validator
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_files, embed_recordings_with, embed_run, open_speech_embedder
from qmargin.scoring.runs import trained_backbone
from qmargin.scoring.speech import embed_utterances, listed_recordings
from qmargin.training import AveragingConfig, Interrupted, RunFolder, SpeechDataConfig, TrainConfig, loop, train
from qmargin.training.checkpoint import open_checkpoint
from qmargin.training.codec import from_json, to_json
from qmargin.training.initial import load_initial
from qmargin.training.manifest import read_samples
from qmargin.training.model_config import SpeechModelConfig
from qmargin.training.model_file import write_model
from qmargin.training.options import ValidationConfig
from qmargin.training.prototypes import Prototypes
from qmargin.training.state import TrainingState
from qmargin.training.step import train_step
from qmargin.training.validation import Validator


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers to train on, and four others."""
    folder = tmp_path_factory.mktemp("voices")
    write_voices(folder / "train", speakers=6, utterances=3)
    write_voices(folder / "test", speakers=4, utterances=2, first=6)
    return folder


@pytest.fixture
def tiny(voices: Path) -> TrainConfig:
    config = find_recipe("speakers-small").with_loss("qmargin")
    return replace(
        config,
        data=SpeechDataConfig(
            source=SpeakerFolders(train=voices / "train", test=voices / "test"),
            front_end=FrontEnd(bins=24),
            frames=40,
            augmentation=SpeechAugmentation(
                speeds=(1.0, 0.9), noise=SyntheticNoise(rooms=2), masks=SpecAugment(bins=3, frames=4)
            ),
        ),
        backbone=EcapaConfig(channels=16, pooled=24, bottleneck=8, embedding_dim=12, bins=24),
        epochs=3,
        batch_size=6,
        log_every=1,
        checkpoint_every=2,
    )


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    with open_checkpoint(run.checkpoint) as saved:
        return {
            f"{part}.{name}": tensor.read() for part in ("backbone", "head") for name, tensor in saved[part].items()
        }


def test_speech_trains_in_the_loop_of_images(tiny: TrainConfig, tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run")
    assert weights(run)["head.weight"].shape == (2 * 6, 12)  # speeds times speakers
    embeddings = embed_run(run, "test")
    assert embeddings.vectors.shape == (8, 12)
    assert set(embeddings.identities) == {"id6", "id7", "id8", "id9"}
    assert np.isfinite(embeddings.vectors).all()
    assert json.loads(run.config.read_text())["data"]["front_end"]["window"] == "hamming"


def test_a_stopped_run_resumes_to_the_same_weights(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny, tmp_path / "whole")
    steps = 0
    real = train_step

    def stopping(*arguments: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise Interrupted("stopped by the test")
        return real(*arguments)  # type: ignore[arg-type] # as they come

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopping)
        with pytest.raises(Interrupted):
            train(tiny, tmp_path / "stopped")
    resumed = train(replace(tiny, data=replace(tiny.data, workers=1)), tmp_path / "stopped", resume=True)
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_held_out_speakers_are_validated_on_the_way(tiny: TrainConfig, tmp_path: Path) -> None:
    assert isinstance(tiny.data, SpeechDataConfig)
    config = replace(
        tiny, data=replace(tiny.data, validation_identities=3), epochs=2, validation=ValidationConfig(every=1)
    )
    run = train(config, tmp_path / "run", validate=training_validator(config))
    trials = all_pairs(embed_run(run, "validation"))
    assert list((tmp_path / "run").glob("validation*"))
    assert training_validator(config)(trained_backbone(run).backbone)["identities.eer"] == eer(
        trials.scores, trials.labels
    )
    with pytest.raises(ValueError, match=r"validation.bins are pairs of images: for speech, hold out speakers"):
        replace(config, validation=ValidationConfig(every=1, bins=(Path("lfw.bin"),)))
    with pytest.raises(ValueError, match=r"channels_last is an order of pixels: leave it off for speech"):
        replace(config, channels_last=True, device="cuda")


def test_the_best_weights_are_kept_and_waiting_ends(tiny: TrainConfig, voices: Path, tmp_path: Path) -> None:
    assert isinstance(tiny.data, SpeechDataConfig)
    config = replace(
        tiny,
        data=replace(tiny.data, validation_identities=3),
        epochs=20,
        validation=ValidationConfig(every=1, watch="identities.eer", patience=3),
    )
    real, seen = training_validator(config), list[float]()

    def validate(backbone: nn.Module) -> dict[str, float]:
        figures = real(backbone)
        seen.append(0.3 if len(seen) == 1 else 0.4)  # the second is the best
        return {**figures, "identities.eer": seen[-1]}

    run = train(config, tmp_path / "run", validate=Validator(real.names, validate))
    assert len(seen) == 2 + 3  # of 20 steps: the best one and three that are not better
    best = open_speech_embedder(run.best)
    assert (best.step, best.front_end) == (2, tiny.data.front_end)
    assert embed_recordings_with(best, sorted(voices.rglob("*.wav"))).vectors.shape == (26, 12)
    onward = replace(tiny, init_from=run.best, epochs=1)
    assert train(onward, tmp_path / "onward").has_checkpoint()


def test_a_split_of_the_source_is_validated_on_too(tiny: TrainConfig, voices: Path) -> None:
    assert isinstance(tiny.data, SpeechDataConfig)
    source = SpeakerFolders(train=voices / "train", validation=voices / "test")
    config = replace(tiny, data=replace(tiny.data, source=source), validation=ValidationConfig(every=1))
    assert set(training_validator(config)(config.backbone.build())) == {"identities.eer"}
    with pytest.raises(ValueError, match="there is nothing to validate on: hold out identities"):
        training_validator(replace(tiny, validation=ValidationConfig(every=1)))


def test_each_class_is_counted_once_for_each_speed(tiny: TrainConfig) -> None:
    assert tiny.data.class_counts(read_samples(tiny).subset("train")).tolist() == [3] * 12
    with pytest.raises(ValueError, match=r"data.class_balance must be in \[0, 1\], got 2"):
        SpeechDataConfig(source=SpeakerFolders(train=Path("voices")), class_balance=2.0)


def test_extraction_uses_the_front_end_of_the_run(tiny: TrainConfig, voices: Path, tmp_path: Path) -> None:
    run = train(replace(tiny, epochs=1), tmp_path / "run")
    files = sorted((voices / "test").rglob("*.wav"))
    first = embed_files(run, files)
    np.testing.assert_array_equal(first.vectors, embed_files(run, files).vectors)
    for row, file in enumerate(files):  # alone, as among the others
        np.testing.assert_allclose(first.vectors[row], embed_files(run, [file]).vectors[0], atol=1e-4)
    model = trained_backbone(run)
    table = listed_recordings(files)
    for size in (3, 8):  # padded and masked
        together = embed_utterances(model.backbone, table, tiny.speech_data.front_end, batch_size=size, quiet=True)
        np.testing.assert_allclose(together, first.vectors, atol=1e-4)
    front_end = tiny.speech_data.front_end
    povey = replace(front_end, window="povey")
    assert np.abs(embed_utterances(model.backbone, table, povey, quiet=True) - first.vectors).max() > 1e-3
    run.config.write_text(to_json(replace(tiny, data=replace(tiny.speech_data, front_end=povey), epochs=1)))
    with pytest.raises(ValueError, match=r"were not trained on: put back its front-end, .*window='hamming'"):
        embed_files(run, files)


def test_a_residual_network_trains_on_speech_too(tiny: TrainConfig, tmp_path: Path) -> None:
    backbone = SpeakerResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=12, bins=24)
    run = train(replace(tiny, backbone=backbone, epochs=1), tmp_path / "run")
    assert trained_backbone(run).embed(read_samples(tiny).subset("test")).vectors.shape == (8, 12)


@pytest.mark.parametrize(
    "noise", [None, SyntheticNoise(rooms=3), RecordedNoise(musan=Path("m"), impulse_responses=Path("r"))]
)
def test_configs_of_speech_are_read_back_as_they_were(
    tiny: TrainConfig, noise: SyntheticNoise | RecordedNoise | None
) -> None:
    assert isinstance(tiny.data, SpeechDataConfig)
    config = replace(tiny, data=replace(tiny.data, augmentation=SpeechAugmentation(noise=noise)))
    assert from_json(to_json(config), "config.json") == config


def test_configs_of_before_speech_are_of_images() -> None:
    config = find_recipe("faces-orl").with_loss()
    tree = json.loads(to_json(config))
    assert tree["data"].pop("kind") == "DataConfig"
    assert from_json(json.dumps(tree), "config.json") == config


def test_data_and_backbone_must_be_of_one_kind(tiny: TrainConfig) -> None:
    faces = find_recipe("faces-orl").with_loss()
    with pytest.raises(
        ValueError, match=r"takes features of speech of 24 bins, the data are images of .*\(1, 28, 23\)"
    ):
        replace(tiny, data=faces.data)
    with pytest.raises(ValueError, match=r"takes features of speech of 80 bins, the data are features of .* 24 bins"):
        replace(tiny, backbone=EcapaConfig())
    with pytest.raises(ValueError, match=r"this run was trained on speech, and images were asked for"):
        _ = tiny.image_data
    assert faces.image_data is faces.data
    with pytest.raises(ValueError, match=r"data.frames must be an integer >= 1, got 0"):
        SpeechDataConfig(source=SpeakerFolders(train=Path("voices")), frames=0)
    with pytest.raises(
        ValueError, match=r"data.frames must be at least 9, got 8: networks take mean and deviation over"
    ):
        SpeechDataConfig(source=SpeakerFolders(train=Path("voices")), frames=8)


@pytest.mark.parametrize(
    "backbone",
    [
        EcapaConfig(channels=16, pooled=24, bottleneck=8, embedding_dim=12, bins=24, stride=3),
        SpeakerResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=12, bins=24),
        CamPlusPlusConfig(layers=(1, 1, 1), growth=4, bottleneck=8, channels=12, width=4, embedding_dim=12, bins=24),
    ],
    ids=lambda config: type(config).__name__,
)
def test_every_network_trains_on_the_shortest_segments(
    tiny: TrainConfig, tmp_path: Path, backbone: EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig
) -> None:
    short = replace(tiny, data=replace(tiny.speech_data, frames=9), backbone=backbone, epochs=1)
    assert all(tensor.isfinite().all() for tensor in weights(train(short, tmp_path / "run")).values())


def test_kept_features_train_like_computed_ones(tiny: TrainConfig, tmp_path: Path) -> None:
    assert isinstance(tiny.data, SpeechDataConfig)
    with pytest.raises(ValueError, match=r"data.feature_cache keeps features of clean recordings.*leave the cache out"):
        replace(tiny.data, feature_cache=tmp_path)
    change = replace(tiny.data.augmentation, noise=None)
    config = replace(tiny, data=replace(tiny.data, augmentation=change, feature_cache=tmp_path / "kept"))
    first = train(config, tmp_path / "first")
    kept = sorted((tmp_path / "kept").rglob("*.npy"))
    times = [file.stat().st_mtime_ns for file in kept]
    again = train(replace(config, data=replace(config.data, workers=1)), tmp_path / "again")
    expected, found = weights(first), weights(again)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "kept").rglob("*.npy"))] == times


def test_one_speaker_is_refused_whatever_the_speeds(tiny: TrainConfig, tmp_path: Path) -> None:
    """Three speeds make three classes, which a network could tell apart, and nobody."""
    folder = write_voices(tmp_path / "one", speakers=1, utterances=6)
    source = SpeakerFolders(train=folder, test=write_voices(tmp_path / "test", speakers=2, first=1))
    law = (
        rf"at least 2 identities, and all 6 samples to train on are of 'id0' \(data.source.train {folder}, "
        rf"data.source.test {tmp_path}/test\): of one it learns to tell nobody apart; is the folder too deep or"
    )
    with pytest.raises(ValueError, match=law):
        train(replace(tiny, data=replace(tiny.speech_data, source=source)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_where_kept_features_and_its_first_weights_were_moved(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(replace(tiny, max_steps=1), tmp_path / "first")
    data = replace(tiny.speech_data, augmentation=SpeechAugmentation(), feature_cache=tmp_path / "kept")
    config = replace(tiny, data=data, init_from=first.path)
    whole = train(config, tmp_path / "whole")

    def stopping(state: TrainingState, *rest: Any) -> object:
        if state.step == 4:
            raise Interrupted("stopped by the test")
        return train_step(state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopping)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run")
    first.path.rename(tmp_path / "elsewhere")
    (tmp_path / "kept").rename(tmp_path / "moved")
    there = replace(config, data=replace(data, feature_cache=tmp_path / "moved"), init_from=tmp_path / "elsewhere")
    for changed in ({"feature_cache": None}, {"feature_cache": tmp_path / "moved", "frames": 41}):
        with pytest.raises(ValueError, match=r"was trained with other settings \(data\.(feature_cache|frames)\)"):
            train(replace(there, data=replace(data, **changed)), tmp_path / "run", resume=True)
    resumed = train(there, tmp_path / "run", resume=True)
    assert resumed.read_config() == there
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_the_mean_of_one_state_an_epoch_is_that_of_as_many_steps(tiny: TrainConfig, tmp_path: Path) -> None:
    """Three steps an epoch: the recipes of VoxCeleb are the same at any batch size."""
    runs = {}
    for every in (None, 3):
        config = replace(tiny, averaging=AveragingConfig(last=2, every=every))
        with open_checkpoint(train(config, tmp_path / str(every)).checkpoint) as saved:
            assert saved["averaged"] == 2
            runs[every] = {name: tensor.read() for name, tensor in saved["average"].items()}
    assert all(torch.equal(tensor, runs[3][name]) for name, tensor in runs[None].items())


@pytest.fixture
def base_run(tiny: TrainConfig, tmp_path: Path) -> RunFolder:
    return train(tiny, tmp_path / "base")


def tuned(tiny: TrainConfig, base: RunFolder, speeds: tuple[float, ...], **change: object) -> TrainConfig:
    """A large-margin stage of a run: longer segments, another loss, the prototypes of some speeds."""
    assert isinstance(tiny.data, SpeechDataConfig)
    augmentation = replace(tiny.data.augmentation, speeds=speeds)
    loss = find_recipe("voxceleb-resnet34-large-margin").losses["arcface"]
    config = replace(
        tiny,
        data=replace(tiny.data, frames=80, augmentation=augmentation),
        loss=loss,
        init_from=base.path,
        init_head=True,
        epochs=2,
    )
    return replace(config, **change)  # type: ignore[arg-type] # as they come


@pytest.mark.parametrize("speeds", [(1.0, 0.9), (1.0,)], ids=["kept", "dropped"])
def test_large_margin_tuning_keeps_the_speed_classes_or_drops_them(
    tiny: TrainConfig, base_run: RunFolder, speeds: tuple[float, ...], tmp_path: Path
) -> None:
    still = replace(tiny.optimizer, learning_rate=1e-12, warmup=0.0)
    unmoved = train(tuned(tiny, base_run, speeds, optimizer=still, max_steps=1, seed=5), tmp_path / "unmoved")
    before, after = weights(base_run), weights(unmoved)
    kept = 6 * len(speeds)  # the block of speed 1 comes first
    torch.testing.assert_close(after["head.weight"], before["head.weight"][:kept], rtol=0, atol=1e-9)
    torch.testing.assert_close(after["backbone.linear.weight"], before["backbone.linear.weight"], rtol=0, atol=1e-9)
    run = train(tuned(tiny, base_run, speeds), tmp_path / "tuned")
    assert weights(run)["head.weight"].shape == (kept, 12)
    assert not torch.equal(weights(run)["head.weight"], before["head.weight"][:kept])
    trials = all_pairs(embed_run(run, "test"))
    assert 0.0 <= eer(trials.scores, trials.labels) <= 1.0


def test_blocks_of_speeds_go_to_the_same_speeds(tiny: TrainConfig, base_run: RunFolder, tmp_path: Path) -> None:
    head = DenseHead(num_classes=12, embedding_dim=12, loss=QMargin())
    with open_checkpoint(base_run.checkpoint) as saved:
        expected = saved["head"]["weight"].read()
    backbone = tiny.backbone.build()
    names = frozenset(name for _, name, split in read_samples(tiny).rows() if split == "train")
    turned = Prototypes(head, names, (0.9, 1.0))  # not an order that trainings have, but it shows the blocks
    load_initial(base_run.path, backbone, tiny.speech_data.front_end, turned)
    assert torch.equal(head.weight, torch.cat([expected[6:], expected[:6]]))
    with pytest.raises(ValueError, match=r"the run in init_from had the speeds 1, 0.9, not 1.1: set data.augmentation"):
        train(tuned(tiny, base_run, (1.0, 1.1)), tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_weights_for_another_front_end_are_refused(tiny: TrainConfig, base_run: RunFolder, tmp_path: Path) -> None:
    """No shape shows it: Povey windows and waves in [-1, 1] under weights for Hamming and 16-bit numbers."""
    front_end = tiny.speech_data.front_end
    other = replace(front_end, window="povey", wave_scale=1.0)
    config = replace(tiny, data=replace(tiny.speech_data, front_end=other), init_from=base_run.path)
    law = (
        r"weights for front_end.window hamming, not povey; front_end.wave_scale 32768, not 1 as in this training: "
        r"set --data.front-end.window hamming --data.front-end.wave-scale 32768, or leave init_from off"
    )
    with pytest.raises(ValueError, match=law):
        train(config, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
    network = tiny.backbone.build()
    said = SpeechModelConfig(backbone=tiny.speech_backbone, front_end=front_end, source="here")
    write_model(tmp_path / "m.safetensors", said, network.state_dict())
    for path in (base_run.path, tmp_path / "m.safetensors"):
        load_initial(path, network, replace(front_end, dither=0.0))  # of training alone
        with pytest.raises(ValueError, match=law):
            load_initial(path, network, other)
