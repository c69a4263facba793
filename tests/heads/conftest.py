"""Every head is tested beside the sharded one, which needs a process group."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _one_rank(one_rank: None) -> None:
    """The group is there."""
