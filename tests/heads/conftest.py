"""A process group of one, so that the sharded head can be tested like any other."""

from collections.abc import Iterator

import pytest
from torch import distributed


@pytest.fixture(autouse=True, scope="module")
def one_rank() -> Iterator[None]:
    store = distributed.HashStore()  # type: ignore[attr-defined] # torch has it, its stubs do not say so
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
