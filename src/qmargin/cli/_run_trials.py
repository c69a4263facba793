"""`qmargin evaluate RUN --trials LIST --audio DIR`: a run on speech, judged on trial lists by plain cosines."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qmargin._files import make_folder
from qmargin.cli import score
from qmargin.cli.embed import check_kind
from qmargin.data.speech.kaldi import read_recording_list
from qmargin.metrics import Method
from qmargin.protocols.trial_lists import read_trials
from qmargin.scoring import embed_files
from qmargin.scoring.vector_files import VectorSet
from qmargin.training import RunFolder


def evaluate_trials(
    folder: RunFolder,
    trials: tuple[Path, ...],
    audio: Path | None,
    audio_list: Path | None,
    *,
    resamples: int,
    method: Method,
    worst: int,
    worst_far: float,
    device: str | None,
) -> None:
    """Embed the utterances of the lists into RUN/trials, and score the lists as `qmargin score` does."""
    if not trials or (audio is None) == (audio_list is None):
        raise ValueError("--trials LIST goes with --audio DIR or --audio-list FILE, and each of these with it")
    check_kind(folder.read_config(), audio=True)
    ids = sorted({name for path in trials for name in read_trials(path).utterances.tolist()})
    files = [audio / name for name in ids] if audio is not None else _listed(audio_list, ids)
    out = folder.path / "trials"
    make_folder(out)
    VectorSet(np.array(ids), embed_files(folder, files, device).vectors).save(out / "embeddings.npz")
    score.score(
        score.Arguments(
            trials=trials,
            embeddings=out / "embeddings.npz",
            out=out,
            resamples=resamples,
            interval=method,
            worst=worst,
            worst_far=worst_far,
        )
    )


def _listed(audio_list: Path | None, ids: Sequence[str]) -> list[Path]:
    assert audio_list is not None, "one of the two is given"
    listed = read_recording_list(audio_list)
    missing = [name for name in ids if name not in listed]
    if missing:
        raise ValueError(
            f"{audio_list} has no recording of {missing[0]!r}; {len(missing)} of the {len(ids)} utterances of the "
            "trials are missing"
        )
    return [listed[name] for name in ids]
