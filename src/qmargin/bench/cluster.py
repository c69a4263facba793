"""What a step of a head costs when its classes are shared out over ranks, by formula: memory, operations, bytes sent.

docs/scaling.md explains each term. A rank of W holds C/W classes and computes them for the B rows of all ranks, so its
memory and operations are those of `qmargin.bench.plan` at C/W classes, plus what it gathers. Bytes are those one rank
sends where collectives go round a ring, as `qmargin.heads.collectives` counts them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from qmargin.bench.plan import FLOAT, INDEX, PAIR, Cost, Problem, dense, partial_fc, streaming

ANNOUNCED, COUNTED = 4, 2  # integers a rank announces of its batch, and of its candidates
CANDIDATE = 8  # bytes of a candidate on its way: cosine and row
REDUCED_STREAMED = 4  # numbers a row that are all-reduced at alpha = 1: own cosine, maximum, sum, largest cosine
# for alpha > 1: own cosine; twice bound and flag, and two steps of two sums; four steps; maximum, and three steps
REDUCED_SCREENED = 1 + 2 * (2 + 2 * 2) + 4 * 2 + 1 + 3 * 2
REDUCED_SOFTMAX = 3  # of a plain sharded softmax: maximum, sum, own logit


@dataclass(frozen=True)
class Rank:
    """One rank's share of a step."""

    cost: Cost
    sent: dict[str, float]  # bytes, by what they are

    @property
    def bytes_sent(self) -> float:
        """Bytes this rank sends."""
        return sum(self.sent.values())


def sharded_dense(problem: Problem, ranks: int) -> Rank:
    """The dense head over `ranks`, `problem` being the whole: classes of all, rows of all."""
    return _softmax(dense, problem, ranks)


def sharded_partial_fc(problem: Problem, ranks: int) -> Rank:
    """Partial FC over `ranks`, each of which draws from its own classes."""
    return _softmax(partial_fc, problem, ranks)


def sharded(problem: Problem, ranks: int) -> Rank:
    """`ShardedHead`.

    Example:
        >>> rank = sharded(Problem(classes=10_000_000, dim=512, batch=1024, support=100.0, update="lazy"), ranks=8)
        >>> f"{rank.cost.total / 1e9:.1f} GB, {rank.bytes_sent / 1e6:.1f} MB"
        '6.5 GB, 4.6 MB'
    """
    part = _part(problem, ranks)
    if problem.alpha == 1.0:
        numbers, sent = REDUCED_STREAMED, {}
        cost = streaming(part)
    else:
        numbers = REDUCED_SCREENED
        found = problem.batch * min(problem.support, problem.classes)
        sent = {"candidates": CANDIDATE * found / ranks * (ranks - 1), "counts": INDEX * COUNTED * float(ranks - 1)}
        cost = streaming(replace(part, support=max(problem.support / ranks, 1.0)))
        # every rank solves the candidates of all ranks
        cost = replace(cost, memory=cost.memory | {"candidates of all ranks": PAIR * found * (ranks > 1)})
    sent |= _batch(problem, ranks)
    sent["sizes"] = INDEX * ANNOUNCED * float(ranks - 1)
    sent["gradients of rows"] = FLOAT * _own(problem, ranks) * (ranks - 1)
    sent["sums and maxima"] = _reduced(numbers, problem, ranks)
    return Rank(_with_batch(cost, problem), sent)


def _softmax(head: Callable[[Problem], Cost], problem: Problem, ranks: int) -> Rank:
    sent = _batch(problem, ranks) | {"sums and maxima": _reduced(REDUCED_SOFTMAX, problem, ranks)}
    return Rank(_with_batch(head(_part(problem, ranks)), problem), sent)


def _part(problem: Problem, ranks: int) -> Problem:
    """What one rank computes: its block of the classes, the rows of all."""
    return replace(problem, classes=-(-problem.classes // ranks))


def _own(problem: Problem, ranks: int) -> float:
    return problem.batch / ranks  # b


def _batch(problem: Problem, ranks: int) -> dict[str, float]:
    """What every head gathers and scatters of the batch."""
    own = _own(problem, ranks)
    rows = FLOAT * own * problem.dim * (ranks - 1)
    return {
        "labels": INDEX * own * (ranks - 1),
        "directions": rows,
        "gradients of directions": rows,
    }


def _reduced(numbers: int, problem: Problem, ranks: int) -> float:
    return FLOAT * numbers * problem.batch * 2.0 * (ranks - 1) / ranks


def _with_batch(cost: Cost, problem: Problem) -> Cost:
    """With the rows of all ranks and their gradient."""
    return replace(cost, memory=cost.memory | {"rows of all ranks": 2.0 * FLOAT * problem.batch * problem.dim})
