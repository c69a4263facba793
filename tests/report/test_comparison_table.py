import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from qmargin.protocols.comparison import Comparison, Difference, Estimate, Figure
from qmargin.report import comparison_markdown, comparison_table

Change = Callable[..., Comparison]
MINUS = "\N{MINUS SIGN}"


def _shown(comparison: Comparison, width: int) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(comparison_table(comparison))
    return capture.get()


def _row(text: str, *, first: str) -> list[str]:
    """Cells of the first Markdown row whose line starts so."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    line = next(line for line in lines if line.startswith(f"| {first}"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.fixture
def exact(comparison: Comparison) -> Comparison:
    """One figure with numbers to read off."""
    figure = Figure(name="EER", higher_is_better=False)
    base = Estimate(mean=0.0512, spread=0.0042, low=0.04104, high=0.06096)
    lower = Estimate(mean=0.04, spread=None, low=0.03, high=0.05)
    clear = Difference(mean=-0.01124, low=-0.02, high=-0.0014, won=0.9935)
    same = Difference(mean=0.0, low=-0.0112, high=0.0112, won=0.5)
    support = Estimate(mean=12.34, spread=0.56, low=11.9, high=13.0)
    arcface, cosface, qmargin = comparison.systems
    systems = (
        replace(arcface, estimates={"EER": base}, false_accepts={"EER": 30.0}),
        replace(cosface, estimates={"EER": base}, differences={"EER": same}, false_accepts={"EER": 29.5}),
        replace(qmargin, estimates={"EER": lower}, differences={"EER": clear}, false_accepts={}, final_support=support),
    )
    return replace(comparison, figures=(figure,), systems=systems)


def test_markdown_holds_the_numbers_rounded_and_marked(exact: Comparison) -> None:
    text = comparison_markdown(exact)
    setting = r"name ArcFace, alpha 1.0, scale 64, margin 0.5"
    assert _row(text, first="ArcFace") == [
        "ArcFace (baseline)", setting, "5.12 ± 0.42 [4.10, 6.10]", "280 ± 6 [274, 288]"
    ]  # fmt: skip
    assert _row(text, first="CosFace")[2] == "5.12 ± 0.42 † [4.10, 6.10]"
    assert _row(text, first="Q-Margin")[2:] == [r"4.00 \* [3.00, 5.00]", "12.3 ± 0.6 [11.9, 13.0]"]
    assert _row(text, first="EER ↓ | ArcFace") == ["EER ↓", "ArcFace", "baseline", "", "", ""]
    assert _row(text, first="EER ↓ | CosFace") == [
        "EER ↓", "CosFace", "0.00 †", f"[{MINUS}1.12, +1.12]", "50.0 %", "not distinguishable"
    ]  # fmt: skip
    assert _row(text, first="EER ↓ | Q-Margin") == [
        "EER ↓", "Q-Margin", rf"{MINUS}1.12 \*", f"[{MINUS}2.00, {MINUS}0.14]", "99.4 %", "better"
    ]  # fmt: skip


def test_the_legend_explains_the_marks_that_occur(exact: Comparison) -> None:
    text = comparison_markdown(exact)
    assert r"- \* the interval of the difference to the baseline excludes 0." in text
    assert "- † rests on fewer than 30 false accepts: EER on 29.5." in text
    assert "‡" not in text
    plenty = [replace(system, false_accepts={}) for system in exact.systems]
    assert "†" not in comparison_markdown(replace(exact, systems=tuple(plenty)))


def test_a_difference_within_the_spread_over_seeds_is_marked(exact: Comparison) -> None:
    wide = Estimate(mean=0.05, spread=0.02, low=0.041, high=0.061)
    still = replace(wide, spread=0.001)
    noisy = replace(exact.systems[0], estimates={"EER": wide})
    clear = replace(exact.systems[2], estimates={"EER": still})
    text = comparison_markdown(replace(exact, systems=(noisy, exact.systems[1], clear)))
    assert _row(text, first="EER ↓ | Q-Margin")[2] == rf"{MINUS}1.12 \*‡"
    assert "- ‡ the difference is no larger than the spread over seeds of one of the two systems." in text


def test_the_terminal_says_the_same(exact: Comparison) -> None:
    text = _shown(exact, 100)
    numbers = r"5.12 ± 0.42", "[4.10, 6.10]", "4.00 *", "[3.00, 5.00]", "12.3 ± 0.6", f"{MINUS}1.12 *", "99.4 %"
    for number in (*numbers, "baseline", "not distinguishable", "better"):
        assert number in text, number


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_terminal_table_keeps_numbers_whole(comparison: Comparison, width: int) -> None:
    figures = tuple(Figure(name=f"TAR@FAR=1e-0{k}", higher_is_better=True) for k in range(6))
    systems = tuple(
        replace(
            system,
            name=system.name * 9 if system.differences else system.name,
            estimates={figure.name: system.estimates["EER"] for figure in figures},
            differences={figure.name: system.differences["EER"] for figure in figures if system.differences},
            false_accepts={figure.name: 3.0 for figure in figures},
        )
        for system in comparison.systems
    )
    text = _shown(replace(comparison, figures=figures, systems=systems), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.split(" Figure ")[0]
    assert text.count("4.55 ± 0.27 †") == len(figures)
    assert text.count("[3.77, 5.29]") == len(figures)
    assert text.count("280 ± 6") == 2


def test_digits_stand_under_digits(comparison: Comparison, change: Change) -> None:
    short = {name: replace(estimate, mean=0.0412) for name, estimate in comparison.systems[1].estimates.items()}
    comparison = change("CosFace", estimates=short)
    rows = [line for line in _shown(comparison, 100).splitlines() if "±" in line]
    found = {tuple(match.end() for match in re.finditer(r"± \d\.\d\d", line))[:3] for line in rows[:3]}
    assert len(rows) == 7  # figures, the support in a table of its own, and the legend
    assert len(found) == 1


def test_terminal_markup_and_control_characters_do_nothing(comparison: Comparison) -> None:
    arcface, cosface, qmargin = comparison.systems
    odd = replace(cosface, name="[bold]x[/bold] \x1b[31mred")
    text = _shown(replace(comparison, systems=(arcface, odd, qmargin)), 100)
    assert text.count("[bold]x[/bold]") == 2 + len(comparison.figures)  # two tables, and a difference for each figure
    assert "\x1b" not in text


def test_markdown_escapes_what_would_be_markup(comparison: Comparison) -> None:
    arcface, cosface, qmargin = comparison.systems
    odd = replace(cosface, name="a|b*c*_d_ <b> [x](y) `z`\nnext")
    text = comparison_markdown(replace(comparison, systems=(arcface, odd, qmargin)))
    assert r"a\|b\*c\*\_d\_ \<b\> [x\](y) \`z\` next" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", line)) - 2 for line in table} == {6}
    assert len({len(line) for line in table}) == 2  # two tables, columns aligned in the source


def test_one_system_has_no_table_of_differences(comparison: Comparison) -> None:
    alone = replace(comparison, systems=comparison.systems[:1])
    assert "95 % interval |" not in comparison_markdown(alone)
    assert "Reading" not in _shown(alone, 100)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_the_names_stay_whatever_the_number_of_figures(comparison: Comparison, kept: int) -> None:
    """At 80 columns a full row of figures and the support once pushed the column of names to nothing."""
    fewer = replace(comparison, figures=comparison.figures[:kept])
    tables = _shown(fewer, 80).split("Figure ")[0]
    assert all(tables.count(system.name) >= 1 + (kept == 3) for system in comparison.systems)
    assert "Support (classes)" in tables
