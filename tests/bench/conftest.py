"""The scripts of benchmarks/ as modules, for the tests that name some in `MODULES`."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts(request: pytest.FixtureRequest) -> Iterator[dict[str, ModuleType]]:
    """They import each other from their folder, as when they are run."""
    names: tuple[str, ...] = request.module.MODULES
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield {name: import_module(name) for name in names}
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in names:
            sys.modules.pop(name, None)
