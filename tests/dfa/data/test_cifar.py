"""CIFAR: the original binary files, written here, and the real copies in JPEG."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from dfa.data import cifar, cifar10, cifar100, load
from tests.dfa.data.test_data import needs


def archive(path, files):
    """Write an archive of files, and return its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_binary_files(name, classes, tmp_path, monkeypatch, rng):
    """Pixels, fine labels and parts of every batch. Catches: a coarse label; colours that are mixed up."""
    extra, batches = (0, 5) if name == "cifar10" else (1, 1)
    records = [rng.integers(0, classes, (4, 1 + extra + 3072), dtype=np.uint8) for _ in range(batches + 1)]
    if name == "cifar10":
        members = [f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6)] + [
            "cifar-10-batches-bin/test_batch.bin"
        ]
    else:
        members = ["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"]
    file = f"cifar-{classes}-binary.tar.gz"
    contents = {m: r.tobytes() for m, r in zip(members, records, strict=True)}
    digest = archive(tmp_path / name / file, contents)
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    monkeypatch.setitem(cifar.CIFAR_SHA256, file, digest)
    parts = {"cifar10": cifar10, "cifar100": cifar100}[name](validation=1)
    assert (parts.name, parts.classes, parts.colours, parts.features) == (name, classes, 3, 3072)
    assert [len(p[1]) for p in (parts.train, parts.validation, parts.test)] == [4 * batches - 1, 1, 4]
    train = np.concatenate(records[:-1])
    assert parts.train[1].tolist() == train[:-1, extra].tolist()
    mean, deviation = (0.4914, 0.2470) if classes == 10 else (0.5071, 0.2673)
    red = parts.test[0][:, :1024].numpy() * deviation + mean
    np.testing.assert_allclose(red * 255, records[-1][:, 1 + extra : 1 + extra + 1024], atol=1e-3)
    with pytest.raises(ValueError, match="validation must be 0 to"):
        cifar10(validation=10**6) if classes == 10 else cifar100(validation=10**6)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cifar-100-binary/train.bin": b"1" * 3074}, "must be an archive with cifar-100-binary/train.bin"),
        (
            {f"cifar-100-binary/{part}.bin": b"1" * 3073 for part in ("train", "test")},
            "records of 3074 bytes, got 3073",
        ),
    ],
)
def test_damaged_archives_are_refused(files, message, tmp_path, monkeypatch):
    digest = archive(tmp_path / "cifar100" / "cifar-100-binary.tar.gz", files)
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    monkeypatch.setitem(cifar.CIFAR_SHA256, "cifar-100-binary.tar.gz", digest)
    with pytest.raises(ValueError, match=message):
        cifar100()


@needs("cifar10")
@pytest.mark.data
def test_copies_in_jpeg(monkeypatch):
    """Read under their own name: 10 000 test images, 1000 of each class, standardised. Catches: rows for colours."""
    monkeypatch.setattr(cifar, "read_jpeg", lambda name, read=cifar.read_jpeg: read("test-jpeg.npz"))
    parts = load("cifar10")
    assert (parts.name, parts.colours) == ("cifar10-jpeg", 3)
    assert parts.test[1].bincount().tolist() == [1000] * 10
    colours = parts.test[0].view(-1, 3, 1024)
    assert float(colours.mean((0, 2)).abs().max()) < 0.05
    assert float((colours.std((0, 2)) - 1.0).abs().max()) < 0.05
    image = colours[:200].view(200, 3, 32, 32)
    assert float((image[..., 1:] - image[..., :-1]).abs().mean()) < 0.5  # neighbours are alike
