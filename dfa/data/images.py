"""Images: digits (embedded in scikit-learn), MNIST and Fashion-MNIST (IDX files)."""

import gzip
import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from dfa.data.dataset import Dataset, split_training
from dfa.data.files import read_published

__all__ = ["FASHION_SHA256", "MNIST_SHA256", "digits", "fashion_mnist", "mnist", "read_idx"]

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
"""torchvision's mirror."""
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
"""The authors' address, which torchvision also uses. It has no https; the digests protect the files."""
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
"""As published by TensorFlow Datasets (url_checksums/fashion_mnist.txt)."""


def digits() -> Dataset:
    """8 x 8 handwritten digits (UCI, 1797 samples), pixels scaled to 0 to 1: 1077 train, 360 validation, 360 test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32)
    x, x_test, y, y_test = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    parts = [
        (torch.from_numpy(np.asarray(a)), torch.from_numpy(np.asarray(b, np.int64)))
        for a, b in ((x, y), (x_val, y_val), (x_test, y_test))
    ]
    return Dataset("digits", *parts, classes=10)


def mnist(validation: int = 5000) -> Dataset:
    """28 x 28 handwritten digits (LeCun et al. 1998), standardised as ``(x - 0.1307) / 0.3081``.

    Parameters
    ----------
    validation : int
        Number of samples from the end of the 60 000 training images that are used for validation. The 10 000 test
        images are the test part.

    Raises
    ------
    ValueError
        If a file is missing and cannot be downloaded, or its SHA-256 is wrong.
    """
    return read_images("mnist", MNIST_URL, MNIST_SHA256, validation, mean=0.1307, deviation=0.3081)


def fashion_mnist(validation: int = 5000) -> Dataset:
    """28 x 28 images of clothes in ten classes (Xiao et al., arXiv:1708.07747), ``(x - 0.2860) / 0.3530``.

    Mean and standard deviation are those of the training images. Parts and errors are as for `mnist`; the folder is
    ``fashion-mnist``.
    """
    return read_images("fashion-mnist", FASHION_URL, FASHION_SHA256, validation, mean=0.2860, deviation=0.3530)


def read_images(
    name: str, url: str, digests: Mapping[str, str], validation: int, mean: float, deviation: float
) -> Dataset:
    """Read four IDX files: training images and labels, test images and labels."""
    contents = {file: read_published(name, file, url + file, digest) for file, digest in digests.items()}
    x, y, x_test, y_test = [read_idx(content, file) for file, content in contents.items()]
    if len(x) != len(y) or len(x_test) != len(y_test):
        raise ValueError(f"{name} must have a label for each image, got {len(y)} for {len(x)}")
    images = [
        torch.from_numpy((a.reshape(len(a), -1) / np.float32(255.0) - np.float32(mean)) / np.float32(deviation))
        for a in (x, x_test)
    ]
    labels = [torch.from_numpy(a.astype(np.int64)) for a in (y, y_test)]
    return split_training(name, images, labels, validation, classes=10)


def read_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, data.

    Raises
    ------
    ValueError
        If the content is something else or truncated. The message names the file, `name`.
    """
    try:
        raw = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} must be a gzipped IDX file ({error})") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{name} must start as an IDX file of bytes (0 0 8), got {list(raw[:3])}")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{name} must hold {raw[3]} sizes, got {len(raw) - 4} bytes of them")
    shape = tuple(np.frombuffer(raw[4:start], ">u4").tolist())
    if len(raw) - start != math.prod(shape):
        raise ValueError(f"{name} must hold {shape} bytes, got {len(raw) - start}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
