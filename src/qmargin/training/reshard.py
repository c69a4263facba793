"""One checkpoint from another, for another number of ranks: between one file and the shards of many ranks.

No process group and no memory are needed: rows go from file to file in chunks. `qmargin checkpoint reshard` calls it.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmargin._files import make_folder, publish_folder, replacing
from qmargin.heads.partition import Partition
from qmargin.training.checkpoint import naming_the_file, opened, write_checkpoint
from qmargin.training.sharded_checkpoint import COMMON, SHARDING, SHARDS
from qmargin.training.tensorfile import Joined, Stored, TensorFileError, map_file, write_tensors

OFFSETS = "DCP_SHARDING_INFO"  # of torch.distributed.checkpoint: where in the whole tensor a shard begins
OF_PROTOTYPES = ("head/", "optimizers/head/state/")  # where the tree of a run holds rows, one for each class


@dataclass(frozen=True)
class _Source:
    """A checkpoint whose files are open."""

    tree: dict[str, Any]
    common: dict[str, Stored]
    rows: dict[str, list[Stored]]  # of each tensor that has a row for each class, its parts in order
    classes: int

    def part(self, name: str, wanted: range) -> Joined:
        """Rows `wanted` of a tensor."""
        found, begin = [], 0
        for part in self.rows[name]:
            end = begin + part.shape[0]
            low, high = max(begin, wanted.start), min(end, wanted.stop)
            if low < high:
                found.append(part.rows(range(low - begin, high - begin)))
            begin = end
        return Joined(tuple(found))


def reshard(source: Path, target: Path, ranks: int) -> None:
    """Write the checkpoint `source` as `target`, for `ranks` ranks: 1 is one file, more is a folder of shards.

    Args:
        source: a run's checkpoint.safetensors, or the folder step-N of a sharded run.
        target: where to write; must not exist.
        ranks: W >= 1.

    Raises:
        ValueError: `source` is no checkpoint or not whole, `target` exists or cannot be written, more ranks than blocks
            of classes.
    """
    if not (isinstance(ranks, int) and ranks >= 1):
        raise ValueError(f"ranks must be an integer >= 1, got {ranks!r}")
    if target.exists():
        raise ValueError(f"{target} exists: name a new file (1 rank) or a new folder (more)")
    with _opened(source) as found:
        partition = Partition(found.classes, ranks)
        tree = {name: node for name, node in found.tree.items() if name != SHARDING}
        if ranks == 1:
            whole = {name: found.part(name, range(found.classes)) for name in found.rows}
            make_folder(target.parent)
            write_checkpoint(json.dumps(tree), {**found.common, **whole}, target)
            return
        tree[SHARDING] = {"ranks": ranks, "classes": found.classes}
        partial = target.with_name(f".{target.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        make_folder(partial / SHARDS)
        for rank in range(ranks):
            _write_shard(
                found, partition.of(rank), partial / SHARDS / f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"
            )
        write_checkpoint(json.dumps(tree), found.common, partial / COMMON)
        publish_folder(partial, target)


def _write_shard(source: _Source, rows: range, path: Path) -> None:
    parts = {name: source.part(name, rows) for name in source.rows}
    offsets = {name: {"saved_offsets": [rows.start] + [0] * (len(part.shape) - 1)} for name, part in parts.items()}
    metadata = {OFFSETS: json.dumps(offsets), "DCP_VERSION": "1.0", "format": "pt"}
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_tensors(file, parts, metadata)


@contextmanager
def _opened(source: Path) -> Iterator[_Source]:
    if source.is_dir():
        with opened(source / COMMON) as (tree, common), _shards(source / SHARDS) as rows:
            read = json.loads(tree)
            ranks, classes = read[SHARDING]["ranks"], read[SHARDING]["classes"]
            for name, parts in rows.items():
                count = sum(part.shape[0] for part in parts)
                if len(parts) != ranks or count != classes:
                    raise ValueError(
                        f"{source} is not whole: of {name} there are {count:,} of {classes:,} rows, from "
                        f"{len(parts)} of {ranks} ranks; put the missing shards back"
                    )
            yield _Source(read, common, rows, classes)
        return
    with opened(source) as (tree, tensors):
        rows = {name: [stored] for name, stored in tensors.items() if name.startswith(OF_PROTOTYPES)}
        if "head/weight" not in rows:
            raise ValueError(f"{source} has no prototypes (head/weight): it is no checkpoint of a training")
        common = {name: stored for name, stored in tensors.items() if name not in rows}
        yield _Source(json.loads(tree), common, rows, tensors["head/weight"].shape[0])


@contextmanager
def _shards(folder: Path) -> Iterator[dict[str, list[Stored]]]:
    """The parts of every tensor, in the order of their rows."""
    with ExitStack() as stack:
        parts: dict[str, list[tuple[int, Stored]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            stack.enter_context(naming_the_file(path))
            metadata, tensors = map_file(stack.enter_context(path.open("rb")))
            try:
                offsets = json.loads(metadata[OFFSETS])
                for name, stored in tensors.items():
                    parts.setdefault(name, []).append((offsets[name]["saved_offsets"][0], stored))
            except (KeyError, IndexError, TypeError) as error:
                raise TensorFileError(f"it does not say which rows it holds: {error!r}") from error
        yield {name: [part for _, part in sorted(found, key=lambda item: item[0])] for name, found in parts.items()}
