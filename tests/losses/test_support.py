"""The control law of the support: monotone, bounded, deterministic, and it arrives."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qmargin.losses import ArcFace, QMargin, Ramp, ScheduledLoss, SupportControl

CLASSES, BATCH = 2000, 32
CONTROL = SupportControl(start=400.0, end=5.0, finish=0.8)
ALPHA = SupportControl(field="alpha", start=400.0, end=5.0, low=1.02, high=2.0)


def cosines(step: int, sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of a network that separates the label's class by `sharpness`: normal cosines, the own one higher."""
    generator = torch.Generator().manual_seed(step)
    drawn = 0.1 * torch.randn(BATCH, CLASSES, generator=generator)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    return drawn.scatter_add(1, labels[:, None], torch.full((BATCH, 1), sharpness)), labels


def simulate(loss: ScheduledLoss, steps: int, sharpness: float = 0.3) -> tuple[list[float], list[float]]:
    """Support of each step and the value it was made with, in closed loop."""
    assert loss.support is not None
    value = loss.support.initial(loss.final)
    supports, values = [], []
    for step in range(steps):
        batch, labels = cosines(step, sharpness * step / steps)
        support = float(loss.at(step / steps, value).terms(batch, labels).support.float().mean())
        supports.append(support)
        values.append(value)
        value = loss.support.updated(value, support, (step + 1) / steps)
    return supports, values


@pytest.mark.parametrize("control", [CONTROL, ALPHA], ids=["scale", "alpha"])
def test_the_support_follows_the_target_while_the_network_becomes_sharper(control: SupportControl) -> None:
    first = QMargin(alpha=1.3, margin=0.1, scale=12.0) if control.field == "alpha" else QMargin(scale=6.0)
    supports, values = simulate(ScheduledLoss(name="q", final=first, support=control), 600)
    for step in range(250, 600, 10):  # after the way from the first value to the curve
        target = control.target(step / 600)
        smooth = sum(supports[step - 5 : step + 5]) / 10
        assert 0.75 * target < smooth < 1.35 * target, (step, smooth, target)
    assert supports[-1] < 10
    assert min(values) >= control.low
    assert max(values) <= control.high


def test_without_control_the_support_does_not_follow() -> None:
    """What the test above would say of a controller that did nothing."""
    batch, labels = cosines(599, 0.3)
    assert float(QMargin(scale=6.0).terms(batch, labels).support.float().mean()) > 5 * CONTROL.target(1.0)


@given(
    st.floats(1.0, 1e5),
    st.floats(1.0, 1e5),
    st.floats(1.0, 64.0),
    st.floats(0.0, 1.0),
    st.sampled_from([CONTROL, ALPHA]),
)
def test_more_classes_never_give_a_smaller_value_and_steps_are_bounded(
    support: float, other: float, value: float, progress: float, control: SupportControl
) -> None:
    value = min(max(value, control.low), control.high)
    low, high = (control.updated(value, classes, progress) for classes in sorted((support, other)))
    assert low <= high
    for moved in (low, high):
        assert control.low <= moved <= control.high
        ratio = moved / value if control.field == "scale" else torch.tensor(moved - value).exp().item()
        assert abs(torch.tensor(ratio, dtype=torch.float64).log().item()) <= control.max_step + 1e-7


def test_the_target_itself_moves_nothing_and_the_answer_is_odd() -> None:
    control = SupportControl(start=64.0, end=64.0, gain=0.01)
    assert control.updated(6.0, 64.0, 0.5) == 6.0
    up, down = control.updated(6.0, 128.0, 0.5), control.updated(6.0, 32.0, 0.5)
    assert up * down == pytest.approx(36.0)
    assert up == pytest.approx(6.0 * 2**0.01)


def test_the_next_value_depends_on_nothing_but_value_support_and_progress() -> None:
    _, values = simulate(ScheduledLoss(name="q", final=QMargin(), support=CONTROL), 40)
    supports, again = simulate(ScheduledLoss(name="q", final=QMargin(), support=CONTROL), 40)
    assert values == again
    assert values[21] == CONTROL.updated(values[20], supports[20], 21 / 40)


def test_the_curve_is_straight_in_logarithms_and_flat_outside() -> None:
    control = SupportControl(start=1000.0, end=10.0, begin=0.2, finish=0.6)
    found = [control.target(progress) for progress in (0.0, 0.2, 0.4, 0.6, 1.0)]
    assert found == pytest.approx([1000.0, 1000.0, 100.0, 10.0, 10.0])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"field": "margin"}, r"controlled by 'scale' or 'alpha', got 'margin'"),
    ({"start": 0.5}, r"support.start is a number of classes >= 1, got 0.5"),
    ({"end": float("inf")}, r"support.end is a number of classes >= 1, got inf"),
    ({"begin": 0.5, "finish": 0.5}, r"needs 0 <= begin < finish <= 1 .*, got 0.5 to 0.5"),
    ({"gain": 0.0}, r"support.gain must be a finite number > 0, got 0.0"),
    ({"max_step": -1.0}, r"support.max_step must be a finite number > 0, got -1.0"),
    ({"low": 8.0, "high": 4.0}, r"needs 0 < low <= high \(bounds of scale\), got 8.0 and 4.0"),
    ({"field": "alpha", "high": 3.0}, r"bound alpha, which is in \[1, 2\]: got 1.0 and 3.0"),
]


@pytest.mark.parametrize(("values", "law"), WRONG)
def test_a_control_that_makes_no_sense_is_refused(values: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        SupportControl(**values)


def test_a_loss_that_cannot_be_controlled_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at alpha = 1 every class is in the support, whatever the scale"):
        ScheduledLoss(name="a", final=ArcFace(), support=CONTROL)
    with pytest.raises(ValueError, match=r"starts with scale 100, outside of support.low 1 to support.high 64"):
        ScheduledLoss(name="q", final=QMargin(scale=100.0), support=CONTROL)
    with pytest.raises(ValueError, match=r"scale cannot follow a ramp and the support at once: set loss.scale"):
        ScheduledLoss(name="q", final=QMargin(), scale=Ramp(start=3.0), support=CONTROL)


def test_other_fields_keep_their_ramps() -> None:
    loss = ScheduledLoss(name="q", final=QMargin(margin=0.2), margin=Ramp(start=0.0), support=CONTROL)
    assert (loss.at(0.5, 9.0).scale, loss.at(0.5, 9.0).margin.m) == (9.0, 0.1)
    assert loss.at(0.5).scale == 6.0
