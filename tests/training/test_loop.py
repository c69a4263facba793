import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qmargin.data import ImageFolders, RecordFile, TarShards, prepare_faces, read_orl
from qmargin.heads import HeadConfig
from qmargin.losses import QMargin, Ramp, ScheduledLoss
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_run
from qmargin.training import RunFolder, TrainConfig, train
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.codec import to_json
from qmargin.training.log import COLUMNS, read_log

# The command line of the run that the tests kill: the same tiny config in a process of its own.
TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --backbone.dropout 0.2 --batch-size 60 --epochs 8 --log-every 1 --checkpoint-every 7
"""
STEPS = 8 * 5


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "qmargin", "train", "faces-orl", "--out", str(out), *TINY.split(), *more]


def run_to_the_end(out: Path, *more: str) -> None:
    subprocess.run(command(out, *more), check=True, capture_output=True, timeout=120)


def heed_interrupts() -> None:
    """A shell starts its background jobs deaf to Ctrl-C, and the tests may be one; the run must not inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(out: Path, step: int, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a run, wait until its log shows `step`, and never leave it running."""
    log = RunFolder(out).log
    deadline = time.monotonic() + 100
    with subprocess.Popen(
        command(out, *more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - no thread here
    ) as process:
        try:
            while not log.exists() or not (rows := read_log(log)) or rows[-1]["step"] < step:
                assert time.monotonic() < deadline, f"step {step} was not reached in time"
                assert process.poll() is None, f"the run ended before step {step}"
                time.sleep(0.005)
            yield process
        finally:
            process.kill()


def assert_same_bits(run: RunFolder, other: RunFolder) -> None:
    """Weights, momentum, generators and counters of two runs are equal, bit for bit."""
    first, second = load_checkpoint(run.checkpoint), load_checkpoint(other.checkpoint)
    for text in ("manifest", "input"):
        assert first.pop(text) == second.pop(text)
    settings = [[optimizer.pop("param_groups") for optimizer in run["optimizers"].values()] for run in (first, second)]
    assert settings[0] == settings[1]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run_to_the_end(out)
    return out


def test_a_run_leaves_config_manifest_checkpoint_log_and_scalars(tiny: TrainConfig, tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run")
    assert run.read_config() == tiny
    assert run.manifest.exists()
    assert load_checkpoint(run.checkpoint)["step"] == 10
    rows = read_log(run.log)
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert set(rows[0]) == set(COLUMNS)
    assert 1 <= rows[-1]["support_size"] <= 30
    events = EventAccumulator(str(run.tensorboard)).Reload()
    assert set(events.Tags()["scalars"]) == set(COLUMNS) - {"step", "epoch"}
    assert events.Scalars("loss")[-1].value == pytest.approx(rows[-1]["loss"], rel=1e-4)


def test_training_learns(tiny: TrainConfig, tmp_path: Path) -> None:
    rows = read_log(train(replace(tiny, epochs=15), tmp_path / "run").log)
    assert sum(row["loss"] for row in rows[-5:]) < 0.75 * sum(row["loss"] for row in rows[:5])


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(tiny: TrainConfig, tmp_path: Path) -> None:
    weights = [
        load_checkpoint(train(replace(tiny, seed=seed), tmp_path / name).checkpoint)["head"]["weight"]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("loss", ["qmargin", "arcface"])
def test_the_streaming_head_trains_as_the_dense_one(tiny: TrainConfig, tmp_path: Path, loss: str) -> None:
    """The same to float32 rounding. Steps are short, or batch norms would enlarge the rounding from step to step."""
    gentle = replace(tiny.optimizer, learning_rate=0.001)
    config = replace(tiny, loss=find_recipe("faces-orl").losses[loss], optimizer=gentle)
    runs = {
        kind: train(replace(config, head=HeadConfig(kind=kind)), tmp_path / kind) for kind in ("dense", "streaming")
    }
    for column in ("loss", "accuracy", "support_size", "target_cosine", "gradient_norm"):
        dense, streaming = ([row[column] for row in read_log(run.log)] for run in runs.values())
        assert streaming == pytest.approx(dense, rel=1e-4, abs=1e-5), column
    weights = [load_checkpoint(run.checkpoint)["head"]["weight"] for run in runs.values()]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


def test_a_streaming_run_that_is_killed_resumes_to_the_same_bits(tmp_path: Path) -> None:
    streaming = ("--head.kind", "streaming", "--head.update", "lazy")
    run_to_the_end(tmp_path / "whole", *streaming)
    with started(tmp_path / "run", 12, *streaming) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run_to_the_end(tmp_path / "run", "--resume")
    assert_same_bits(RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ORL faces as a record file and as tar shards, in folders `rec` and `tar`."""
    place, faces = tmp_path_factory.mktemp("packed"), read_orl()
    for path, name in zip(faces.paths, faces.identities, strict=True):
        target = place / "faces" / name / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((faces.root / path).read_bytes())
    prepare_faces(place / "faces", "folder", place / "rec", "rec")
    prepare_faces(place / "faces", "folder", place / "tar", "tar", per_shard=150)
    return place


@pytest.mark.parametrize(("kind", "processes"), [("rec", False), ("tar", False), ("tar", True)])
def test_a_run_on_packed_images_that_is_killed_resumes_to_the_same_bits(
    tiny: TrainConfig, packed: Path, tmp_path: Path, kind: str, processes: bool
) -> None:
    source = RecordFile(path=packed / "rec" / "train.rec") if kind == "rec" else TarShards(path=packed / "tar")
    data = replace(tiny.image_data, source=source, validation_identities=10, processes=processes)
    config = replace(tiny, data=data, epochs=8, checkpoint_every=7)
    whole, killed = (RunFolder(tmp_path / name) for name in ("whole", "killed"))
    for run in (
        whole,
        killed,
    ):  # the command line replaces fields of a source, not its kind: --resume takes it as saved
        run.path.mkdir()
        run.config.write_text(to_json(config))
    run_to_the_end(whole.path, "--resume")
    with started(killed.path, 17, "--resume") as process:  # two checkpoints are there
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run_to_the_end(killed.path, "--resume")
    assert_same_bits(killed, whole)
    figures = [
        [(row["step"], row["loss"], row["support_size"]) for row in read_log(run.log)] for run in (killed, whole)
    ]
    assert figures[0] == figures[1]
    assert len(figures[0]) == STEPS
    first, second = (embed_run(run, "validation").vectors for run in (killed, whole))
    np.testing.assert_array_equal(first, second)


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc, which is Linux's")
def test_a_worker_that_is_killed_ends_the_run_with_its_name_and_the_run_resumes(
    uninterrupted: Path, tmp_path: Path
) -> None:
    processes = ("--data.processes",)
    with started(tmp_path / "run", 9, *processes) as process:
        workers = [worker for server in children(process.pid) for worker in children(server)]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        message = process.communicate(timeout=240)[1].decode()
    assert process.returncode == 2
    assert f"the process {workers[0]} that decodes images was killed by SIGKILL before its next batch" in message
    assert "--resume" in message
    assert [worker for worker in workers if Path(f"/proc/{worker}").exists()] == []
    run_to_the_end(tmp_path / "run", "--resume")
    assert_same_bits(RunFolder(tmp_path / "run"), RunFolder(uninterrupted))


def test_max_steps_ends_a_run_within_an_epoch_or_after_several(tiny: TrainConfig, tmp_path: Path) -> None:
    for most, done in ((3, 3), (7, 7), (99, 10)):
        run = train(replace(tiny, max_steps=most), tmp_path / str(most))
        rows = read_log(run.log)
        assert [row["step"] for row in rows] == list(range(1, done + 1))
        assert rows[-1]["epoch"] == pytest.approx(done / 5)
        assert rows[-1]["learning_rate"] < rows[-2]["learning_rate"]
        assert load_checkpoint(run.checkpoint)["step"] == done


@pytest.mark.parametrize("attempt", range(3))
def test_a_run_killed_at_a_random_step_resumes_to_the_same_bits(
    uninterrupted: Path, tmp_path: Path, attempt: int
) -> None:
    step = random.Random(attempt).randrange(1, STEPS - 5)  # noqa: S311 - not for secrets
    with started(tmp_path / "run", step) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run_to_the_end(tmp_path / "run", "--resume")
    whole, resumed = RunFolder(uninterrupted), RunFolder(tmp_path / "run")
    assert_same_bits(resumed, whole)
    assert [row["loss"] for row in read_log(resumed.log)] == [row["loss"] for row in read_log(whole.log)]
    events = EventAccumulator(str(resumed.tensorboard)).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_bits(
    uninterrupted: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with started(tmp_path / "run", 10) as process:
        process.send_signal(number)
        message = process.communicate(timeout=240)[1].decode()
    assert process.returncode == 130
    assert "stopped after step" in message
    assert "--resume" in message
    stopped_at = load_checkpoint(RunFolder(tmp_path / "run").checkpoint)["step"]
    assert 10 <= stopped_at < STEPS
    run_to_the_end(tmp_path / "run", "--resume")
    assert_same_bits(RunFolder(tmp_path / "run"), RunFolder(uninterrupted))


def test_a_second_run_in_the_same_folder_needs_resume_and_the_same_settings(tiny: TrainConfig, tmp_path: Path) -> None:
    train(tiny, tmp_path / "run")
    with pytest.raises(ValueError, match=r"already holds a run: add --resume"):
        train(tiny, tmp_path / "run")
    with pytest.raises(ValueError, match=r"other settings \(batch_size, seed\)"):
        train(replace(tiny, seed=3, batch_size=50), tmp_path / "run", resume=True)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    train(tiny, tmp_path / "run", resume=True)  # finished already: nothing to do
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_bfloat16_autocast_trains(tiny: TrainConfig, tmp_path: Path) -> None:
    rows = read_log(train(replace(tiny, precision="bfloat16"), tmp_path / "run").log)
    assert all(row["loss"] > 0 for row in rows)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/sys").is_dir(), reason="needs a folder that refuses writing")
def test_an_output_folder_that_cannot_be_written_is_named(tiny: TrainConfig) -> None:
    with pytest.raises(ValueError, match=r"cannot write /proc/sys/run: .*give a folder"):
        train(tiny, Path("/proc/sys/run"))


def test_a_truncated_checkpoint_stops_resuming_and_stays_as_it_is(tiny: TrainConfig, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(tiny, run.path)
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint.safetensors is damaged or truncated"):
        train(tiny, run.path, resume=True)
    assert run.checkpoint.stat().st_size == 1000


def folders(place: Path) -> ImageFolders:
    """Pictures of noise of four people to train on and four others."""
    for split in ("train", "test"):
        for identity in range(4):
            (place / split / f"{split}{identity}").mkdir(parents=True)
            for image in range(10):
                pixels = np.random.default_rng([identity, image]).integers(0, 255, (28, 23)).astype(np.uint8)
                Image.fromarray(pixels).save(place / split / f"{split}{identity}" / f"{image}.png")
    return ImageFolders(train=place / "train", test=place / "test")


def test_a_run_goes_on_where_its_data_was_moved_and_is_evaluated_there(tiny: TrainConfig, tmp_path: Path) -> None:
    """The stored config names the new place as soon as the samples are found to be the same, and not before."""
    config = replace(tiny, data=replace(tiny.image_data, source=folders(tmp_path / "old")), batch_size=20)
    run = train(config, tmp_path / "run")
    before = embed_run(run, "test").vectors
    (tmp_path / "old").rename(tmp_path / "new")
    moved = ImageFolders(train=tmp_path / "new" / "train", test=tmp_path / "new" / "test")
    there = replace(config, data=replace(config.image_data, source=moved, keep_decoded=True))
    fewer = moved.test / "test0" / "0.png"
    fewer.rename(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"are not those that .*run was trained on"):
        train(there, run.path, resume=True)
    assert run.read_config() == config
    (tmp_path / "0.png").rename(fewer)
    train(there, run.path, resume=True)
    assert run.read_config() == there
    assert np.array_equal(embed_run(run, "test").vectors, before)


def test_one_identity_is_refused(tiny: TrainConfig, tmp_path: Path) -> None:
    """Its loss would be 0 throughout."""
    source = folders(tmp_path / "data")
    for number in range(1, 4):
        shutil.rmtree(source.train / f"train{number}")
    law = r"a training needs at least 2 identities, and all 10 samples to train on are of 'train0' \(data.source.train "
    with pytest.raises(ValueError, match=law):
        train(replace(tiny, data=replace(tiny.image_data, source=source), batch_size=5), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_images_than_those_of_the_checkpoint_are_refused(tiny: TrainConfig, tmp_path: Path) -> None:
    """One image fewer of two people: as many samples as before would be a coincidence, so the manifest is compared."""
    config = replace(tiny, data=replace(tiny.image_data, source=folders(tmp_path)), batch_size=20)
    train(config, tmp_path / "run")
    (tmp_path / "test" / "test0" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"are not those that .*run was trained on \(listed in manifest\.csv\)"):
        train(config, tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match=r"are not those that .*run was trained on"):
        embed_run(RunFolder(tmp_path / "run"), "test")


def test_the_schedules_of_the_loss_are_followed_and_logged(tiny: TrainConfig, tmp_path: Path) -> None:
    ramps: dict[str, Any] = {
        "alpha": Ramp(start=1.0, end=0.5),
        "margin": Ramp(start=0.0),
        "scale": Ramp(start=8.0, begin=0.5),
    }
    config = replace(tiny, loss=ScheduledLoss(name="q", final=QMargin(1.5, 0.2, 4.0), **ramps))
    rows = read_log(train(config, tmp_path / "run").log)
    assert [row["alpha"] for row in rows] == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.5, 1.5, 1.5, 1.5])
    assert [row["margin"] for row in rows] == pytest.approx([0.02 * step for step in range(10)])
    assert [row["scale"] for row in rows] == pytest.approx([8.0] * 6 + [7.2, 6.4, 5.6, 4.8])
    assert rows[0]["support_size"] == 30 > rows[-1]["support_size"]


def test_what_a_killed_process_left_is_removed_when_training_opens_the_folder(
    tiny: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    left = (".checkpoint.safetensors.77.tmp", ".best.safetensors.8.tmp", "..merged.safetensors.9.tmp", ".log.csv.1.tmp")
    kept = (".metrics-test.json.77.tmp", ".checkpoint.safetensors.own.tmp", "checkpoint.safetensors.77.tmp")  # others'
    for name in (*left, *kept):
        (folder / name).touch()
    run = RunFolder(folder)
    with run.locked():
        run.open(tiny, resume=False)
        assert {path.name for path in folder.iterdir()} == {*kept, ".lock", "config.json"}
        (folder / left[0]).touch()
        run.log.touch()
        run.open(tiny, resume=True)
        assert {path.name for path in folder.iterdir()} == {*kept, ".lock", "config.json", "log.csv"}


def test_a_start_that_fails_leaves_no_folder_and_a_folder_without_training_is_free(
    tiny: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"cannot compute on device 'cuda:99'.*--device cpu works everywhere"):
        train(replace(tiny, device="cuda:99"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.open(replace(tiny, seed=9), resume=False)  # killed before its first step
    train(tiny, tmp_path / "run")


def test_two_processes_cannot_train_in_one_folder(tiny: TrainConfig, tmp_path: Path) -> None:
    """The second changes nothing, not even while the first has neither logged nor saved a step."""
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.open(tiny, resume=False)
        with pytest.raises(ValueError, match=r"another process is training in .*run: wait for it"):
            train(replace(tiny, seed=5), tmp_path / "run")
        assert run.read_config() == tiny
    train(tiny, tmp_path / "run")
