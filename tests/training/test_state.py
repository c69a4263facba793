from dataclasses import replace

import pytest
import torch

from qmargin.training import TrainConfig
from qmargin.training.state import TrainingState, check_device


def test_a_state_restores_weights_momentum_step_and_generator(tiny: TrainConfig) -> None:
    state = TrainingState.create(tiny, num_classes=5)
    images, labels = torch.randn(4, *tiny.backbone.input_shape), torch.arange(4)
    state.head(state.backbone(images), labels).backward()
    state.optimizer.step()
    state.step = 3
    saved = state.state_dict()
    drawn = torch.rand(3)
    other = TrainingState.create(replace(tiny, seed=9), num_classes=5)
    other.load_state_dict(saved)
    assert torch.equal(torch.rand(3), drawn)
    assert other.step == 3
    torch.testing.assert_close(other.state_dict()["optimizer"], saved["optimizer"], rtol=0, atol=0)
    torch.testing.assert_close(other.state_dict()["backbone"], saved["backbone"], rtol=0, atol=0)


def test_weights_of_another_network_are_refused_by_name(tiny: TrainConfig) -> None:
    saved = TrainingState.create(tiny, num_classes=5).state_dict()
    with pytest.raises(ValueError, match=r"does not fit the config's DenseHead: size mismatch for weight"):
        TrainingState.create(tiny, num_classes=6).load_state_dict(saved)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_cannot_compute_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot compute on device '{device}': .*--device cpu works everywhere"):
        check_device(device)
