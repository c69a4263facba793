"""The tables of a comparison, not yet escaped: the terminal, the page and the files only lay them out."""

from dataclasses import dataclass

from qmargin.protocols.comparison import Comparison, Difference, Figure, System
from qmargin.protocols.few import FEW_FALSE_ACCEPTS
from qmargin.report import _numbers as numbers
from qmargin.report._amount import CLEAR, FEW, NOISE, Amount, share
from qmargin.report._numbers import plain, short

LONGEST_NAME = 28  # in the second table; the first has it whole


@dataclass(frozen=True, kw_only=True)
class Word:
    """What stands where others have a number."""

    value: str
    interval: str = ""
    marks: str = ""


@dataclass(frozen=True, kw_only=True)
class SystemRow:
    """One row of the first table."""

    name: str
    setting: str
    is_baseline: bool
    figures: tuple[Amount, ...]
    support: Amount


@dataclass(frozen=True, kw_only=True)
class DifferenceRow:
    """One row of the second table; the baseline's has the word "baseline" as its value and nothing else."""

    name: str
    difference: Amount | Word
    won: Amount | None = None
    reading: str = ""


def baseline_of(comparison: Comparison) -> System:
    """The system that all others are compared with."""
    return next(system for system in comparison.systems if system.name == comparison.baseline)


def others(comparison: Comparison) -> list[System]:
    """All systems but the baseline."""
    return [system for system in comparison.systems if system.name != comparison.baseline]


def heading(figure: Figure) -> str:
    """Name and direction: 'EER ↓'."""
    return f"{plain(figure.name)} {'↑' if figure.higher_is_better else '↓'}"


def is_clear(difference: Difference) -> bool:
    """Whether the interval excludes 0."""
    return difference.low > 0.0 or difference.high < 0.0


def is_better(difference: Difference, figure: Figure) -> bool:
    """Whether the difference is to the system's advantage."""
    return (difference.mean > 0.0) == figure.higher_is_better


def rests_on_few(system: System, figure: Figure) -> bool:
    """Whether fewer than 30 false accepts stand behind the figure."""
    return system.false_accepts.get(figure.name, float("inf")) < FEW_FALSE_ACCEPTS


def within_seeds(comparison: Comparison, system: System, figure: Figure) -> bool:
    """Whether the difference is no larger than the spread over seeds of the system or of the baseline."""
    estimates = (system.estimates[figure.name], baseline_of(comparison).estimates[figure.name])
    spreads = [estimate.spread for estimate in estimates if estimate.spread is not None]
    return bool(spreads) and abs(system.differences[figure.name].mean) <= max(spreads)


def system_rows(comparison: Comparison) -> list[SystemRow]:
    """First table: one row a system, one cell a figure."""
    return [
        SystemRow(
            name=plain(system.name),
            setting=plain(system.setting),
            is_baseline=system.name == comparison.baseline,
            figures=tuple(_figure_amount(comparison, system, figure) for figure in comparison.figures),
            support=_support_amount(system),
        )
        for system in comparison.systems
    ]


def difference_rows(comparison: Comparison, figure: Figure) -> list[DifferenceRow]:
    """Second table, one group a figure: the baseline, then every other system against it."""
    head = DifferenceRow(name=short(comparison.baseline, LONGEST_NAME), difference=Word(value="baseline"))
    return [head, *(_difference_row(comparison, system, figure) for system in others(comparison))]


def legend(comparison: Comparison) -> list[str]:
    """How to read the tables: what ± and [ ] are, then the marks that occur."""
    subjects = numbers.counted(comparison.subjects, "test subject")
    figures = f"mean ± standard deviation over seeds, [95 % interval over {subjects}]"
    lines = [
        f"Figures in percent: {figures}; ↑ higher is better, ↓ lower is better.",
        "Support: mean number of classes with non-zero probability at the end of training, [range over seeds].",
    ]
    if others(comparison):
        lines.append(
            f"Difference: system minus {plain(comparison.baseline)} in percentage points, both on the same resampled "
            "subjects; won: share of the resamples in which the system was better."
        )
    return [*lines, *_meanings(comparison)]


def _meanings(comparison: Comparison) -> list[str]:
    pairs = [(system, figure) for system in others(comparison) for figure in comparison.figures]
    clear = [(system, figure) for system, figure in pairs if is_clear(system.differences[figure.name])]
    few = list(filter(None, (_few_text(comparison, figure) for figure in comparison.figures)))
    lines = [f"{CLEAR} the interval of the difference to the baseline excludes 0."] if clear else []
    if few:
        lines.append(f"{FEW} rests on fewer than {FEW_FALSE_ACCEPTS} false accepts: {'; '.join(few)}.")
    if any(within_seeds(comparison, system, figure) for system, figure in clear):
        lines.append(f"{NOISE} the difference is no larger than the spread over seeds of one of the two systems.")
    return lines


def _few_text(comparison: Comparison, figure: Figure) -> str:
    """'TAR@FAR=1e-03 on 4.7 to 8', or '' where every system has enough."""
    found = sorted(s.false_accepts[figure.name] for s in comparison.systems if rests_on_few(s, figure))
    if not found:
        return ""
    span = dict.fromkeys((numbers.count(found[0]), numbers.count(found[-1])))
    return f"{plain(figure.name)} on {' to '.join(span)}"


def _figure_amount(comparison: Comparison, system: System, figure: Figure) -> Amount:
    estimate, difference = system.estimates[figure.name], system.differences.get(figure.name)
    return share(
        estimate.mean,
        numbers.digits(comparison, figure),
        spread=estimate.spread,
        low=estimate.low,
        high=estimate.high,
        false_accepts=system.false_accepts.get(figure.name),
        own_marks=CLEAR if difference is not None and is_clear(difference) else "",
    )


def _support_amount(system: System) -> Amount:
    support = system.final_support
    decimals = numbers.class_decimals(support.mean)
    return Amount(
        number=support.mean,
        write=lambda size: f"{size:,.{decimals}f}",
        spread=support.spread,
        low=support.low,
        high=support.high,
    )


def _difference_row(comparison: Comparison, system: System, figure: Figure) -> DifferenceRow:
    difference, decimals = system.differences[figure.name], numbers.digits(comparison, figure)
    marks, reading = "", "not distinguishable"
    if is_clear(difference):
        marks, reading = CLEAR, "better" if is_better(difference, figure) else "worse"
    if rests_on_few(system, figure) or rests_on_few(baseline_of(comparison), figure):
        marks += FEW
    if is_clear(difference) and within_seeds(comparison, system, figure):
        marks += NOISE
    return DifferenceRow(
        name=short(system.name, LONGEST_NAME),
        difference=Amount(
            number=difference.mean,
            write=lambda value: numbers.signed(value, decimals),
            low=difference.low,
            high=difference.high,
            own_marks=marks,
        ),
        won=Amount(number=difference.won, write=lambda value: f"{numbers.percent(value, 1)} %"),
        reading=reading,
    )
