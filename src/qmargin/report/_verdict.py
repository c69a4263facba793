"""The sentence at the top of a report, and the caveats that follow from the data: words only, no new numbers."""

from collections.abc import Sequence

from qmargin.protocols.comparison import Comparison, Figure, System
from qmargin.protocols.few import FEW_FALSE_ACCEPTS
from qmargin.report._numbers import counted, listed, plain
from qmargin.report._rows import is_better, is_clear, others, rests_on_few, within_seeds

MOST_CLAUSES = 3  # a sentence with more is a list, and the table is a better one


def verdict(comparison: Comparison) -> str:
    """One sentence: which systems differ from the baseline, or that none distinguishably does."""
    baseline, systems = plain(comparison.baseline), others(comparison)
    if not systems:
        return f"Only {baseline} was evaluated: there is no other system to compare it with."
    total = len(systems) * len(comparison.figures)
    clear = _clear(comparison)
    if not clear:
        what = "the interval of the only difference" if total == 1 else f"the intervals of all {total} differences"
        return f"No difference to {baseline} is distinguishable: {what} include{'s' if total == 1 else ''} 0."
    sentence = (_clauses(comparison) or _totals(comparison, total)) + _doubts(comparison)
    rest = total - len(clear)
    if rest:
        sentence += f"; the other {counted(rest, 'difference')} {'is' if rest == 1 else 'are'} not distinguishable"
    return f"{sentence}."


def caveats(comparison: Comparison) -> list[str]:
    """What limits the reading of this comparison, as far as its numbers show it; the caller's own notes come first."""
    found = [*map(plain, comparison.notes), *_few_seeds(comparison)]
    total = len(others(comparison)) * len(comparison.figures)
    if total > 1:
        found.append(
            f"The {total} intervals of differences are not corrected for their number: where nothing differs, one in "
            "twenty excludes 0 by chance."
        )
    return found


def _clear(comparison: Comparison) -> list[tuple[System, Figure]]:
    pairs = [(system, figure) for system in others(comparison) for figure in comparison.figures]
    return [(system, figure) for system, figure in pairs if is_clear(system.differences[figure.name])]


def _clauses(comparison: Comparison) -> str:
    """'A is distinguishably better than B in x and y; C is distinguishably worse in z', or '' where too long."""
    found: list[str] = []
    for system in others(comparison):
        for word in ("better", "worse"):
            names = [
                plain(figure.name)
                for owner, figure in _clear(comparison)
                if owner is system and is_better(system.differences[figure.name], figure) == (word == "better")
            ]
            if names:
                than = "" if found else f" than {plain(comparison.baseline)}"
                found.append(f"{plain(system.name)} is distinguishably {word}{than} in {listed(names)}")
    return "; ".join(found) if len(found) <= MOST_CLAUSES else ""


def _totals(comparison: Comparison, total: int) -> str:
    clear = _clear(comparison)
    better = sum(is_better(system.differences[figure.name], figure) for system, figure in clear)
    return (
        f"{len(clear)} of {total} differences to {plain(comparison.baseline)} are distinguishable, "
        f"{better} for the better and {len(clear) - better} for the worse"
    )


def _doubts(comparison: Comparison) -> str:
    """Why a difference that excludes 0 may still be nothing."""
    clear, baseline = _clear(comparison), next(s for s in comparison.systems if s.name == comparison.baseline)
    few = sum(rests_on_few(system, figure) or rests_on_few(baseline, figure) for system, figure in clear)
    noise = sum(within_seeds(comparison, system, figure) for system, figure in clear)
    doubts = [f"on fewer than {FEW_FALSE_ACCEPTS} false accepts{_of(few, clear)}"] if few else []
    if noise:
        doubts.append(f"no more than the spread over seeds{_of(noise, clear)}")
    return f" ({'; '.join(doubts)})" if doubts else ""


def _of(part: int, whole: Sequence[object]) -> str:
    return "" if part == len(whole) else f" in {part} of these {len(whole)}"


def _few_seeds(comparison: Comparison) -> list[str]:
    single = [plain(system.name) for system in comparison.systems if len(system.seeds) == 1]
    if not single:
        return []
    return [f"{listed(single)}: a single seed, so what is due to the loss and what to the seed cannot be told apart."]
