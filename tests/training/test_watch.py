"""When the watching thread ends a process, and when it does not; whole processes are in test_rank_faults.py."""

import threading
import time

import pytest
import torch
from torch import Tensor, distributed

from qmargin.training import watch


def signs(monkeypatch: pytest.MonkeyPatch, *, after: float, leaving: bool = False, beats: int = 0) -> list[str]:
    """What is said where the exchange fails after some seconds, after so many that do not."""
    left = list(range(beats))

    def all_reduce(_sign: Tensor, _operation: object, **_: object) -> None:
        if left:
            left.pop()
            return
        time.sleep(after)
        raise RuntimeError("gloo")

    said: list[str] = []
    event = threading.Event()
    if leaving:
        event.set()
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(watch, "SILENCE", 0.05)
    monkeypatch.setattr(watch, "PAUSE", 0.0)
    watch._exchange(None, event, said.append)
    assert not left or leaving
    return said


def test_a_rank_that_is_silent_for_long_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = signs(monkeypatch, after=0.06, beats=3)
    assert said.startswith("nothing was heard from another rank for 0.05 s: its machine hangs or the network")


def test_a_connection_that_closes_is_left_to_the_trainings_own_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signs(monkeypatch, after=0.0) == []


def test_a_rank_that_leaves_hears_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signs(monkeypatch, after=0.06, leaving=True) == []
    assert signs(monkeypatch, after=0.06, leaving=True, beats=1) == []


def test_watching_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def all_reduce(sign: Tensor, _operation: object, **_: object) -> None:
        seen.append(sign.item())

    monkeypatch.setattr(distributed, "new_group", lambda **_: None)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    before = threading.active_count()
    with watch.watched():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert seen[-1] == 1.0  # the others are told
    assert torch.tensor(seen).sum() == 1.0
