"""Every recipe by name, each with the losses it knows good settings for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from qmargin.losses import A3M, ArcFace, CosFace, NormFace, QMargin, Ramp, ScheduledLoss, SupportControl
from qmargin.recipes.faces import faces, faces_orl, faces_small
from qmargin.recipes.million import million
from qmargin.recipes.published import PUBLISHED
from qmargin.recipes.speakers import (
    speakers_small,
    voxceleb_ecapa1024,
    voxceleb_ecapa1024_large_margin,
    voxceleb_resnet34,
    voxceleb_resnet34_large_margin,
)
from qmargin.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe by name: `config(loss)` with one of `losses`; the first loss is the default."""

    name: str
    config: Callable[[ScheduledLoss], TrainConfig]
    losses: Mapping[str, ScheduledLoss]
    about: str = ""  # one line; that of the function's docstring unless given

    @property
    def summary(self) -> str:
        """One line on the recipe."""
        return self.about or (self.config.__doc__ or "").strip().splitlines()[0]

    def with_loss(self, name: str | None = None) -> TrainConfig:
        """The config with the named loss, or the default one."""
        return self.config(self.losses[nearest(next(iter(self.losses)) if name is None else name, self.losses, "loss")])


def nearest(name: str, known: Mapping[str, object], kind: str) -> str:
    """`name` if it is known, else a ValueError with the nearest name and all others."""
    if name in known:
        return name
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; a ValueError with the nearest one otherwise."""
    return RECIPES[nearest(name, RECIPES, "recipe")]


def _named(*losses: ScheduledLoss) -> dict[str, ScheduledLoss]:
    return {loss.name: loss for loss in losses}


# Published settings where there are any (ArcFace, CosFace); for alpha > 1 the gap 1/((alpha-1) s) + m is near 0.4.
LARGE = _named(
    ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.1, scale=6.0), alpha=Ramp(start=1.0, end=0.2)),
    ScheduledLoss(name="arcface", final=ArcFace(margin=0.5, scale=64.0)),
    ScheduledLoss(name="cosface", final=CosFace(margin=0.35, scale=64.0)),
    ScheduledLoss(name="a3m", final=A3M(alpha=1.5, margin=0.1, scale=6.0), alpha=Ramp(start=1.0, end=0.2)),
    ScheduledLoss(name="normface", final=NormFace(scale=64.0)),
    ScheduledLoss(
        name="qmargin-support",
        final=QMargin(alpha=1.5, margin=0.1, scale=6.0),
        support=SupportControl(start=1000.0, end=10.0, begin=0.02, finish=0.8),
    ),
)
GLINT = LARGE | _named(ScheduledLoss(name="cosface", final=CosFace(margin=0.4, scale=64.0)))
# Of the unit measure, for a million classes; docs/million.md.
MILLION = _named(
    ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.1, scale=6.0)),
    ScheduledLoss(name="arcface", final=ArcFace(margin=0.3, scale=32.0)),
    ScheduledLoss(name="cosface", final=CosFace(margin=0.2, scale=32.0)),
    ScheduledLoss(name="a3m", final=A3M(alpha=1.5, margin=0.1, scale=6.0)),
    ScheduledLoss(name="normface", final=NormFace(scale=32.0)),
    ScheduledLoss(
        name="qmargin-support",
        final=QMargin(alpha=1.5, margin=0.1, scale=6.0),
        support=SupportControl(start=100.0, end=5.0, begin=0.02, finish=0.8),
    ),
)
# For a base measure that is a probability; benchmarks/faces_small.py chose scales and margins on held-out people.
SMALL = _named(
    ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.2, scale=48.0)),
    ScheduledLoss(name="arcface", final=ArcFace(margin=0.2, scale=12.0)),
    ScheduledLoss(name="cosface", final=CosFace(margin=0.2, scale=12.0)),
    ScheduledLoss(name="a3m", final=A3M(alpha=1.5, margin=0.2, scale=48.0)),
    ScheduledLoss(name="normface", final=NormFace(scale=12.0)),
    ScheduledLoss(
        name="qmargin-support",
        final=QMargin(alpha=1.5, margin=0.2, scale=12.0),
        support=SupportControl(start=500.0, end=50.0, begin=0.02, finish=0.8, high=200.0),
    ),
)
# For 30 identities; benchmarks/orl_settings.py chose them on held-out training people. Few classes want a small scale.
ORL = _named(
    ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.2, scale=3.0)),
    ScheduledLoss(name="arcface", final=ArcFace(margin=0.3, scale=32.0)),
    ScheduledLoss(name="cosface", final=CosFace(margin=0.2, scale=32.0)),
    ScheduledLoss(name="a3m", final=A3M(alpha=1.5, margin=0.2, scale=3.0)),
    ScheduledLoss(name="normface", final=NormFace(scale=32.0)),
    ScheduledLoss(
        name="qmargin-support",
        final=QMargin(alpha=1.5, margin=0.2, scale=3.0),
        support=SupportControl(start=20.0, end=4.0, finish=0.8),
    ),
)
# As WeSpeaker for ArcFace (there AAM: no margin until epoch 20 of 150, all of it from epoch 40; its way between is a
# curve, ours a line); CosFace has that margin, and alpha > 1 the settings of faces: nobody has tuned them on VoxCeleb.
_LATE = Ramp(start=0.0, begin=20 / 150, end=40 / 150)
SPEAKERS = _named(
    ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.1, scale=6.0), alpha=Ramp(start=1.0, end=0.2)),
    ScheduledLoss(name="arcface", final=ArcFace(margin=0.2, scale=32.0), margin=_LATE),
    ScheduledLoss(name="cosface", final=CosFace(margin=0.2, scale=32.0), margin=_LATE),
    ScheduledLoss(name="a3m", final=A3M(alpha=1.5, margin=0.1, scale=6.0), alpha=Ramp(start=1.0, end=0.2)),
    ScheduledLoss(name="normface", final=NormFace(scale=32.0)),
)

# arcface_torch trains these with CosFace at m = 0.4; every other loss is as for the other sets
PUBLISHED_LOSSES = dict.fromkeys(("glint360k", "webface4m", "webface12m"), GLINT)
# WeSpeaker has 0.5 radians for ArcFace; the others are guesses in proportion, and nobody has tried them.
SPEAKERS_LARGE_MARGIN = _named(
    ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.25, scale=6.0)),
    ScheduledLoss(name="arcface", final=ArcFace(margin=0.5, scale=32.0)),
    ScheduledLoss(name="cosface", final=CosFace(margin=0.5, scale=32.0)),
    ScheduledLoss(name="a3m", final=A3M(alpha=1.5, margin=0.25, scale=6.0)),
    ScheduledLoss(name="normface", final=NormFace(scale=32.0)),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="faces-orl", config=faces_orl, losses=ORL),
        Recipe(name="faces-small", config=faces_small, losses=SMALL),
        Recipe(name="faces", config=faces, losses=LARGE),
        Recipe(name="speakers-small", config=speakers_small, losses=SMALL),
        Recipe(name="voxceleb-resnet34", config=voxceleb_resnet34, losses=SPEAKERS),
        Recipe(name="voxceleb-ecapa1024", config=voxceleb_ecapa1024, losses=SPEAKERS),
        Recipe(
            name="voxceleb-resnet34-large-margin", config=voxceleb_resnet34_large_margin, losses=SPEAKERS_LARGE_MARGIN
        ),
        Recipe(
            name="voxceleb-ecapa1024-large-margin",
            config=voxceleb_ecapa1024_large_margin,
            losses=SPEAKERS_LARGE_MARGIN,
        ),
        Recipe(name="million", config=million, losses=MILLION),
        *(
            Recipe(name=one.name, config=one, losses=PUBLISHED_LOSSES.get(one.face_set, LARGE), about=one.summary)
            for one in PUBLISHED
        ),
    )
}
