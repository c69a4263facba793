"""What relative paths of recordings are relative to, for errors."""

from pathlib import Path


def working_directory(file: str | Path) -> str:
    """What to add where a file is not found: what its path is relative to; nothing of an absolute path.

    Example:
        >>> working_directory("/data/a.wav")
        ''
    """
    if Path(file).is_absolute():
        return ""
    return (
        f" ({file} is a relative path, read from the working directory, here {Path.cwd()}: start where it is right, or "
        "give absolute paths)"
    )
