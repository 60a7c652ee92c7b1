"""CIFAR-10 and CIFAR-100: colour images, from the original binary files or (CIFAR-10) from copies in JPEG."""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dfa.data.dataset import Dataset, split_training
from dfa.data.files import read_published

__all__ = ["CIFAR_SHA256", "cifar10", "cifar100"]

URL = "https://www.cs.toronto.edu/~kriz/"
"""The author's address, which torchvision also uses."""
CIFAR_SHA256 = {
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    "train-jpeg.npz": "451a04f3c76b0be43609af9041bc145d264fd0ee0b96d62be09a18ecd8ec955c",
    "test-jpeg.npz": "d7e6c070811efbadb2f147add2aa80ac1cf79e313619cfb61133de12c26f9656",
}
"""Digests of the archives, as several independent projects publish them, and of the JPEG copies (from the files)."""
COLOURS, SIDE = 3, 32
PIXELS = COLOURS * SIDE * SIDE
Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (n, 3072), the three colours one after the other, and labels (n,)."""


def cifar10(validation: int = 5000) -> Dataset:
    """32 x 32 colour images in ten classes (Krizhevsky 2009), each colour standardised over the training images.

    If OPU_DATA is set and has ``cifar10/train-jpeg.npz`` and ``cifar10/test-jpeg.npz`` but not the original archive,
    these copies are read (with Pillow). They are the same images in another order, re-encoded as JPEG; the data set is
    then named "cifar10-jpeg", and results must say so.

    Parameters
    ----------
    validation : int
        Number of samples from the end of the 50 000 training images that are used for validation. The 10 000 test
        images are the test part.

    Raises
    ------
    ValueError
        If a file is missing and cannot be downloaded, is damaged, or its SHA-256 is wrong.
    """
    mean, deviation = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    root = Path(os.environ.get("OPU_DATA", "")) / "cifar10"
    if (root / "train-jpeg.npz").is_file() and not (root / "cifar-10-binary.tar.gz").is_file():
        name, parts = "cifar10-jpeg", [read_jpeg(f"{part}-jpeg.npz") for part in ("train", "test")]
    else:
        batches = [f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6)]
        members = [batches, ["cifar-10-batches-bin/test_batch.bin"]]
        name, parts = "cifar10", read_binary("cifar10", "cifar-10-binary.tar.gz", members, labels=1)
    return assemble(name, parts, validation, 10, mean, deviation)


def cifar100(validation: int = 5000) -> Dataset:
    """32 x 32 colour images in 100 classes (Krizhevsky 2009), from the original binary files.

    Parts, scale and errors are as for `cifar10`. The labels are the fine ones.
    """
    members = [["cifar-100-binary/train.bin"], ["cifar-100-binary/test.bin"]]
    parts = read_binary("cifar100", "cifar-100-binary.tar.gz", members, labels=2)
    return assemble("cifar100", parts, validation, 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def assemble(
    name: str,
    parts: Sequence[Images],
    validation: int,
    classes: int,
    mean: Sequence[float],
    deviation: Sequence[float],
) -> Dataset:
    """Standardise the colours, and take the validation part from the end of the training images."""
    (x, y), (x_test, y_test) = parts
    scale = 1.0 / (255.0 * torch.tensor(deviation)).repeat_interleave(SIDE * SIDE)
    offset = (255.0 * torch.tensor(mean)).repeat_interleave(SIDE * SIDE)
    images = [torch.from_numpy(a.astype(np.float32)).sub_(offset).mul_(scale) for a in (x, x_test)]
    labels = [torch.from_numpy(a) for a in (y, y_test)]
    return split_training(name, images, labels, validation, classes, COLOURS)


def read_binary(folder: str, name: str, members: Sequence[Sequence[str]], labels: int) -> list[Images]:
    """Read the parts of an archive: records of `labels` bytes, the last of which is the class, and 3072 pixels."""
    content = read_published(folder, name, URL + name, CIFAR_SHA256[name])
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            files = [b"".join(extract(archive, member) for member in part) for part in members]
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise ValueError(f"{name} must be an archive with {members[0][0]} ({error})") from None
    parts: list[Images] = []
    for part, content in zip(members, files, strict=True):
        raw = np.frombuffer(content, np.uint8)
        if not raw.size or raw.size % (labels + PIXELS):
            raise ValueError(f"{part[0]} must hold records of {labels + PIXELS} bytes, got {raw.size} bytes")
        records = raw.reshape(-1, labels + PIXELS)
        parts.append((records[:, labels:], records[:, labels - 1].astype(np.int64)))
    return parts


def extract(archive: tarfile.TarFile, member: str) -> bytes:
    """Read a file of an archive, or raise a ``KeyError``."""
    stored = archive.extractfile(member)
    if stored is None:
        raise KeyError(f"{member} is not a file")
    return stored.read()


def read_jpeg(name: str) -> Images:
    """Read images from an npz file: ``jpeg`` (the files one after the other), ``offsets`` (n + 1,), ``labels`` (n,)."""
    from PIL import Image

    content = read_published("cifar10", name, URL + name, CIFAR_SHA256[name])
    with np.load(io.BytesIO(content)) as stored:
        files, offsets, labels = stored["jpeg"].tobytes(), stored["offsets"], stored["labels"].astype(np.int64)
    images = np.empty((len(labels), PIXELS), np.uint8)
    for image, start, stop in zip(images, offsets[:-1], offsets[1:], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(files[start:stop])))  # (32, 32, 3)
        image[:] = pixels.transpose(2, 0, 1).reshape(-1)
    return images, labels
