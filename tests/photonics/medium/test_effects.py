"""Effects around a medium: loss, unscattered light, modes that do not interfere, path times."""

import pickle

import array_api_strict as strict
import numpy as np
import pytest

from photonics import Ballistic, Dispersive, Drifting, GaussianMedium, Lossy, MatrixMedium, Modes
from photonics import medium as media
from photonics.analysis.speckle import contrast
from photonics.backend import to_host
from photonics.medium.effects import image_of

ALL = slice(None)
SLAB = GaussianMedium(64, 40_000, seed=31)
SMALL = GaussianMedium(30, 41, seed=32)
ALL_ON = np.ones((1, 64), bool)
EFFECTS = {
    "lossy": lambda medium: Lossy(medium, 0.3),
    "ballistic": lambda medium: Ballistic(medium, 0.7),
    "modes": lambda medium: Modes(medium, [1, 2, 3], seed=9),
    "dispersive": lambda medium: Dispersive(medium, 1e-12),
    "nested": lambda medium: Modes.polarised(Ballistic(Lossy(Dispersive(medium, 2e-12), 0.5), 2.0)),
    "drifting": lambda medium: Lossy(Modes.polarised(Ballistic(Drifting(medium, 30), 0.5)), 0.5),
}
every_effect = pytest.mark.parametrize("wrap", EFFECTS.values(), ids=EFFECTS)


def intensity(medium, field=ALL_ON):
    """Intensity of each pixel, summed over the modes: (pixels,)."""
    power = np.abs(medium.propagate(field).astype(np.complex128)) ** 2
    return power.reshape(len(field), medium.modes, -1).sum(axis=1).ravel()


@pytest.mark.parametrize("transmission", [1e-6, 0.25, 1.0])
def test_loss_scales_the_power(transmission):
    """Power scales with the transmission, everywhere. Catches: a field scaled by it instead of its root."""
    ratio = intensity(Lossy(SLAB, transmission)) / intensity(SLAB)
    np.testing.assert_allclose(ratio, transmission, rtol=1e-6)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0, 10.0])
def test_ballistic_light_lowers_the_contrast(ratio):
    """Contrast ``sqrt(1 + 2r)/(1 + r)`` and mean 1 with all inputs ON, to 4 s.e. Catches: ratio of fields, no norm."""
    seen = intensity(Ballistic(SLAB, ratio))
    expected = np.sqrt(1 + 2 * ratio) / (1 + ratio)
    assert abs(seen.mean() - 1) < 4 * expected / np.sqrt(seen.size)
    assert abs(contrast(seen) - expected) < 4 / np.sqrt(seen.size)  # the s.e. is largest at r = 0


@pytest.mark.parametrize("ratio", [0.1, 3.0])
def test_ballistic_rows_keep_their_energy(ratio):
    """``E sum_j |t_ij|^2 = 1`` to 4 s.e. Catches: a straight part spread over n_in columns."""
    rows = np.sum(np.abs(Ballistic(SLAB, ratio).block(ALL, ALL)) ** 2, axis=1)
    assert abs(rows.mean() - 1) < 4 * rows.std() / np.sqrt(rows.size)


@pytest.mark.parametrize(("n_in", "n_out"), [(5, 5), (4, 12), (12, 4), (48, 37), (1, 9)])
def test_ballistic_image_is_geometric(n_in, n_out):
    """Output i sees the input under its middle, in order; with no scattering the image comes through.

    By exact integers against the formula; both ends are treated alike (the mirrored image is the image of the
    mirror, unless a middle falls on a border). Catches: ``floor(i n_in / n_out)``, transposed sizes.
    """
    image = image_of(n_in, n_out)
    np.testing.assert_array_equal(image, [int((i + 0.5) * n_in / n_out) for i in range(n_out)])
    middles = (np.arange(n_out) + 0.5) * n_in / n_out
    clear = middles != np.round(middles)
    np.testing.assert_array_equal((n_in - 1 - image[::-1])[clear], image[clear])
    nothing = MatrixMedium(np.zeros((n_out, n_in)))
    x = np.random.default_rng(0).normal(size=(2, n_in)).astype(np.float32)
    seen = Ballistic(nothing, 3.0).propagate(x)
    np.testing.assert_allclose(seen, x[:, image] * np.sqrt(0.75), rtol=1e-6)


def test_ballistic_light_is_common_to_fresh_media():
    """The straight part stays, what scatters is new. Catches: a fresh medium without, or with the old T."""
    one = Ballistic(SMALL, 4.0)
    a, b = one.block(ALL, ALL), one.fresh(1).block(ALL, ALL)
    image = image_of(30, 41)[:, None] == np.arange(30)
    assert abs(a[image].mean() - np.sqrt(0.8)) < 0.1
    assert abs(b[image].mean() - np.sqrt(0.8)) < 0.1
    assert abs(np.vdot(a[~image], b[~image])) / np.linalg.norm(a[~image]) / np.linalg.norm(b[~image]) < 5 / 34


@pytest.mark.parametrize("weights", [[1], [1, 1], [2, 2, 2, 2], [5, 3, 1], 0.7 ** np.arange(9)])
def test_modes_average_the_speckle(weights):
    """Contrast ``sqrt(sum w^2)``, 1/sqrt(k) if equal, and mean 1, to 4 s.e. Catches: amplitudes for weights."""
    medium = Modes(SLAB, weights)
    seen, w = intensity(medium), np.asarray(weights) / np.sum(weights)
    assert medium.shape == (len(w) * 40_000, 64)
    assert medium.modes == len(w)
    assert abs(seen.mean() - 1) < 4 * np.sqrt(np.sum(w**2) / seen.size)
    assert abs(contrast(seen) - np.sqrt(np.sum(w**2))) < 4 / np.sqrt(seen.size)


def test_polarised_is_two_equal_modes():
    """The first mode is the medium's own field over sqrt(2). Catches: a medium that is not among its modes."""
    medium = Modes.polarised(SMALL)
    assert medium.modes == 2
    block = medium.block(ALL, ALL)
    np.testing.assert_allclose(block[:41], SMALL.block(ALL, ALL) / np.sqrt(2), rtol=1e-6)


def test_every_mode_of_modes_is_another_medium():
    """Nested with the same seed, and fresh: of all fields no two correlate (5 s.e.).

    Catches: words shared by an inner and an outer medium.
    """
    nest = Modes(Modes(SMALL, [1, 1, 1]), [1, 1])
    drifting = Modes(Drifting(SMALL, 1e-3), [1, 1, 1])  # its frames are independent
    for medium, ticks in [(nest, [0]), (nest.fresh(0), [0]), (drifting, [0, 1, 2])]:
        fields = np.concatenate([medium.block(ALL, ALL, tick).reshape(medium.modes, -1) for tick in ticks])
        fields /= np.linalg.norm(fields, axis=1, keepdims=True)
        overlap = np.abs(fields @ fields.conj().T) - np.eye(len(fields))
        assert np.abs(overlap).max() < 5 / np.sqrt(30 * 41)
    everything = [m.block(ALL, ALL).reshape(-1) for m in (*nest.media, *nest.fresh(0).media)]
    assert len({block.tobytes() for block in everything}) == len(everything)


def test_modes_are_made_again_and_not_sent():
    """A pickle holds no further media. Catches: matrices of every mode sent to each worker of a sweep."""
    medium = Modes(SMALL, np.ones(20))
    before = medium.block(ALL, ALL)
    assert "media" not in medium.__getstate__()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(medium)).block(ALL, ALL), before)


def test_path_times_and_modes_are_passed_on():
    """Through every effect around; the field of one wavelength is that of the medium. Catches: one that forgets."""
    medium = Dispersive(SMALL, 3e-12)
    for wrap in (*EFFECTS.values(), lambda m: Drifting(m, 10)):
        assert wrap(SMALL).modes in (1, 2, 3)
        assert wrap(medium).path_time_spread_s > 0
        assert wrap(medium).fresh(1).path_time_spread_s == wrap(medium).path_time_spread_s
    assert Lossy(Modes.polarised(medium), 0.5).modes == 2
    assert SMALL.path_time_spread_s == 0
    np.testing.assert_array_equal(medium.block(ALL, ALL), SMALL.block(ALL, ALL))


@every_effect
def test_description(wrap):
    """Nested descriptions make the same medium, and the text names every parameter. Catches: one left out."""
    medium = wrap(SMALL)
    again = media.from_dict(medium.to_dict())
    assert repr(again) == repr(medium)
    assert repr(SMALL) in repr(medium)
    np.testing.assert_array_equal(again.block(ALL, ALL, 7), medium.block(ALL, ALL, 7))


@every_effect
def test_fresh_media_are_independent(wrap):
    """But the unscattered light: same shape, another matrix. Catches: `fresh` that keeps the medium inside."""
    medium = wrap(SMALL)
    other = medium.fresh(5)
    assert type(other) is type(medium)
    assert (other.shape, other.modes) == (medium.shape, medium.modes)
    assert not np.any(other.block(ALL, ALL) == medium.block(ALL, ALL))
    np.testing.assert_array_equal(medium.fresh(5).block(ALL, ALL), other.block(ALL, ALL))


@pytest.mark.parametrize("name", ["nested", "drifting"])
def test_effects_of_effects_on_another_library(name):
    """The same fields on array_api_strict's second device, to rounding. Catches: a constant left on the host."""
    medium = EFFECTS[name](SMALL)
    for way, width in (("propagate", medium.shape[1]), ("adjoint", medium.shape[0])):
        for batch, kind in ((0, "float32"), (3, "float32"), (3, "complex64")):
            x, ticks = np.random.default_rng(0).normal(size=(batch, width)).astype(kind), np.arange(batch)
            here = getattr(medium, way)(x, ticks)
            there = getattr(medium, way)(strict.asarray(x, device=strict.Device("device1")), ticks)
            assert there.dtype == strict.complex64
            assert there.device == strict.Device("device1")
            assert there.shape == here.shape
            np.testing.assert_allclose(to_host(there), here, atol=3e-6 * np.abs(here).max(initial=0))
