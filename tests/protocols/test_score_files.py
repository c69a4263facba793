"""Score files: the layouts in use, joining by the pair of utterances, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qmargin.protocols.score_files import ScoreLayout, join_scores, read_scores, write_scores
from qmargin.protocols.trial_lists import TrialList, read_trials

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(content: str) -> Path:
        path = tmp_path / "scores.txt"
        path.write_text(content)
        return path

    return put


@pytest.fixture
def trials(tmp_path: Path) -> TrialList:
    path = tmp_path / "trials"
    path.write_text("1 a b\n0 a c\n0 c b\n")
    return read_trials(path)


@pytest.mark.parametrize("content", ["a b 0.5 target\na c -1e-3 nontarget\n", "a b 1 0.5\na c 0 -1e-3\n"])
def test_labelled_layouts_are_told_apart(content: str, write: Write) -> None:
    scored = read_scores(write(content))
    assert scored.scores.tolist() == [0.5, -1e-3]
    assert scored.labels.tolist() == [True, False]
    assert scored.second.tolist() == [b"b", b"c"]


@pytest.mark.parametrize("layout", ["wespeaker", "speechbrain", "kaldi"])
def test_written_scores_come_back_bit_for_bit(layout: ScoreLayout, trials: TrialList, tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=3).astype(np.float32)
    write_scores(tmp_path / "out", trials, scores, layout)
    assert np.array_equal(join_scores(tmp_path / "out", trials).astype(np.float32), scores)
    assert len((tmp_path / "out").read_text().splitlines()[0].split()) == (3 if layout == "kaldi" else 4)
    with pytest.raises(ValueError, match=r"one score for each of 3 trials is needed, got shape \(2,\)"):
        write_scores(tmp_path / "out", trials, scores[:2], layout)


def test_scores_are_joined_by_the_pair_not_by_the_line(trials: TrialList, write: Write) -> None:
    assert join_scores(write("c b 3\na b 1\na c 2\n"), trials).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b 1\n", r"has no score for a c \(line 2 of .*trials\); 2 of 3 trials have none"),
        ("a b 1\nb a 1\na c 1\nc b 1\n", r"line 2: a pair that is not in .*trials \(1 such lines\)"),
        ("a b 1\na c 1\nc b 1\na b 2\n", r"line 4: the same two utterances as on line 1"),
        ("a b 1\na c x\nc b 1\n", r"line 2: the score must be a finite number, got 'x'"),
        ("a b 1\na c 1\nc b inf\n", r"line 3: the score must be a finite number, got 'inf'"),
        ("a b 1 target\na c 2 target\nc b 3 nontarget\n", r"line 2: another label than in .* \(1 such trials\)"),
    ],
)
def test_files_that_do_not_fit_the_list_are_refused(
    content: str, message: str, trials: TrialList, write: Write
) -> None:
    with pytest.raises(ValueError, match=message):
        join_scores(write(content), trials)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b 0.5\n", r"line 1: expected 4 columns .*, got 3"),
        ("a b 0.5 target\na c nan nontarget\n", r"line 2: the score must be a finite number, got 'nan'"),
        ("a b 0.5 target\na c 0.1 0\n", r"line 2: cannot tell the layout: .*got 'a c 0.1 0'"),
    ],
)
def test_malformed_score_files_are_refused(content: str, message: str, write: Write) -> None:
    with pytest.raises(ValueError, match=message):
        read_scores(write(content))


def test_a_layout_that_is_said_is_held_to(write: Write, trials: TrialList) -> None:
    with pytest.raises(ValueError, match=r"line 1: the label must be 1 or 0, got '0.5'"):
        read_scores(write("a b 0.5 target\n"), "speechbrain")
    with pytest.raises(ValueError, match="unknown layout 'espnet'; known: wespeaker"):
        read_scores(write("a b 0.5 target\n"), "espnet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown layout 'espnet'; known: wespeaker"):
        write_scores(write(""), trials, np.zeros(3), "espnet")  # type: ignore[arg-type]
