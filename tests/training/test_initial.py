from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from qmargin import QMargin, StreamingHead
from qmargin.backbones import MobileFaceNetConfig, write_arcface_torch
from qmargin.data import OrlFaces, SyntheticIdentities
from qmargin.data.speech import FrontEnd
from qmargin.heads import ShardedHead
from qmargin.training import AveragingConfig, RunFolder, TrainConfig, train
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.initial import load_initial
from qmargin.training.manifest import read_samples
from qmargin.training.model_config import ModelConfig
from qmargin.training.model_file import write_model
from qmargin.training.prototypes import Prototypes
from qmargin.training.state import TrainingState


@pytest.fixture
def run(tiny: TrainConfig, tmp_path: Path) -> RunFolder:
    return train(replace(tiny, max_steps=2), tmp_path / "first")


def prototypes(state: TrainingState, config: TrainConfig) -> Prototypes:
    """Those of a training on the identities of the config."""
    names = frozenset(name for _, name, split in read_samples(config).rows() if split == "train")
    return Prototypes(state.head, names)


def test_a_run_of_other_identities_starts_from_the_backbone_of_a_run(
    tiny: TrainConfig, run: RunFolder, tmp_path: Path
) -> None:
    """One step at a rate of almost nothing: the weights are still those it began with."""
    other = replace(
        tiny,
        data=replace(tiny.image_data, source=OrlFaces(test_identities=20)),  # 20 people to train on, not 30
        optimizer=replace(tiny.optimizer, learning_rate=1e-12, warmup=0.0),
        init_from=run.path,
        max_steps=1,
        seed=7,
    )
    first = load_checkpoint(run.checkpoint)
    second = load_checkpoint(train(other, tmp_path / "second").checkpoint)
    assert torch.allclose(first["backbone"]["fc.weight"], second["backbone"]["fc.weight"], atol=1e-9)
    assert second["head"]["weight"].shape == (20, 16)
    assert first["head"]["weight"].shape == (30, 16)


def test_the_first_weights_may_be_a_model_file_or_arcface_torchs(tiny: TrainConfig, tmp_path: Path) -> None:
    network = tiny.backbone.build()
    said = ModelConfig(backbone=tiny.image_backbone, image=tiny.image_data.image, source="here")
    write_model(tmp_path / "m.safetensors", said, network.state_dict())
    write_arcface_torch(network, tmp_path / "m.pth")  # type: ignore[arg-type] # tiny is an IResNet
    for name in ("m.safetensors", "m.pth"):
        state = TrainingState.create(replace(tiny, seed=3), 5)
        load_initial(tmp_path / name, state.backbone, tiny.image_data.image)
        torch.testing.assert_close(state.backbone.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_prototypes_come_along_where_asked_for(tiny: TrainConfig, run: RunFolder) -> None:
    still = replace(tiny.optimizer, learning_rate=1e-12, warmup=0.0)
    again = replace(tiny, init_from=run.path, init_head=True, optimizer=still, max_steps=1, seed=7)
    ends = [load_checkpoint(one.checkpoint)["head"]["weight"] for one in (run, train(again, run.path.parent / "again"))]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-9)
    image = tiny.image_data.image
    state = TrainingState.create(replace(tiny, seed=3), 30)
    load_initial(run.path, state.backbone, image, prototypes(state, tiny))
    assert torch.equal(state.head.weight, load_checkpoint(run.checkpoint)["head"]["weight"])
    other = TrainingState.create(tiny, 29)
    with pytest.raises(ValueError, match=r"mismatch for weight: \(30, 16\).*init_head needs the same identities"):
        load_initial(run.path, other.backbone, image, prototypes(other, tiny))
    for name in ("m.pth", "m.safetensors"):
        with pytest.raises(ValueError, match=rf"init_head needs the folder of a run: {name} holds a backbone alone"):
            load_initial(Path(name), other.backbone, image, prototypes(other, tiny))


def test_prototypes_of_as_many_others_are_refused(tiny: TrainConfig, run: RunFolder, tmp_path: Path) -> None:
    """Thirty people here and there: the shapes fit, and each prototype would be somebody else's."""
    others = SyntheticIdentities(identities=30, samples=60, test_identities=2)
    config = replace(tiny, data=replace(tiny.image_data, source=others), init_from=run.path, init_head=True)
    with pytest.raises(
        ValueError,
        match=r"had 30, this training has 30, and in .* that differ are 's1' there and '0' here: train on",
    ):
        train(config, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    fewer = TrainingState.create(tiny, 30)
    with pytest.raises(ValueError, match=r"had 30, this training has 2, .* are 's11' there and nobody here"):
        load_initial(run.path, fewer.backbone, tiny.image_data.image, Prototypes(fewer.head, frozenset(("s1", "s10"))))
    run.manifest.unlink()
    with pytest.raises(ValueError, match=r"compares the identities with those of .*manifest.csv, which is not there"):
        load_initial(run.path, fewer.backbone, tiny.image_data.image, prototypes(fewer, tiny))


def test_images_of_other_channels_and_models_of_speech_are_refused(
    tiny: TrainConfig, run: RunFolder, tmp_path: Path
) -> None:
    network, image = tiny.backbone.build(), tiny.image_data.image
    said = ModelConfig(backbone=tiny.image_backbone, image=image, source="here")
    write_model(tmp_path / "m.safetensors", said, network.state_dict())
    for path in (run.path, tmp_path / "m.safetensors"):
        load_initial(path, network, replace(image, height=29, fit="exact"))  # a size shows in shapes, if it matters
        with pytest.raises(
            ValueError, match=r"weights for image.channels 1, not 3 .* set --data.image.channels 1, or leave init_from"
        ):
            load_initial(path, network, replace(image, channels=3))
        with pytest.raises(ValueError, match=r"holds weights for images, this training is on speech: init_from needs"):
            load_initial(path, network, FrontEnd.wespeaker())


@pytest.mark.parametrize("measure", ["unit", "probability"])
def test_the_base_measure_is_a_setting_of_the_new_run(tiny: TrainConfig, tmp_path: Path, measure: Any) -> None:
    """Prototypes come along from a run of the other measure, and of another prior; the measure does not."""
    other = replace(tiny.head, measure="probability" if measure == "unit" else "unit", prior_exponent=0.5)
    first = train(replace(tiny, head=other, max_steps=2), tmp_path / "first")
    state = TrainingState.create(replace(tiny, head=replace(tiny.head, measure=measure), seed=3), 30)
    load_initial(first.path, state.backbone, tiny.image_data.image, prototypes(state, tiny))
    assert torch.equal(state.head.weight, load_checkpoint(first.checkpoint)["head"]["weight"])
    if measure == "unit":
        assert state.head.base is None
    else:
        torch.testing.assert_close(state.head.base, torch.full((30,), 1 / 30))


def test_the_mean_of_the_weights_is_what_a_run_passes_on(tiny: TrainConfig, tmp_path: Path) -> None:
    run = train(replace(tiny, max_steps=3, averaging=AveragingConfig(ema=0.2)), tmp_path / "mean")
    saved = load_checkpoint(run.checkpoint)
    state = TrainingState.create(tiny, 5)
    load_initial(run.path, state.backbone, tiny.image_data.image)
    found = state.backbone.state_dict()["conv1.weight"]
    assert torch.equal(found, saved["average"]["conv1.weight"])
    assert not torch.equal(found, saved["backbone"]["conv1.weight"])


def test_another_network_is_refused_and_the_folder_stays_free(
    tiny: TrainConfig, run: RunFolder, tmp_path: Path
) -> None:
    wide = replace(tiny, backbone=replace(tiny.image_backbone, width=8), init_from=run.path)
    with pytest.raises(ValueError, match=r"mismatch for conv1.weight.*init_from needs the same network"):
        train(wide, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    mobile = MobileFaceNetConfig(width=4, embedding_dim=16, height=28, input_width=23, channels=1).build()
    with pytest.raises(ValueError, match=r"holds an IResNet of arcface_torch, the config's network is MobileFaceNet"):
        load_initial(tmp_path / "m.pth", mobile, tiny.image_data.image)
    with pytest.raises(ValueError, match=r"no checkpoint at "):
        load_initial(tmp_path / "nothing", tiny.backbone.build(), tiny.image_data.image)


class InFile(NamedTuple):
    """A tensor as an open checkpoint has it."""

    tensor: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    def read(self) -> torch.Tensor:
        return self.tensor


@pytest.mark.usefixtures("one_rank")
def test_a_shard_takes_its_rows_of_the_speeds_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {name: InFile(tensor) for name, tensor in StreamingHead(6, 4, QMargin()).state_dict().items()}
    head = ShardedHead(3, 4, QMargin())  # three speakers, of the second speed alone
    head.weight = torch.nn.Parameter(torch.zeros(2, 4))
    monkeypatch.setattr(ShardedHead, "class_range", range(1, 3))  # of the last one of two ranks
    Prototypes(head, frozenset(), (0.9,)).load(stored, (1.0, 0.9))  # type: ignore[arg-type]
    assert torch.equal(head.weight, stored["weight"].tensor[4:6])
    with pytest.raises(ValueError, match="has 6 classes at these speeds, not 3: init_head needs the same identities"):
        Prototypes(head, frozenset(), (0.9, 1.0)).load(stored, (1.0, 0.9))  # type: ignore[arg-type]
