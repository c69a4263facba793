"""The prototypes of an earlier run, for a new one of the same identities: compared by name, taken speed by speed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch

from qmargin.data import read_manifest
from qmargin.heads import Head, ShardedHead
from qmargin.training.folder import RunFolder
from qmargin.training.speech_data import SpeechDataConfig
from qmargin.training.weights import AnyStored, check_fit, load_weights

SAME_HEAD = "init_head needs the same identities and head: leave it off"
STORED = ("weight",)  # of a head; its base measure is a setting of the new run


@dataclass(frozen=True)
class Prototypes:
    """What `init_head` fills.

    Args:
        head: its prototypes are replaced, of a `ShardedHead` those of its rank.
        identities: names of those that the new training trains on, of speech its speakers.
        speeds: of the new training on speech, in the order of their blocks of classes (`SpeechAugmentation.blocks`);
            the prototypes of other speeds that the earlier run had are dropped.
    """

    head: Head
    identities: frozenset[str]
    speeds: Sequence[float] | None = None

    def other_speeds(self, run: RunFolder) -> tuple[float, ...] | None:
        """The speeds of that run, in the order of their blocks, where they are not those of the new training."""
        data = run.read_config().data
        if self.speeds is None or not isinstance(data, SpeechDataConfig):
            return None
        theirs = data.augmentation.blocks
        return None if theirs == tuple(self.speeds) else theirs

    def load(self, stored: Mapping[str, AnyStored], other_speeds: Sequence[float] | None) -> None:
        """Take what a checkpoint has of a head; errors are those of `load_initial`."""
        if other_speeds is None:
            load_weights(self.head, stored, SAME_HEAD, STORED)
        else:
            self._load_blocks(stored, self.speeds or (), other_speeds)

    def check_identities(self, run: RunFolder) -> None:
        """Refuse a run of others: a prototype is of the identity of its number, and as many others would fit as well.

        Numbers follow the names in either run, so equal sets of names are equal lists of classes.
        """
        if not run.manifest.is_file():
            raise ValueError(
                f"init_head compares the identities with those of {run.manifest}, which is not there: put it back, or "
                "leave init_head off"
            )
        theirs = read_manifest(run.manifest, check_files=False).subset("train").names
        for there, here in zip_longest(sorted(theirs), sorted(self.identities)):
            if there != here:
                raise ValueError(
                    f"init_head takes the prototypes of the same identities; the run in init_from had {len(theirs):,}, "
                    f"this training has {len(self.identities):,}, and in the order of their names the first that "
                    f"differ are {_quoted(there)} there and {_quoted(here)} here: train on those of {run.manifest}, or "
                    "leave init_head off"
                )

    def _load_blocks(self, stored: Mapping[str, AnyStored], ours: Sequence[float], theirs: Sequence[float]) -> None:
        """The blocks of classes of those speeds that both trainings have; a sharded head takes its rows of them."""
        _check_speeds(ours, theirs)
        head = self.head
        prototypes = stored["weight"].read()  # (classes, dim)
        blocks = torch.arange(len(prototypes)).view(len(theirs), -1)  # (speeds, speakers)
        rows = torch.cat([blocks[theirs.index(speed)] for speed in ours])  # (classes kept,)
        if len(rows) != head.num_classes:
            raise ValueError(
                f"the run in init_from has {len(rows)} classes at these speeds, not {head.num_classes}: {SAME_HEAD}"
            )
        if isinstance(head, ShardedHead):
            rows = rows[head.class_range.start : head.class_range.stop]
        kept = {"weight": prototypes[rows]}
        check_fit(head, kept, SAME_HEAD, STORED)
        head.load_state_dict(kept, strict=False)


def _check_speeds(ours: Sequence[float], theirs: Sequence[float]) -> None:
    unknown = [speed for speed in ours if speed not in theirs]
    if unknown:
        raise ValueError(
            f"init_head takes the prototypes of each speed, and the run in init_from had the speeds "
            f"{', '.join(map('{:g}'.format, theirs))}, not {unknown[0]:g}: set data.augmentation.speeds to some of "
            "them, or leave init_head off"
        )


def _quoted(name: str | None) -> str:
    return "nobody" if name is None else repr(name)
