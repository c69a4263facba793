"""The state that a run goes on from, for however many ranks, written by however many."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qmargin.heads import Head, ShardedHead
from qmargin.training.checkpoint import State, open_checkpoint
from qmargin.training.folder import RunFolder
from qmargin.training.sharded_checkpoint import newest_checkpoint, open_sharded_checkpoint
from qmargin.training.tensorfile import Stored


@contextmanager
def newest_state(run: RunFolder, head: Head | None) -> Iterator[State | None]:
    """The state of the newest checkpoint, of however many ranks; None without one.

    Args:
        run: the folder.
        head: whose prototypes are wanted: of a `ShardedHead` those of this rank; None for all of them.
    """
    own = head if isinstance(head, ShardedHead) else None
    newest = newest_of(run)
    if newest is None:
        yield None
    elif newest.is_dir():
        with open_sharded_checkpoint(newest, own) as state:
            yield state
    else:
        with open_checkpoint(newest) as state:
            if own is not None:
                state["head"] = _rows(state["head"], own)
                state["optimizers"]["head"]["state"] = _rows(state["optimizers"]["head"]["state"], own)
            yield state


def place_of_newest(run: RunFolder) -> str:
    """Which checkpoint that is, in words."""
    newest = newest_of(run)
    if newest is None:
        return "none"
    return newest.name if newest.is_dir() else f"{newest.name} of step {_step(newest)}"


def newest_of(run: RunFolder) -> Path | None:
    """A folder of shards or one file, whichever has more steps; of equals the file."""
    shards = newest_checkpoint(run.shards)
    if shards is not None and (not run.checkpoint.exists() or _step(run.checkpoint) < int(shards.name.split("-")[1])):
        return shards
    return run.checkpoint if run.checkpoint.exists() else None


def _step(checkpoint: Path) -> int:
    with open_checkpoint(checkpoint) as state:
        return int(state["step"])


def _rows(tree: State, head: ShardedHead) -> State:
    """Stored prototypes and the like, of all classes, cut to the rows of a shard."""
    return {
        name: _rows(node, head)
        if isinstance(node, dict)
        else node.rows(head.class_range)
        if isinstance(node, Stored)
        else node
        for name, node in tree.items()
    }
