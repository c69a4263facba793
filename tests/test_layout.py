"""The layout is a law: imports go one way along the stages, metrics know no torch, modules are short and say why.

The order of the data is the order of the folders:

    data, backbones -> divergence -> losses, optim -> heads -> training -> scoring -> protocols, metrics -> report
                                                                                   -> export

and beside it `bench`, which measures heads, and `calibration`, which makes decisions of scores.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "qmargin"
LONGEST = 400  # lines of a module

MAY_IMPORT = {  # stage: the other stages it may import
    "data": set(),
    "backbones": set(),
    "divergence": set(),
    "metrics": set(),
    "calibration": {"metrics"},
    "losses": {"divergence"},
    "optim": {"divergence"},
    "heads": {"divergence", "losses", "optim"},
    "bench": {"divergence", "losses", "optim", "heads"},
    "training": {"data", "backbones", "divergence", "losses", "optim", "heads"},
    "scoring": {"data", "backbones", "training"},
    "protocols": {"data", "training", "scoring", "metrics"},
    "report": {"metrics", "protocols"},
    "export": {"data", "training", "scoring"},
    "recipes": {"data", "backbones", "losses", "heads", "training"},
    "_files": set(),
}
BASE = {"_files"}  # below every stage
WIRING = {"__init__", "__main__", "cli"}  # these alone put stages together


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def stage_of(module: Path, package: Path) -> str:
    """Folder of the first level, or the name of a top-level file."""
    return module.relative_to(package).with_suffix("").parts[0]


def imported_names(module: Path, package: Path) -> Iterator[str]:
    """Dotted names of all imports of a file: also those inside functions and under TYPE_CHECKING."""
    folder = [package.name, *module.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def violations(package: Path) -> list[str]:
    """Every broken law, as `file: reason`."""
    found = []
    for module in modules(package):
        stage, name = stage_of(module, package), module.relative_to(package).as_posix()
        text = module.read_text(encoding="utf-8")
        if not ast.get_docstring(ast.parse(text)):
            found.append(f"{name}: no docstring")
        if len(text.splitlines()) > LONGEST:
            found.append(f"{name}: {len(text.splitlines())} lines, more than {LONGEST}")
        if stage in WIRING:
            continue
        if stage not in MAY_IMPORT:
            found.append(f"{name}: {stage} is not a stage of the layout")
            continue
        for imported in imported_names(module, package):
            root, _, rest = imported.partition(".")
            target = rest.partition(".")[0]
            if root == package.name and target not in {stage} | BASE | MAY_IMPORT[stage]:
                found.append(f"{name}: {stage} must not import {imported}")
            if stage == "metrics" and root == "torch":
                found.append(f"{name}: metrics must not import torch")
    return found


def test_package_keeps_its_layout() -> None:
    assert violations(PACKAGE) == []


def test_every_stage_of_the_table_exists() -> None:
    assert {stage for stage in MAY_IMPORT if not list(PACKAGE.glob(f"{stage}*"))} == set()


def test_the_table_is_one_way() -> None:
    """No stage can reach itself through what it may import."""

    def reachable(stage: str) -> set[str]:
        return MAY_IMPORT[stage].union(*(reachable(other) for other in MAY_IMPORT[stage]))

    assert all(stage not in reachable(stage) for stage in MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("losses/a.py", "from qmargin.heads import DenseHead", "losses must not import qmargin.heads.DenseHead"),
        ("losses/a.py", "import qmargin.heads.dense", "losses must not import qmargin.heads.dense"),
        ("losses/a.py", "from qmargin import heads", "losses must not import qmargin.heads"),
        ("losses/a.py", "from ..heads import dense", "losses must not import qmargin.heads.dense"),
        ("losses/a.py", "from .. import heads", "losses must not import qmargin.heads"),
        ("losses/deep/a.py", "from ...heads import dense", "losses must not import qmargin.heads.dense"),
        ("losses/a.py", "def f():\n    import qmargin.training", "losses must not import qmargin.training"),
        (
            "losses/a.py",
            "if TYPE_CHECKING:\n    from qmargin.cli import main",
            "losses must not import qmargin.cli.main",
        ),
        ("losses/a.py", "from qmargin import CosFace", "losses must not import qmargin.CosFace"),
        ("losses/a.py", "import qmargin", "losses must not import qmargin"),
        ("metrics/a.py", "import torch.nn", "metrics must not import torch"),
        ("metrics/a.py", "from torch import Tensor", "metrics must not import torch"),
        ("report/a.py", "from qmargin.scoring import cosine", "report must not import qmargin.scoring.cosine"),
        ("_files.py", "from qmargin.data import manifest", "_files must not import qmargin.data.manifest"),
        ("utils.py", "", "utils is not a stage of the layout"),
        ("losses/long.py", "\n" * 500, "lines, more than 400"),
    ],
)
def test_the_checker_sees_a_broken_law(tmp_path: Path, file: str, text: str, reason: str) -> None:
    module = tmp_path / "qmargin" / file
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(f'"""A module."""\n{text}\n', encoding="utf-8")
    (found,) = violations(tmp_path / "qmargin")
    assert found.startswith(f"{file}: ")
    assert found.endswith(reason)


def test_the_checker_sees_a_missing_docstring(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.py").write_text("x = 1\n", encoding="utf-8")
    assert violations(tmp_path) == ["data/a.py: no docstring"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("losses/a.py", "from qmargin.losses.b import c\nfrom . import d\nfrom .e import f"),
        ("heads/a.py", "from qmargin.divergence import alpha_loss\nfrom ..losses import family"),
        ("data/a.py", "from qmargin._files import write_text"),
        ("metrics/a.py", "import numpy\nimport torchless"),
        ("recipes/a.py", "from qmargin.training import TrainConfig"),
        ("cli/a.py", "from qmargin.report import page\nfrom qmargin.heads import dense"),
        ("__init__.py", "from qmargin.heads import DenseHead"),
    ],
)
def test_the_checker_accepts_the_lawful(tmp_path: Path, file: str, text: str) -> None:
    module = tmp_path / "qmargin" / file
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(f'"""A module."""\n{text}\n', encoding="utf-8")
    assert violations(tmp_path / "qmargin") == []
