"""Turns alternate, warm-up does not count, and a step's time is split by the head's labels."""

import pytest
import torch
from torch import Tensor

from qmargin import QMargin
from qmargin.bench.contenders import Contender
from qmargin.bench.measure import PARTS, Side, take_turns, time_split
from qmargin.bench.plan import dense
from qmargin.bench.scene import Batch, Scene, Sizes, make_scene
from qmargin.bench.sides import baseline_sides, streaming_side

TRACE: list[tuple[str, str, int]] = []


class Tracer(Contender):
    """Writes down what happens to it."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene)
        self.name, self.scene = name, scene
        TRACE.append((name, "built", 0))

    def loss(self, batch: Batch) -> Tensor:
        return batch.embeddings.sum()

    def step(self, batch: Batch) -> None:
        places = [
            (state, number)
            for state, batches in self.scene.batches.items()
            for number, other in enumerate(batches)
            if other is batch
        ]
        TRACE.append((self.name, *places[0]))
        self.loss(batch).backward()


def tracing(name: str, state: str) -> Side:
    return Side(name, lambda scene: Tracer(scene, name), dense, state)


def test_sides_take_turns_on_their_state_and_warm_up_uncounted() -> None:
    TRACE.clear()
    scene = make_scene(Sizes(classes=20, dim=4, batch=3))
    heard = []
    sides = [tracing("a", "untrained"), tracing("b", "trained")]
    timings = take_turns(
        scene, sides, rounds=2, steps=2, after_turn=lambda side, timing: heard.append((side.name, len(timing.seconds)))
    )
    assert [name for name, what, _ in TRACE if what == "built"] == ["a", "b", "a", "b"]
    assert [what for name, what, _ in TRACE if name == "b" and what != "built"] == ["trained"] * 6
    assert [number for name, what, number in TRACE if name == "a" and what != "built"] == [0, 1, 2, 3, 0, 1]
    assert heard == [("a", 2), ("b", 2), ("a", 4), ("b", 4)]
    assert [len(timing.seconds) for timing in timings.values()] == [4, 4]
    assert timings["a"].seconds[0] > 0.0
    assert all(batch.embeddings.grad is None for batches in scene.batches.values() for batch in batches)


def test_statistics_are_those_of_the_head() -> None:
    scene = make_scene(Sizes(classes=300, dim=16, batch=4))
    side = streaming_side("QMargin", QMargin(scale=64.0), "lazy", "trained")
    timing = take_turns(scene, [side], rounds=1, steps=1)[side.name]
    assert 1.0 <= timing.stats["support_size"] < 20.0
    plain = baseline_sides()[1]
    assert take_turns(scene, [plain], rounds=1, steps=1)[plain.name].stats == {}


def test_two_sides_of_one_name_are_an_error_of_ours() -> None:
    with pytest.raises(AssertionError, match="two sides have one name"):
        take_turns(make_scene(Sizes(20, 4, 3)), [tracing("a", "trained")] * 2, rounds=1, steps=1)


def test_the_time_of_a_streaming_step_is_split_by_its_labels() -> None:
    scene = make_scene(Sizes(classes=20_000, dim=64, batch=16))
    split = time_split(scene, streaming_side("QMargin", QMargin(), "dense", "untrained"))
    assert tuple(split) == PARTS
    assert all(split[part] > 0.0 for part in PARTS)
    assert sum(split.values()) < 60.0


def test_a_side_without_labels_spends_its_time_on_other_things_and_the_update() -> None:
    scene = make_scene(Sizes(classes=500, dim=16, batch=4))
    split = time_split(scene, baseline_sides()[1])
    assert {part for part, seconds in split.items() if seconds > 0.0} == {"other", "update"}
    assert torch.is_grad_enabled()
