"""Text as a sequence of characters."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfa.data.files import read_published

__all__ = ["Text", "split_text", "tiny_shakespeare"]

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True, eq=False)
class Text:
    """Characters as numbers, int64 (n,), in two parts. ``vocabulary[i]`` is character i, sorted by code point."""

    name: str
    train: Tensor
    validation: Tensor
    vocabulary: str

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(getattr(self, name))}" for name in ("train", "validation"))
        return f"Text({self.name}: {counts}; {self.classes} different characters)"

    @property
    def classes(self) -> int:
        """Number of different characters."""
        return len(self.vocabulary)

    def encode(self, text: str) -> Tensor:
        """Convert characters to numbers, (n,) int64.

        Raises
        ------
        ValueError
            If a character is not in the vocabulary.
        """
        unknown = sorted(set(text) - set(self.vocabulary))
        if unknown:
            raise ValueError(f"text must consist of the {self.classes} characters of {self.name}, got {unknown[0]!r}")
        return torch.from_numpy(np.searchsorted(code_points(self.vocabulary), code_points(text)))

    def decode(self, numbers: Iterable[int]) -> str:
        """Convert numbers to characters."""
        return "".join(self.vocabulary[int(i)] for i in numbers)


def code_points(text: str) -> NDArray[np.uint32]:
    """Code points of characters, (n,)."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def split_text(name: str, text: str, share: float = 0.9) -> Text:
    """Number the characters in the order of their code points. The first `share` of the text is the training part.

    Raises
    ------
    ValueError
        If the text is empty or the share is not between 0 and 1.

    Examples
    --------
    >>> text = split_text("example", "abracadabra", 0.75)
    >>> text.vocabulary, text.train.tolist(), text.decode(text.validation)
    ('abcdr', [0, 1, 4, 0, 2, 0, 3, 0], 'bra')
    """
    if not text:
        raise ValueError(f"text of {name} must not be empty")
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share!r}")
    whole = Text(name, torch.empty(0), torch.empty(0), "".join(sorted(set(text))))
    numbers = whole.encode(text)
    start = int(share * len(text))
    return Text(name, numbers[:start], numbers[start:], whole.vocabulary)


def tiny_shakespeare() -> Text:
    """1 115 394 characters of Shakespeare, 65 different ones; 90 % for training, the last 10 % for validation.

    The text is from char-rnn (A. Karpathy, 2015), in the folder ``tinyshakespeare``.

    Raises
    ------
    ValueError
        If the file is missing and cannot be downloaded, or its SHA-256 is wrong.
    """
    content = read_published("tinyshakespeare", "input.txt", SHAKESPEARE_URL, SHAKESPEARE_SHA256)
    return split_text("tiny-shakespeare", content.decode("ascii"))
