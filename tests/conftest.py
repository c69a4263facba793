"""What every test shares: one thread (small tensors gain nothing from more), a fixed seed and hypothesis profile."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("fixed", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("fixed")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
