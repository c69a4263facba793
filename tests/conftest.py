"""What every test shares: one thread (small tensors gain nothing from more), a fixed seed and hypothesis profile."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from torch import distributed

settings.register_profile("fixed", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("fixed")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_rank() -> Iterator[None]:
    """A process group of one, so that what ranks share out can be tested like anything else."""
    store = distributed.HashStore()  # type: ignore[attr-defined] # torch has it, its stubs do not say so
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
