"""Arrays on their way into the native half, and the words of its messages."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np


def npy(array: Any) -> bytes:
    """The bytes that ``numpy.save`` writes: one reader judges what the command line and Python are given."""
    array = np.asarray(array)
    if array.dtype.hasobject:
        others = [value for value in array.ravel() if not isinstance(value, str)]
        if others:
            kind = type(others[0]).__name__
            raise TypeError(f"an array of Python objects ({kind}): give numbers, or names as str")
        array = array.astype(str)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
    return buffer.getvalue()


def names(values: Any) -> list[str]:
    """One text per value, or none."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"one text ({values!r}) where a sequence of them is expected")
    return [] if values is None else [str(value) for value in np.asarray(values).ravel()]


def in_python(text: str) -> str:
    """A message of the command line with its options as Python's arguments: ``--loss mse`` is ``loss="mse"``."""
    text = re.sub(r"--(loss|method|start) ([a-z][a-z-]*)", r'\1="\2"', text)
    text = re.sub(r"--([a-z-]+) ([0-9]+)", lambda own: f"{own[1].replace('-', '_')}={own[2]}", text)
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda own: own[1].replace("-", "_") + "=", text)


def warn(texts: list[str]) -> None:
    """Warns the caller of the caller."""
    for text in texts:
        warnings.warn(text, UserWarning, stacklevel=4)
