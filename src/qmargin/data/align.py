"""Faces to one pose: the similarity transform of five landmarks to the 112x112 template, and the crop it makes.

Conventions: a landmark is (x, y) in pixels, x to the right, y down, and (0, 0) is the CENTRE of the upper left pixel,
as in OpenCV. Landmarks come in the order left eye, right eye, nose, left and right corner of the mouth, as seen.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Floats = NDArray[np.float64]

FACE_TEMPLATE: Floats = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
FACE_TEMPLATE.flags.writeable = False
FACE_SIZE = 112  # height and width of the crop that the template is for, pixels


def similarity_transform(source: ArrayLike, target: ArrayLike) -> Floats:
    """The rotation, scale and shift that bring points nearest to others, in the sense of least squares.

    `A = argmin sum_i |A [x_i, y_i, 1] - target_i|^2` over `A = [[a, -b, c], [b, a, d]]`: no reflection, no shear. With
    points as complex numbers, centred, z the source and w the target, `a + ib = sum_i w_i conj(z_i) / sum_i |z_i|^2`,
    which in the plane is Umeyama's solution.

    Args:
        source: (points, 2), at least two of them different.
        target: (points, 2).

    Returns:
        (2, 3): `[x', y'] = A @ [x, y, 1]`.

    Raises:
        ValueError: other shapes, fewer than two points, points that are not finite or all the same.

    Example:
        >>> (similarity_transform([[0, 0], [2, 0]], [[5, 5], [5, 9]]) + 0.0).tolist()  # a quarter turn, twice the size
        [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0]]

    Reference: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    points, goals = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or points.shape != goals.shape or len(points) < 2:
        raise ValueError(
            f"a similarity transform needs source and target of one shape (points >= 2, 2), got {points.shape} and "
            f"{goals.shape}"
        )
    z, w = points @ (1, 1j), goals @ (1, 1j)
    centred = z - z.mean()
    spread = float(np.square(np.abs(centred)).sum())
    if not 0.0 < spread < np.inf or not np.isfinite(w).all():
        raise ValueError(f"landmarks must be finite and not all one point, got {points.tolist()}")
    turn = ((w - w.mean()) * centred.conj()).sum() / spread
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align_face(image: Image.Image, landmarks: ArrayLike) -> NDArray[np.uint8]:
    """Crop a face to 112x112 so that its landmarks lie nearest to `FACE_TEMPLATE`; bilinear, black outside the image.

    Where the crop reaches over the border, Pillow repeats the last half pixel and OpenCV fades it to black; elsewhere
    they differ by a few grey levels (Pillow drops the fraction, OpenCV interpolates in steps of 1/32 pixel).

    Args:
        image: RGB, any size.
        landmarks: (5, 2) pixels, in the module's order.

    Returns:
        (112, 112, 3) uint8.

    Raises:
        ValueError: as `similarity_transform`, or landmarks so near to each other or to a mirrored face that the crop
            would be one pixel of the image.

    Example:
        >>> face = Image.new("RGB", (112, 112), (255, 0, 0))
        >>> align_face(face, FACE_TEMPLATE)[60, 60].tolist()
        [255, 0, 0]

    Sibling: `decode_rgb`, which reads the image.
    """
    matrix = similarity_transform(landmarks, FACE_TEMPLATE)
    linear, shift = matrix[:, :2], matrix[:, 2]
    if np.linalg.det(linear) < 1e-12:
        raise ValueError(f"these landmarks are of no face in any pose: {np.asarray(landmarks).tolist()}")
    back = np.linalg.inv(linear)  # from the crop to the image
    # Pillow's coordinates count from the corner of the first pixel, ours from its centre
    offset = back @ (-0.5 - shift) + 0.5
    rows = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    crop = image.transform((FACE_SIZE, FACE_SIZE), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)
    return np.array(crop)
