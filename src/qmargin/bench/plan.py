"""What a step of a head costs, by formula: memory at the peak, floating point operations, memory traffic.

Every term is explained in docs/planning.md and tested against measured peaks. With B rows, C classes, D dimensions:

    dense        W + momentum + max(5 C D, C D + 10 B C)
    partial FC   W + momentum + 2 n D + max(5 n D, n D + 4 B n),    n = rate C
    streaming    W + momentum + C D / 2 + 2 C + 9/8 T D + chunk,    T <= B support;  at alpha = 1  C D + 2 C + chunk

floats of 4 bytes, small terms left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from qmargin.bench.quantities import bytes_text
from qmargin.divergence import check_alpha
from qmargin.divergence.inputs import is_number

FLOAT, HALF, INDEX = 4, 2, 8  # bytes
CANDIDATES = 4  # of a class in the support, how many pass the screening: as measured, and generous
PAIR = 64  # bytes that a candidate pair holds while it is solved: indices, cosine, logit, posterior and its parts
CHUNK_SCORES = 1 << 19  # scores of a chunk of the streaming head
LARGEST = 10**12  # classes that nobody has


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A step of a head.

    Args:
        classes: C >= 1.
        dim: D >= 1.
        batch: B >= 1, rows on this device.
        alpha: of the loss, in [1, 2]; only the streaming head's cost depends on it.
        support: mean number of classes with p > 0 in a row, for alpha > 1 (`head.stats.support_size`).
        momentum: whether the optimizer keeps a momentum for every prototype.
        rate: share of the classes that Partial FC draws, in (0, 1].
        update: how the streaming head's optimizer moves rows, "dense" or "lazy".
        precision: of the streaming head's screening: "bfloat16" keeps a copy, "float32" reads the prototypes.
    """

    classes: int
    dim: int
    batch: int
    alpha: float = 1.5
    support: float = 100.0
    momentum: bool = True
    rate: float = 0.1
    update: Literal["dense", "lazy"] = "dense"
    precision: Literal["bfloat16", "float32"] = "bfloat16"

    def __post_init__(self) -> None:
        """Refuse what is no problem."""
        check_alpha(self.alpha)
        for name in ("classes", "dim", "batch"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if not (is_number(self.support) and self.support >= 1):
            raise ValueError(f"support must be a number of classes >= 1 (the label is one of them), got {self.support}")
        if not (is_number(self.rate) and 0 < self.rate <= 1):
            raise ValueError(f"rate must be a share of the classes in (0, 1], got {self.rate}")
        if self.update not in ("dense", "lazy"):
            raise ValueError(f"update must be 'dense' or 'lazy', got {self.update!r}")
        if self.precision not in ("bfloat16", "float32"):
            raise ValueError(f"precision must be 'bfloat16' or 'float32', got {self.precision!r}")

    @property
    def matrix(self) -> int:
        """Entries of the prototypes, C D."""
        return self.classes * self.dim

    @property
    def table(self) -> int:
        """Entries of the cosines, B C."""
        return self.batch * self.classes

    @property
    def touched(self) -> float:
        """Expected number of distinct classes with a gradient, at alpha > 1: supports drawn independently."""
        share = min(self.support / self.classes, 1.0)
        return self.classes * -_expm1_power(share, self.batch)


@dataclass(frozen=True)
class Cost:
    """Of one step."""

    head: str
    memory: dict[str, float]  # bytes at the peak, by what holds them
    flops: float  # floating point operations
    traffic: float  # bytes read and written

    @property
    def total(self) -> float:
        """Bytes at the peak, with prototypes and momentum."""
        return sum(self.memory.values())

    @property
    def beyond(self) -> float:
        """Bytes at the peak beyond prototypes and momentum."""
        return self.total - self.memory["prototypes"] - self.memory["momentum"]

    def arithmetic(self) -> str:
        """`prototypes 2.05 GB + momentum 2.05 GB + ... = 10 GB`."""
        terms = " + ".join(f"{name} {bytes_text(size)}" for name, size in self.memory.items() if size > 0)
        return f"{terms} = {bytes_text(self.total)}"


def dense(problem: Problem) -> Cost:
    """`DenseHead` in float32 under torch.optim.SGD.

    Example:
        >>> cost = dense(Problem(classes=1_000_000, dim=512, batch=128))
        >>> cost.arithmetic()
        'prototypes 2.05 GB + momentum 2.05 GB + directions and gradients 10.2 GB + norms 4 MB = 14.3 GB'
    """
    return _all_classes("dense", problem, tables=10.0, directions=1.0)


def dense_autocast(problem: Problem) -> Cost:
    """ArcFace written plainly, its product under bfloat16 autocast."""
    return _all_classes("dense bfloat16", problem, tables=4.0, directions=0.5)


def plain(problem: Problem) -> Cost:
    """Cross-entropy of normalised rows written plainly in float32."""
    return _all_classes("plain float32", problem, tables=4.0, directions=1.0)


def _all_classes(head: str, problem: Problem, tables: float, directions: float) -> Cost:
    matrix, table = problem.matrix, problem.table
    backward, forward = 5.0 * matrix, directions * matrix + tables * table
    scratch = {
        "directions and gradients": FLOAT * (backward if backward >= forward else directions * matrix),
        "cosines and their like": FLOAT * (0.0 if backward >= forward else tables * table),
        "norms": FLOAT * problem.classes,
    }
    # normalise 3 forward and 6 backward, SGD with momentum 4; passes as docs/planning.md counts them
    flops = 6.0 * problem.batch * matrix + 13.0 * matrix + 20.0 * table
    return Cost(head, _kept(problem) | scratch, flops, FLOAT * (20.0 * matrix + 24.0 * table))


def partial_fc(problem: Problem) -> Cost:
    """Partial FC at `problem.rate`: plain cross-entropy over the drawn classes, whose rows are copied out and back.

    Example:
        >>> bytes_text(partial_fc(Problem(classes=1_000_000, dim=512, batch=128)).beyond)
        '1.44 GB'
    """
    drawn = min(max(int(problem.rate * problem.classes), problem.batch), problem.classes)
    small = plain(replace(problem, classes=drawn))
    copies = 2.0 if problem.momentum else 1.0
    rows = {"drawn rows": FLOAT * copies * drawn * problem.dim, "indices": 3.0 * INDEX * drawn}
    scratch = {name: size for name, size in small.memory.items() if name not in _kept(problem)}
    traffic = small.traffic + FLOAT * 8.0 * drawn * problem.dim + FLOAT * 6.0 * problem.classes
    return Cost("partial FC", _kept(problem) | rows | scratch, small.flops, traffic)


def streaming(problem: Problem) -> Cost:
    """`StreamingHead`: the screened head for alpha > 1, the streamed one at alpha = 1.

    Example:
        >>> bytes_text(streaming(Problem(classes=1_000_000, dim=512, batch=128)).beyond)
        '1.07 GB'
    """
    return _streamed(problem) if problem.alpha == 1.0 else _screened(problem)


def _streamed(problem: Problem) -> Cost:
    scratch = {
        "gradient": FLOAT * float(problem.matrix),
        "norms": FLOAT * 2.0 * problem.classes,
        "chunk": 8.0 * FLOAT * _chunk_scores(problem),
    }
    # forward, recomputed, and the two products of the backward pass
    flops = 8.0 * problem.batch * problem.matrix + 9.0 * problem.matrix + 20.0 * problem.table
    passes = 2.0 + 2.0 + 1.0 + 5.0  # read twice; gradient written, corrected; SGD reads and writes
    return Cost("streaming", _kept(problem) | scratch, flops, FLOAT * passes * problem.matrix)


def _screened(problem: Problem) -> Cost:
    pairs = problem.batch * min(CANDIDATES * problem.support, problem.classes)
    used = problem.batch * min(problem.support, problem.classes)
    touched = problem.touched * problem.dim
    moved = touched if problem.update == "lazy" else float(problem.matrix)
    copied = problem.precision == "bfloat16"
    scratch = {
        "bfloat16 directions": HALF * float(problem.matrix) if copied else 0.0,
        "norms": FLOAT * 2.0 * problem.classes,
        "gradient": FLOAT * touched * 9.0 / 8.0,
        "candidates": PAIR * pairs,
        "chunk": 2.0 * (HALF if copied else FLOAT) * _chunk_scores(problem),
    }
    flops = 2.0 * problem.batch * problem.matrix + problem.dim * (2.0 * pairs + 4.0 * used) + 9.0 * moved
    streamed = (HALF if copied else FLOAT) * float(problem.matrix)
    written = 5.0 * FLOAT + (HALF if copied else 0)  # of a row that moves: gradient, momentum, row, and its copy
    traffic = streamed + FLOAT * problem.dim * (pairs + 2.0 * used) + written * moved
    return Cost("streaming", _kept(problem) | scratch, flops, traffic)


def product(problem: Problem, name: str = "bfloat16") -> Cost:
    """The bare product with all directions, whose scores are kept: the floor. No prototypes are moved.

    Args:
        problem: its size.
        name: of the type, "bfloat16" or "float32".
    """
    size = {"bfloat16": HALF, "float32": FLOAT}[name]
    scratch = {
        f"{name} directions": size * float(problem.matrix),
        "cosines and their like": size * float(problem.table),
    }
    kept = _kept(replace(problem, momentum=False))
    return Cost(
        "product", kept | scratch, 2.0 * problem.batch * problem.matrix, size * (problem.matrix + problem.table)
    )


def _kept(problem: Problem) -> dict[str, float]:
    prototypes = FLOAT * float(problem.matrix)
    return {"prototypes": prototypes, "momentum": prototypes if problem.momentum else 0.0}


def _chunk_scores(problem: Problem) -> float:
    return float(min(max(CHUNK_SCORES, 256 * problem.batch), problem.table))


def _expm1_power(share: float, power: int) -> float:
    return (1.0 - share) ** power - 1.0


def largest_classes(head: Callable[[Problem], Cost], problem: Problem, memory: float) -> int:
    """Most classes for which the step fits into `memory` bytes, 0 where not even one does; the rest as in `problem`.

    Example:
        >>> largest_classes(dense, Problem(classes=1, dim=512, batch=128), memory=24e9)
        1673640
    """
    low, high = 0, LARGEST
    while high - low > 1:
        middle = (low + high) // 2
        fits = head(replace(problem, classes=middle)).total <= memory
        low, high = (middle, high) if fits else (low, middle)
    return low
