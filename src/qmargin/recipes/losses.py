"""The losses that each recipe knows good settings for, by name; the first one is the recipe's default."""

from collections.abc import Mapping

from qmargin.losses import A3M, ArcFace, CosFace, NormFace, QMargin, Ramp, ScheduledLoss, SupportControl


def default_of(losses: Mapping[str, ScheduledLoss]) -> ScheduledLoss:
    """The first of some losses: what a recipe trains with unless told."""
    return next(iter(losses.values()))


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
# arcface_torch trains Glint360K and WebFace with CosFace at m = 0.4; every other loss is as for the other sets.
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
# The same for voices: benchmarks/speakers_small.py chose another scale for Q-Margin alone.
VOICES = SMALL | _named(ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.2, scale=96.0)))
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
# WeSpeaker has 0.5 radians for ArcFace; the others are guesses in proportion, and nobody has tried them.
SPEAKERS_LARGE_MARGIN = _named(
    ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5, margin=0.25, scale=6.0)),
    ScheduledLoss(name="arcface", final=ArcFace(margin=0.5, scale=32.0)),
    ScheduledLoss(name="cosface", final=CosFace(margin=0.5, scale=32.0)),
    ScheduledLoss(name="a3m", final=A3M(alpha=1.5, margin=0.25, scale=6.0)),
    ScheduledLoss(name="normface", final=NormFace(scale=32.0)),
)
