"""Who stands in which split of a run: counts of the manifest, and manifests that are none."""

from pathlib import Path

import pytest

from qmargin.training import RunFolder
from qmargin.training.people import people_of


def test_people_are_counted_by_split(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.manifest.write_text('path,identity,split\na,"Ann, B",train\nb,"Ann, B",train\nc,Bo,test\n')
    assert people_of(run) == {"train": {"Ann, B": 2}, "test": {"Bo": 1}}


def test_a_manifest_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(
        ValueError, match=r"manifest.csv, which lists whom .* was trained on, is not there: put it back"
    ):
        people_of(run)
    run.manifest.write_text("path,label\na,1\n")
    with pytest.raises(ValueError, match=r"must have the columns path, identity and split, got \['path', 'label'\]"):
        people_of(run)
