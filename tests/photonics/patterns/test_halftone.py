"""Grey images to binary ones: error and spectrum of each method, on each array library."""

import itertools

import array_api_strict as strict
import numpy as np
import pytest

from photonics.patterns import Bernoulli, ErrorDiffusion, Threshold
from photonics.patterns.halftone import dither_efficiency, dither_error
from photonics.random import Stream, uniform, words

SIDE = 128
FREQUENCY = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
MAKERS = [np.asarray, strict.asarray]


def grey_images(batch=4, seed=1):
    """Images that vary over about 30 mirrors, each from 0.1 to 0.9: (batch, SIDE, SIDE)."""
    white = np.random.default_rng(seed).normal(size=(batch, SIDE, SIDE))
    smooth = np.fft.ifft2(np.fft.fft2(white) * np.exp(-((30 * FREQUENCY) ** 2))).real
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    return 0.1 + 0.8 * (smooth - low) / (high - low)


def noise_power(binary, grey):
    """Power of the error per spatial frequency, mean over the images; its mean is the mean-squared error."""
    return (np.abs(np.fft.fft2(binary - grey)) ** 2).mean(0) / SIDE**2


@pytest.mark.parametrize("encoding", [Bernoulli(seed=3), ErrorDiffusion()], ids=["bernoulli", "diffusion"])
def test_error_and_efficiency(encoding):
    """Mean-squared error ``mean(g(1-g))``; ON mirrors are image and noise, ``mean(g^2) + mean(g(1-g))``.

    Tolerance: 5 standard errors of Bernoulli, sd of ``(b - g)^2`` being below 1/2 and of b too; error diffusion is
    nearer. Catches: a threshold in place of chance, an error thrown away, ``mean(g)`` for the efficiency, a mean over
    the batch.
    """
    grey = grey_images() * np.array([1.0, 0.7, 0.4, 0.2])[:, None, None]
    binary = encoding.encode(grey)
    assert binary.dtype == np.bool_ and binary.shape == grey.shape
    tolerance = 5 * 0.5 / SIDE
    error = ((binary - grey) ** 2).mean((1, 2))
    assert np.abs(error - dither_error(grey)).max() < tolerance
    assert np.abs(binary.mean((1, 2)) - dither_error(grey) - dither_efficiency(grey)).max() < tolerance


def test_bernoulli_noise_is_flat():
    """Noise power is the same in 8 rings of frequency, the mean-squared error, within 5 standard errors.

    A periodogram bin has relative sd 1, and half the bins of a ring are mirror images of the others.
    Catches: one random number shared by the four neighbours of a generator block; the same numbers in each row.
    """
    grey = grey_images(batch=8)
    power, expected = noise_power(Bernoulli(seed=5).encode(grey), grey), dither_error(grey).mean()
    edges = np.linspace(0, 0.5, 9)
    for low, high in itertools.pairwise(edges):
        ring = (low < FREQUENCY) & (high >= FREQUENCY)
        assert abs(power[ring].mean() / expected - 1) < 5 / np.sqrt(8 * ring.sum() / 2)


def test_error_diffusion_moves_noise_to_high_frequency():
    """Over 50 times less noise power than Bernoulli below 1/16 cycle per mirror, with the same total.

    Catches: a weight wrong, so that error is lost; a threshold at 0 or 1; Bernoulli made deterministic.
    """
    grey = grey_images(batch=8)
    low = (FREQUENCY > 0) & (FREQUENCY <= 1 / 16)
    random, diffused = (noise_power(b, grey) for b in (Bernoulli(seed=5).encode(grey), ErrorDiffusion().encode(grey)))
    assert random[low].mean() > 50 * diffused[low].mean()
    assert abs(diffused.mean() / random.mean() - 1) < 0.02


def plain_floyd_steinberg(grey):
    """The published method on one image, as one would write it first."""
    rows, columns = grey.shape
    wanted, binary = grey.astype(float), np.zeros(grey.shape, bool)
    for r in range(rows):
        ahead = 1 if r % 2 == 0 else -1
        for c in range(columns)[::ahead]:
            binary[r, c] = wanted[r, c] > 0.5
            for down, across, share in ((0, ahead, 7), (1, -ahead, 3), (1, 0, 5), (1, ahead, 1)):
                if r + down < rows and 0 <= c + across < columns:
                    wanted[r + down, c + across] += (wanted[r, c] - binary[r, c]) * share / 16
    return binary


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (12, 9), (0, 4)])
def test_error_diffusion_is_the_published_one(shape):
    """Equal to a plain implementation, alone or in a batch.

    Catches: a raster scan, the sides not swapped in a leftward row, the last row's errors left to the next image.
    """
    grey = np.random.default_rng(0).random((9, *shape))
    expected = np.stack([plain_floyd_steinberg(image) for image in grey])
    np.testing.assert_array_equal(ErrorDiffusion().encode(grey), expected)
    np.testing.assert_array_equal(ErrorDiffusion().encode(grey[4]), expected[4])


@pytest.mark.parametrize("make", MAKERS)
def test_bernoulli_is_a_function_of_frame_and_mirror(make):
    """Any batch split and array module give the same mirrors: word ``n % 4`` of block ``n // 4`` against the grey.

    Catches: `tick` ignored, so that every batch starts at frame 0; another order of the words on one module.
    """
    grey = np.random.default_rng(2).random((5, 3, 7))
    block = np.stack(words(9, Stream.BERNOULLI, np.arange(6)[None, :], 40 + np.arange(5)[:, None]), axis=-1)
    expected = uniform(block).reshape(5, 24)[:, :21].reshape(5, 3, 7) < grey
    whole = Bernoulli(seed=9).encode(make(grey), tick=40)
    np.testing.assert_array_equal(np.asarray(whole), expected)
    parts = [Bernoulli(seed=9).encode(make(grey[i:j].reshape(-1, 21)), 40 + i) for i, j in ((0, 2), (2, 5))]
    np.testing.assert_array_equal(np.concatenate([np.asarray(p) for p in parts]), expected.reshape(5, 21))


def test_black_stays_off_and_white_on():
    """0 is never ON and 1 always, in both methods. Catches: error diffusion with its threshold at 0 or 1."""
    grey = np.repeat([[[0.0], [1.0]]], 4096, axis=2)
    for binary in (Bernoulli().encode(grey), ErrorDiffusion().encode(grey)):
        np.testing.assert_array_equal(binary, grey == 1)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32"])
def test_threshold(dtype):
    """ON strictly above the level. Catches: ``>=``."""
    values = np.array([[0, 1, 2, 3]]).astype(dtype)
    np.testing.assert_array_equal(Threshold(level=1).encode(values), values > 1)
    assert Threshold().encode(values).dtype == np.bool_


BAD_IMAGES = [
    ([[0.5, np.nan]], "be finite, got NaN"),
    ([[0.5, 1.5]], r"be from 0 to 1, got 0\.5 to 1\.5"),
    ([[-0.1, 0.5]], r"be from 0 to 1, got -0\.1 to 0\.5"),
    ([0.5], r"have 2 or 3 dimensions, got shape \(1,\)"),
    ([["a"]], "be numbers, got dtype <U1"),
    ([[0.5, 1j]], "be real, got dtype complex128"),
    ([[0.5], [0.5, 1]], "be an array, got rows of several lengths"),
]


@pytest.mark.parametrize(("values", "says"), BAD_IMAGES)
@pytest.mark.parametrize(
    "call", [Bernoulli().encode, ErrorDiffusion().encode, dither_error], ids=["bernoulli", "diffusion", "error"]
)
def test_bad_images_are_named(call, values, says):
    """One line with the argument, what is allowed, what came. Catches: NaN or a value above 1 let through."""
    with pytest.raises(ValueError, match=f"^values must {says}") as error:
        call(values)
    assert "\n" not in str(error.value)


def test_bad_arguments_are_named():
    """As above, for each further argument. Catches: a range check removed, a GPU array copied in silence."""
    for call, says in [
        (lambda: Bernoulli(seed=-1), r"^Bernoulli: seed must be"),
        (lambda: Bernoulli().encode([[0.5]], tick=-1), r"^tick must be an integer"),
        (lambda: ErrorDiffusion().encode(strict.asarray([[0.5]])), r"^values must be a numpy .*CPU only.*api_strict"),
        *[(lambda v=v: Threshold().encode(v), r"^values must be finite real numbers") for v in ([[np.nan]], [["a"]])],
    ]:
        with pytest.raises(ValueError, match=says):
            call()
