"""What every backbone checks: the numbers of its config and the images that arrive."""

from torch import Tensor


def check_counts(owner: str, **counts: int) -> None:
    """Each count is an integer >= 1; a ValueError names the config and the field."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{owner}.{name} must be an integer >= 1, got {value!r}")


def checked(images: Tensor, expected: tuple[int, int, int], *, training: bool) -> Tensor:
    """Return the images, on a CPU in row-major order, if they are floating point (batch, *expected), and two to train.

    Row-major, because oneDNN 3 corrupts memory in the backward of a strided 1x1 convolution of fewer than 16 channels
    when images arrive in the order of their pixels (channels last), as a permuted (height, width, channels) array does.
    """
    # shape[0] and not len(), which would fix the batch of an exported network
    if tuple(images.shape[1:]) != expected or images.ndim != 4 or images.shape[0] == 0:
        raise ValueError(
            f"this backbone takes images of shape (batch, channels, height, width) = (batch, {expected[0]}, "
            f"{expected[1]}, {expected[2]}) with batch >= 1, got {tuple(images.shape)}; set channels, height and "
            "input_width of its config to what arrives, or decode to its size"
        )
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [-1, 1], got {images.dtype}: pass them through normalise")
    if training and images.shape[0] == 1:
        raise ValueError(
            "the batch norms of a backbone in train mode need at least 2 images, got 1; call eval() to embed, or drop "
            "the incomplete last batch to train"
        )
    if images.device.type != "cpu":
        return images
    return images.flatten(1).view(images.shape)  # .contiguous() would leave the strides of one channel as they are
