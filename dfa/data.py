"""Data sets: digits (embedded in scikit-learn) and MNIST (downloaded, or from the folder that OPU_DATA names)."""

import gzip
import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["DATASETS", "Dataset", "digits", "load", "mnist"]

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Features (n, d) float32 and labels (n,) int64, in three parts that share no sample."""

    name: str
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int

    @property
    def features(self) -> int:
        """Length of a sample."""
        return self.train[0].shape[1]


def digits() -> Dataset:
    """8 x 8 handwritten digits (UCI, 1797 samples), pixels scaled to 0 to 1: 1077 train, 360 validation, 360 test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32)
    x, x_test, y, y_test = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    parts = [
        (torch.from_numpy(a), torch.from_numpy(b.astype(np.int64)))
        for a, b in ((x, y), (x_val, y_val), (x_test, y_test))
    ]
    return Dataset("digits", *parts, classes=10)


def mnist(validation: int = 5000) -> Dataset:
    """28 x 28 handwritten digits (LeCun et al. 1998), standardised as ``(x - 0.1307) / 0.3081``.

    Parameters
    ----------
    validation : int
        Samples taken from the end of the 60 000 training images, for choices; the 10 000 test images are for reports.

    Raises
    ------
    ValueError
        If a file is missing and cannot be fetched, or is not the published one (SHA-256).
    """
    if not 0 <= validation < 60_000:
        raise ValueError(f"validation must be 0 to 59999, got {validation}")
    arrays = [read_idx(mnist_file(name)) for name in MNIST_SHA256]
    images = [
        torch.from_numpy(((a.reshape(len(a), -1) / np.float32(255.0)) - np.float32(0.1307)) / np.float32(0.3081))
        for a in arrays[0::2]
    ]
    labels = [torch.from_numpy(a.astype(np.int64)) for a in arrays[1::2]]
    split = 60_000 - validation
    return Dataset(
        "mnist",
        (images[0][:split], labels[0][:split]),
        (images[0][split:], labels[0][split:]),
        (images[1], labels[1]),
        classes=10,
    )


def mnist_file(name: str) -> Path:
    """Path of an MNIST file whose SHA-256 is right: in ``$OPU_DATA/mnist``, else downloaded into the user's cache."""
    folder = os.environ.get("OPU_DATA")
    if folder:
        path = Path(folder) / "mnist" / name
        if not path.is_file():
            raise ValueError(f"OPU_DATA must hold mnist/{name}, which is not in {folder}")
    else:
        import pooch

        try:
            path = Path(pooch.retrieve(MNIST_URL + name, MNIST_SHA256[name], name, pooch.os_cache("opu-sim") / "mnist"))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong hash is a ValueError
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{name} could not be downloaded ({reason}); set OPU_DATA to a folder with mnist/"
            ) from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != MNIST_SHA256[name]:
        raise ValueError(f"{path} must have SHA-256 {MNIST_SHA256[name]}, got {digest}: the file is corrupt")
    return path


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, data."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} must be a gzipped IDX file ({error})") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} must start as an IDX file of bytes (0 0 8), got {list(raw[:3])}")
    start = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw[4:start], ">u4").tolist())
    if len(raw) - start != math.prod(shape):
        raise ValueError(f"{path} must hold {shape} bytes, got {len(raw) - start}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


DATASETS = {"digits": digits, "mnist": mnist}


def load(name: str) -> Dataset:
    """Load a data set by its name.

    Raises
    ------
    ValueError
        If there is none of that name, or its files are missing or corrupt.
    """
    if name not in DATASETS:
        raise ValueError(f"data must be one of {sorted(DATASETS)}, got {name!r}")
    return DATASETS[name]()
