"""Text: characters to numbers and back, in two parts."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfa.data import tiny_shakespeare
from dfa.data.text import split_text

FOLDER = os.environ.get("OPU_DATA")
real = pytest.mark.skipif(
    not (FOLDER and (Path(FOLDER) / "tinyshakespeare").is_dir()),
    reason="OPU_DATA does not name a folder with tinyshakespeare/",
)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=2), st.floats(0.1, 0.9))
def test_encoding_and_decoding_give_the_same_text(text, share):
    """For any alphabet; the two parts together are the whole text. Catches: a vocabulary of bytes."""
    parts = split_text("any", text, share)
    assert parts.decode(torch.cat([parts.train, parts.validation])) == text
    assert parts.vocabulary == "".join(sorted(set(text)))
    assert parts.classes == len(set(text))
    assert len(parts.train) == int(share * len(text))
    assert parts.encode(text).tolist() == [parts.vocabulary.index(character) for character in text]


def test_bad_text_is_refused():
    """Catches: an unknown character that gets the number of its neighbour."""
    with pytest.raises(ValueError, match="characters of abc, got 'x'"):
        split_text("abc", "abcabc").encode("cx")
    with pytest.raises(ValueError, match="text of none must not be empty"):
        split_text("none", "")
    with pytest.raises(ValueError, match=r"share must be between 0 and 1, got 1\.0"):
        split_text("abc", "abc", 1.0)


def test_a_missing_text_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"OPU_DATA must be a folder with tinyshakespeare/input\.txt"):
        tiny_shakespeare()


@real
@pytest.mark.data
def test_tiny_shakespeare():
    """Published size, 65 characters, 90 % for training, and the first line."""
    text = tiny_shakespeare()
    assert len(text.train) + len(text.validation) == 1_115_394
    assert len(text.train) == 1_003_854
    assert text.classes == 65
    assert text.decode(text.train[:14]) == "First Citizen:"
