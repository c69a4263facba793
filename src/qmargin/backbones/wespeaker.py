"""Weights of WeSpeaker's models: their names are those of `Ecapa` and `SpeakerResNet`, but for the training head's."""

from collections.abc import Mapping

from torch import Tensor


def without_projection(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a WeSpeaker model without those of its training head, to load with `strict=True`.

    Read the file without running what is in it, `torch.load(path, weights_only=True)`, and take the front-end along:
    these models want `FrontEnd.wespeaker()`.

    Args:
        weights: the state dict of a WeSpeaker model.

    Returns:
        Its entries but for `projection.*`.

    Example:
        >>> import torch
        >>> from qmargin.backbones import SpeakerResNetConfig
        >>> backbone = SpeakerResNetConfig(blocks=(1, 1, 1, 1), width=8).build()
        >>> saved = {**backbone.state_dict(), "projection.weight": torch.zeros(5994, 256)}
        >>> backbone.load_state_dict(without_projection(saved))
        <All keys matched successfully>
    """
    return {name: weight for name, weight in weights.items() if not name.startswith("projection.")}
