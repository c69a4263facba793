"""A backbone that is shared out, here over one rank; over two it is trained in test_rank_cases.py."""

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from qmargin.heads.collectives import Group
from qmargin.training.parallel import exchanging, fill, gathered, share_out, whole


@pytest.fixture(autouse=True)
def group(one_rank: None) -> Group:  # noqa: ARG001 - makes it
    return Group()


def test_weights_are_shared_out_filled_and_gathered(group: Group) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.BatchNorm1d(2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    share_out(network, group)
    shared = network.state_dict()
    assert [name for name, tensor in shared.items() if isinstance(tensor, DTensor)] == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]
    found = gathered({"network": shared, "others": [1, {"text": "a"}]})
    assert found["others"] == [1, {"text": "a"}]
    torch.testing.assert_close(found["network"], before, rtol=0, atol=0)
    assert not any(isinstance(tensor, DTensor) for tensor in found["network"].values())
    fill(shared["0.weight"], torch.full((2, 3), 7.0))
    fill(shared["2.running_mean"], torch.full((2,), 5.0))
    assert torch.equal(whole(network.state_dict()["0.weight"]), torch.full((2, 3), 7.0))
    assert torch.equal(whole(network.state_dict()["2.running_mean"]), torch.full((2,), 5.0))


def test_gradients_of_parts_are_exchanged_with_the_last(group: Group) -> None:
    assert group.size == 1
    network = nn.Linear(3, 2)
    parallel = DistributedDataParallel(network)
    for now in (False, True):
        with exchanging(parallel, now=now):
            assert parallel.require_backward_grad_sync is now
        with exchanging(network, now=now):
            assert network.training
    assert parallel.require_backward_grad_sync
