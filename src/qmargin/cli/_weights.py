"""`--weights newest|best` of the commands that take a run."""

from typing import Annotated

import tyro

from qmargin.scoring.runs import Weights

WeightsOption = Annotated[
    Weights,
    tyro.conf.arg(help="Those of the last checkpoint, or of the best validation (a training with --validation.watch)."),
]


def said_of(weights: Weights) -> str:
    """What follows the name of figures or embeddings in a table: nothing where the weights are the newest."""
    return ", weights of the best validation" if weights == "best" else ""
