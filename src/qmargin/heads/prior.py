"""The base measure of a long-tailed set of classes: how many images each identity has."""

from torch import Tensor


def base_from_counts(counts: Tensor, exponent: float) -> Tensor:
    """Base measure in proportion to a power of the class counts, of mean one.

        q_j = n_j^exponent / mean_k n_k^exponent

    At alpha = 1 this adds exponent * log n_j to the logits in training: logit adjustment, after which the cosines alone
    are for balanced classes. At other alphas it is the reference measure of the same meaning: a class of many images
    gets more posterior at equal cosines, so that training need not push rare identities away from everything.

    Args:
        counts: images of each class (classes,), >= 1.
        exponent: 0 is the unit measure, 1 the class priors.

    Returns:
        (classes,) float32, for `Head(..., base=...)`.

    Raises:
        ValueError: counts below 1 or of another shape, an exponent that is negative or not finite.

    Example:
        >>> import torch
        >>> base_from_counts(torch.tensor([1, 4]), exponent=0.5)
        tensor([0.6667, 1.3333])

    Reference: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
    """
    if counts.ndim != 1 or len(counts) == 0 or not bool((counts >= 1).all()):
        raise ValueError(f"counts must be (classes,), each at least 1 image, got {tuple(counts.shape)}")
    if not 0.0 <= exponent < float("inf"):
        raise ValueError(f"the exponent of the class counts must be a number >= 0, got {exponent!r}")
    power = counts.double() ** exponent
    return (power / power.mean()).float()
