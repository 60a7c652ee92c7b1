"""What makes two points the same: the content of a key."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["canonical", "plain", "point_key"]


def plain(value: Any, name: str) -> Any:
    """`value` in types that JSON has, tuples and arrays as lists, numpy's numbers as Python's, or a ``ValueError``."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, name) for item in value]
    raise ValueError(f"{name} must be made of finite numbers, strings, booleans, None, lists and tables, got {value!r}")


def canonical(value: Any, name: str) -> str:
    """`value` as JSON, the same for the same content."""
    return json.dumps(plain(value, name), sort_keys=True, separators=(",", ":"), allow_nan=False)


def point_key(study: str, settings: Mapping[str, Any], seed: int, model: str) -> str:
    """Key of a point, hexadecimal; `study` is the canonical JSON of its description."""
    text = canonical([study, dict(settings), seed, model], "settings")
    return hashlib.sha256(text.encode()).hexdigest()
