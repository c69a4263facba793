"""What `qmargin.protocols.cleaning` found, as tables: identities that look like one, images with a doubtful label."""

from collections.abc import Sequence

from qmargin.protocols.cleaning import SimilarPairs, Suspects
from qmargin.report._amount import cost, whole
from qmargin.report.table import COUNT, Column, Row, Table

COSINE = "cosine"
QUESTION = "A finding is a question to a person, not a verdict: relatives and look-alikes are found too."


def pairs_table(found: SimilarPairs, names: Sequence[str], counts: Sequence[int], cosine: float) -> Table:
    """One row a pair of identities, the most alike first.

    Args:
        found: the pairs.
        names: of the identities (classes,).
        counts: images of each (classes,).
        cosine: the least that was asked for.
    """
    columns = (
        Column(name="First identity", left=True),
        Column(name="Second identity", left=True),
        Column(name="Cosine", unit=COSINE),
        Column(name="First images", unit=COUNT),
        Column(name="Second images", unit=COUNT),
    )
    rows = tuple(
        Row(
            cells=(
                names[first],
                names[second],
                cost(float(value)),
                whole(int(counts[first])),
                whole(int(counts[second])),
            )
        )
        for first, second, value in zip(*found, strict=True)
    )
    note = f"Pairs whose prototypes have a cosine of {cosine:g} or more: one person under two names? {QUESTION}"
    return Table(title="Identities that look like one", columns=columns, rows=rows, notes=(note,), slug="identities")


def suspects_table(
    found: Suspects, paths: Sequence[str], owners: Sequence[str], names: Sequence[str], gap: float
) -> Table:
    """One row an image, the largest gap first.

    Args:
        found: the images.
        paths: of them (suspects,).
        owners: their identities, as labelled (suspects,).
        names: of all identities (classes,).
        gap: the least that was asked for.
    """
    columns = (
        Column(name="Image", left=True),
        Column(name="Labelled", left=True),
        Column(name="Cosine with it", unit=COSINE),
        Column(name="Nearer to", left=True),
        Column(name="Cosine with that", unit=COSINE),
        Column(name="Gap", unit=COSINE),
    )
    rows = tuple(
        Row(
            cells=(path, owner, cost(float(own)), names[other], cost(float(cosine)), cost(float(distance))),
        )
        for path, owner, own, other, cosine, distance in zip(
            paths, owners, found.own, found.other, found.cosine, found.gap, strict=True
        )
    )
    note = f"Images nearer to another prototype than to their own by {gap:g} or more: a wrong label? {QUESTION}"
    return Table(title="Images that look like another's", columns=columns, rows=rows, notes=(note,), slug="images")
