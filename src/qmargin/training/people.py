"""Who stands in which split of a run, as the manifest in its folder says; the data itself is not needed."""

import csv
from collections import Counter

from qmargin.training.folder import RunFolder


def people_of(run: RunFolder) -> dict[str, Counter[str]]:
    """How many samples each identity has, by split; splits without samples are left out.

    Raises:
        ValueError: the run's manifest is missing, or has not the columns of one.
    """
    if not run.manifest.is_file():
        raise ValueError(f"{run.manifest}, which lists whom {run.path} was trained on, is not there: put it back")
    splits: dict[str, Counter[str]] = {}
    with run.manifest.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"identity", "split"} <= set(rows.fieldnames or ()):
            raise ValueError(
                f"{run.manifest} must have the columns path, identity and split, got {rows.fieldnames}: put back the "
                "one that qmargin train wrote"
            )
        for row in rows:
            splits.setdefault(row["split"], Counter())[row["identity"]] += 1
    return splits
