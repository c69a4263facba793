"""The peers of benchmarks/ compute the cross-entropy they are named after, and its table of rows can be resumed."""

import csv
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from qmargin.bench import measure
from qmargin.bench.scene import Sizes, make_scene

MODULES = ("peers", "head", "head_growth", "head_plot", "head_training")
SIZES = Sizes(classes=130, dim=16, batch=8)


def test_cross_entropies_are_the_naive_line(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts["peers"], "CHUNK", 60)  # the last chunk is shorter
    for side in scripts["peers"].peer_sides(scale=16.0):
        scene = make_scene(SIZES)
        batch = scene.batches["trained"][0]
        weight = scene.weight.clone().requires_grad_()
        naive = F.cross_entropy(16.0 * F.normalize(batch.embeddings) @ F.normalize(weight).T, batch.labels)
        expected = torch.autograd.grad(naive, (batch.embeddings, weight))
        if side.name.startswith("cut-cross-entropy"):
            continue  # an extra, compiled for half a minute
        contender = side.make(scene)
        if not hasattr(F, "linear_cross_entropy") and side.name.startswith("linear"):
            continue
        loss = contender.loss(batch)
        torch.testing.assert_close(loss, naive, rtol=1e-5, atol=1e-6)
        gradients = torch.autograd.grad(loss, (batch.embeddings, contender.weight))
        torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
        before = scene.weight.clone()
        contender.step(batch)
        assert not torch.equal(scene.weight, before)
        assert side.cost(scripts["head"].Problem(classes=100, dim=8, batch=4)).total > 0


def test_rows_of_another_size_stay_and_rows_measured_anew_are_replaced(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    head, path = scripts["head"], tmp_path / "head.csv"

    def row(classes: int, seconds: str) -> dict[str, str]:
        cells = dict.fromkeys(head.COLUMNS, "")
        return cells | {
            "classes": str(classes),
            "dim": "8",
            "batch": "4",
            "threads": "1",
            "side": "a",
            "seconds": seconds,
        }

    head.write_rows(path, [row(1000, "1")])
    head.write_rows(path, [row(200, "2")])
    head.write_rows(path, [row(1000, "3")])
    with path.open(newline="") as file:
        assert [(line["classes"], line["seconds"]) for line in csv.DictReader(file)] == [("200", "2"), ("1000", "3")]


def test_a_row_has_every_column(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    head = scripts["head"]
    monkeypatch.setattr(head, "peak_of", lambda _side, _sizes, _threads: head.Peak(2_000_000, 1_000_000))
    monkeypatch.setattr(measure, "multiplies", lambda *_: True)
    sides = [side for side in head.all_sides() if not side.name.startswith(("cut", "linear"))]
    names = [side.name for side in sides]
    assert len(set(names)) == len(names) == 23
    measured = head.measure(head.that_run(sides, SIZES), SIZES, threads=1, rounds=1, steps=1)
    assert [row["side"] for row in measured] == names
    assert all(set(row) <= set(head.COLUMNS) for row in measured)
    ours = measured[-1]
    assert set(ours) == set(head.COLUMNS)
    assert float(ours["times dense float32"]) * float(measured[0]["seconds"]) == pytest.approx(
        float(ours["seconds"]), rel=0.01
    )
    assert float(ours["times W resident"]) == pytest.approx(2_000_000 / (130 * 16 * 4), rel=1e-3)
    assert float(ours["update ms"]) > 0.0


def test_what_does_not_fit_is_left_out_by_name(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head = scripts["head"]
    monkeypatch.setattr(head, "available_memory", lambda: 16_000_000_000)
    large = Sizes(classes=10_000_000, dim=128, batch=128)
    sides = [side for side in head.all_sides() if not side.name.startswith(("cut", "linear", "chunked"))]
    names = {side.name for side in head.that_run(sides, large)}
    assert "left out: dense float32: prototypes 5.12 GB + momentum 5.12 GB" in capsys.readouterr().out
    assert "streaming QMargin s=64 lazy, trained" in names
    assert "float32 product in chunks" in names
    assert "dense float32" not in names


def test_sides_that_the_cpu_would_emulate_are_left_out_by_name(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head = scripts["head"]
    monkeypatch.setattr(measure, "multiplies", lambda dtype, _device: dtype == torch.float32)
    sides = [side for side in head.all_sides() if "product" in side.name]
    assert [side.name for side in head.that_run(sides, SIZES)] == ["float32 product", "float32 product in chunks"]
    assert "left out: bfloat16 product in chunks: this CPU has no bfloat16 units" in capsys.readouterr().out


def test_the_exponent_is_the_slope_in_logarithms(scripts: dict[str, ModuleType]) -> None:
    slope = scripts["head_growth"].slope
    assert slope([1.0, 2.0, 4.0], [3.0, 6.0, 12.0]) == pytest.approx(1.0)
    assert slope([1.0, 2.0, 4.0], [5.0, 20.0, 80.0]) == pytest.approx(2.0)
    assert slope([1.0, 2.0], [7.0, 0.0]) != slope([1.0, 2.0], [7.0, 0.0])  # NaN: nothing was measured


def test_training_lowers_the_loss_and_logs_supports(scripts: dict[str, ModuleType]) -> None:
    script = scripts["head_training"]
    names = [script.REFERENCE, "QMargin(1.5) s=6"]
    learners = [script.Learner(name, 200, "lazy", 60) for name in names]
    rows = list(script.train(learners, script.Samples(200, torch.Generator().manual_seed(1)), 60, 30))
    assert [(row["step"], row["loss function"]) for row in rows] == [
        (step, name) for step in ("1", "10", "30", "60") for name in names
    ]
    assert tuple(rows[0]) == script.COLUMNS
    for first, last in zip(rows[:2], rows[-2:], strict=True):
        assert float(last["loss"]) < 0.8 * float(first["loss"])
    sparse = [float(row["support_size"]) for row in rows[1::2]]
    assert 1.0 <= sparse[-1] < sparse[0] <= 200.0
    assert [float(row[script.RATIO]) for row in rows[::2]] == [1.0] * 4  # of itself
    assert all(0.0 < float(row[script.RATIO]) != 1.0 for row in rows[1::2])


def test_the_plot_draws_the_sides_it_knows(scripts: dict[str, ModuleType]) -> None:
    plot = scripts["head_plot"]
    rows = [
        {"side": "dense float32", "classes": str(classes), "seconds": "0.5", "peak resident MB": str(megabytes)}
        for classes, megabytes in ((1000, 3.0), (10_000, 0.0))
    ]
    seconds, memory = plot.draw(rows, "title").axes
    assert [len(line.get_xdata()) for line in seconds.lines] == [2]
    assert [len(line.get_xdata()) for line in memory.lines] == [1]  # a peak of 0 has no logarithm
    assert set(plot.DRAWN) <= {side.name for side in scripts["head"].all_sides()}
