"""The worst errors as a table, and as a section of a page: pairs side by side, with pictures where asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qmargin.protocols.worst import ScoredPair, WorstErrors
from qmargin.report._amount import cost
from qmargin.report._markup import Safe, joined, tag
from qmargin.report._numbers import plain
from qmargin.report.table import Column, Row, Table

KINDS = {"impostor": "impostor pairs that score highest", "genuine": "genuine pairs that score lowest"}


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Worst errors of one list, with pictures of items by name; an item without one is shown by its name alone."""

    worst: WorstErrors
    title: str = "Worst errors"
    slug: str = "worst"
    thumbnails: Mapping[str, str] = field(default_factory=dict)  # name of an item -> `data:` address

    @property
    def table(self) -> Table:
        """One row a pair, impostors first, the worst first."""
        texts = ("Kind", "First", "Second", "First subject", "Second subject")
        columns = (
            *(Column(name=name, left=True) for name in texts),
            Column(name="Score", unit="score"),
            Column(name="Decision"),
        )
        rows = tuple(_row(kind, pair) for kind, pairs in _kinds(self.worst).items() for pair in pairs)
        return Table(title=self.title, columns=columns, rows=rows, notes=(_threshold(self.worst),), slug=self.slug)

    def section(self) -> Safe:
        """The pairs side by side, for a page."""
        parts = [tag("p", _threshold(self.worst))]
        for kind, pairs in _kinds(self.worst).items():
            parts += [tag("h3", f"The {len(pairs)} {KINDS[kind]}"), _pairs(kind, pairs, self.thumbnails)]
        return joined(*parts)


def _row(kind: str, pair: ScoredPair) -> Row:
    names = (pair.first, pair.second, pair.first_subject, pair.second_subject)
    return Row(cells=(kind, *names, cost(pair.score), _decision(kind, pair)))


def _pairs(kind: str, pairs: Sequence[ScoredPair], thumbnails: Mapping[str, str]) -> Safe:
    items = (
        tag(
            "li",
            tag("div", *(_side(name, thumbnails) for name in (pair.first, pair.second)), class_="sides"),
            tag("p", tag("strong", f"{pair.score:.4f}"), f" {_decision(kind, pair)}"),
            *(
                tag("p", tag("code", plain(name)), f" of {plain(subject)}")
                for name, subject in ((pair.first, pair.first_subject), (pair.second, pair.second_subject))
            ),
        )
        for pair in pairs
    )
    return tag("ol", *items, class_="gallery")


def _side(name: str, thumbnails: Mapping[str, str]) -> Safe:
    if name not in thumbnails:
        return Safe()
    return tag("img", src=thumbnails[name], alt=plain(name), loading="lazy")


def _decision(kind: str, pair: ScoredPair) -> str:
    accepted = pair.is_error == (kind == "impostor")
    return f"{'accepted' if accepted else 'refused'}, {'wrong' if pair.is_error else 'right'}"


def _kinds(worst: WorstErrors) -> dict[str, tuple[ScoredPair, ...]]:
    return {"impostor": worst.impostors, "genuine": worst.genuine}


def _threshold(worst: WorstErrors) -> str:
    return f"Errors are those at the threshold {worst.threshold:.4f}, that of FAR {worst.far:g} on this list."
