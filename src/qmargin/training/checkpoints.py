"""The checkpoints a run writes: while it waits, or from a copy while it goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor, distributed

from qmargin.heads import Head, ShardedHead
from qmargin.training.checkpoint import State, save_checkpoint
from qmargin.training.folder import RunFolder
from qmargin.training.ranks import World
from qmargin.training.sharded_checkpoint import begin_sharded_checkpoint, in_memory, save_sharded_checkpoint


class Checkpoints:
    """Writes states into the folder of a run: one file of one process, else a folder of shards.

    In the background, `save` returns when the state is copied. An error of the writing is in `refusal` from then on,
    and raised by the next `save` or `wait`; the checkpoint of before is untouched by it.

    Args:
        run: the folder.
        world: the processes of the training, which make this object, and call each method, at the same time.
        head: of the state.
        background: whether to write while the training goes on.
    """

    def __init__(self, run: RunFolder, world: World, head: Head, *, background: bool) -> None:
        self.run, self.world, self.head, self.background = run, world, head, background
        self._written: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qmargin-checkpoint")
        self._group = distributed.new_group(backend="gloo") if background and world.group is not None else None

    def save(self, state: State) -> None:
        """Write a checkpoint; in the background, as soon as the last one is written.

        Raises:
            ValueError: it, or the last one, cannot be written.
        """
        self.wait()
        if self.background:
            self._written = self._thread.submit(self._begun(state))
        elif isinstance(self.head, ShardedHead):
            save_sharded_checkpoint(state, self.run.shards, self.head)
        else:
            save_checkpoint(state, self.run.checkpoint)

    def _begun(self, state: State) -> Callable[[], None]:
        """What is left to do once the state may change."""
        if isinstance(self.head, ShardedHead):
            assert self._group is not None, "made where there are ranks"
            return begin_sharded_checkpoint(state, self.run.shards, self.head, self._group)
        copy = _in_memory(state)
        return lambda: save_checkpoint(copy, self.run.checkpoint)

    def refusal(self) -> ValueError | None:
        """Why this rank could not write the last checkpoint, if it is known by now."""
        return self._error() if self._written is not None and self._written.done() else None

    def wait(self) -> None:
        """Until the last checkpoint is written.

        Raises:
            ValueError: it cannot be, on every rank.
        """
        refusal = self._error()
        self._written = None
        if self.background:
            self.world.any(refusal=refusal)

    def _error(self) -> ValueError | None:
        """Of the last checkpoint, when it has ended; another rank that died is no refusal, and raised."""
        error = None if self._written is None else self._written.exception()
        if error is not None and not isinstance(error, ValueError):
            raise error
        return error

    def close(self) -> None:
        """Let what is being written be written."""
        self._thread.shutdown()


def _in_memory(node: Any) -> Any:  # noqa: ANN401 - a node of a state
    if isinstance(node, dict):
        return {name: _in_memory(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_in_memory(value) for value in node]
    return in_memory(node) if isinstance(node, Tensor) else node
