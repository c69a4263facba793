"""The library webdataset, an extra."""

from types import ModuleType


def webdataset() -> ModuleType:
    """The library; imported when it is first needed.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import webdataset as library  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        raise ValueError(
            "tar shards are written and streamed by webdataset; run: pip install 'qmargin[shards]'"
        ) from error
    module: ModuleType = library
    return module
