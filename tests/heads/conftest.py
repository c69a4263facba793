"""A process group of one, so that the sharded head can be tested like any other."""

from collections.abc import Iterator

import pytest
from torch import distributed
from torch.distributed.distributed_c10d import HashStore


@pytest.fixture(autouse=True, scope="module")
def one_rank() -> Iterator[None]:
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
