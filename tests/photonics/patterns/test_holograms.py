"""Complex fields on binary mirrors: amplitudes, powers and fidelities of the Lee hologram and the superpixel."""

import math

import array_api_strict as strict
import numpy as np
import pytest
from scipy.spatial import KDTree

from photonics.patterns.holograms import LeeHologram, Superpixel, envelope, fidelity, superpixel_fields

HOLOGRAMS = [LeeHologram(), LeeHologram(order=-1), LeeHologram(period=5, aperture="square"), Superpixel()]
INSIDE = (slice(None), slice(64, -64), slice(64, -64))
"""The middle of nine equal images side by side, where the dark surround does not matter."""


def speckle(batch=2, side=128, pixel=4, spot=16.0, seed=0):
    """Speckle of a circular pupil whose Airy spot is `spot` mirrors, clipped at the 95th percentile of its amplitude.

    Shape (batch, side, side) at logical pixels of `pixel` mirrors; largest amplitude 1.
    """
    frequency = np.fft.fftfreq(side) * (2 * spot / pixel)
    white = np.random.default_rng(seed).normal(size=(batch, side, side, 2)) @ [1, 1j]
    field = np.fft.ifft2(white * (frequency[:, None] ** 2 + frequency[None, :] ** 2 <= 1))
    field = field / np.quantile(np.abs(field), 0.95)
    return field / np.maximum(1, np.abs(field))


def disc(count, seed=0, radius=1.0):
    """Complex numbers uniform over a disc, (count,)."""
    rng = np.random.default_rng(seed)
    return radius * np.sqrt(rng.random(count)) * np.exp(2j * math.pi * rng.random(count))


def period_of(hologram):
    return getattr(hologram, "period", 4)


def carrier_of(hologram, rows, columns):
    """Phase factor towards the order, written once more."""
    period, order = period_of(hologram), getattr(hologram, "order", 1)
    phase = 2 * math.pi * (period * np.arange(rows)[:, None] + np.arange(columns)[None, :] + 0.5) / period**2
    return np.exp(1j * order * phase)


def order_of(hologram, mirrors):
    """Order of an endless chip of the same mirrors again and again: their mean with the carrier, (batch,)."""
    mirrors = np.asarray(mirrors)
    return (mirrors * carrier_of(hologram, *mirrors.shape[1:])).mean((1, 2)) * envelope(period_of(hologram))


def through_4f(hologram, mirrors, samples=7, room=4):
    """Field at the centres of the mirrors behind a 4f filter: each mirror a square of `samples`^2 samples.

    The chip lies in `room` times as large a dark field. Only the sampling of the square is not exact: 0.2 %.
    """
    period, order = period_of(hologram), getattr(hologram, "order", 1)
    rows, columns = mirrors.shape
    fine = np.kron(mirrors, np.ones((samples, samples)))
    shape = room * samples * rows, room * samples * columns
    y, x = (np.fft.fftfreq(n)[:, None] * samples for n in shape)
    y, x = y + order / period, x.T + order / period**2
    distance = np.hypot(y, x) if hologram.aperture == "circle" else np.maximum(abs(x), abs(y))
    hole = np.clip((0.5 / hologram.spot - distance) * room * min(rows, columns) + 0.5, 0, 1)  # shares of bins
    field = np.fft.ifft2(np.fft.fft2(fine, shape) * hole)
    centres = field[samples // 2 :: samples, samples // 2 :: samples][:rows, :columns]
    return centres * carrier_of(hologram, rows, columns)


@pytest.mark.parametrize("hologram", [*HOLOGRAMS[1:3], LeeHologram(period=8)], ids=str)
def test_decode_is_a_4f_filter(hologram):
    """Mirrors of finite size, an aperture, a dark surround: the same field at every mirror within 2 % of the largest.

    Also at the edge of a chip that is bright on one side. The amplitudes agree within 0.3 %; the rest is the finer
    Fourier plane of the filter. Catches: the mirror's own envelope left out (0.90 of the amplitude at period 4), or
    taken at order 0; an image that wraps round from the bright edge to the dark one.
    """
    pixel = getattr(hologram, "pixel", 4)
    target = np.zeros((1, 120 // pixel, 80 // pixel), complex)
    target[:, :, : 40 // pixel] = disc(1)[0]
    mirrors = hologram.encode(target)
    found, expected = hologram.decode(mirrors, full=True)[0], through_4f(hologram, mirrors[0])
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert abs(np.vdot(expected, found) / np.vdot(expected, expected) - 1) < 0.003
    assert np.abs(found[:, -16:]).max() < 0.06 * np.abs(expected).max()


def test_efficiency_holds_the_envelope():
    """``(sin(pi q)/pi)^2 sinc^2(1/p) sinc^2(1/p^2)``: 0.0811 at period 4, 0.0961 at 8. Catches: point-like mirrors."""
    for period in (4, 8):
        side, across = math.pi / period, math.pi / period**2
        share = (math.sin(side) / side * math.sin(across) / across) ** 2
        assert abs(LeeHologram(period=period).efficiency / (share / math.pi**2) - 1) < 1e-12
    assert abs(LeeHologram().efficiency - 0.0811) < 1e-4 and abs(LeeHologram(period=8).efficiency - 0.0961) < 1e-4
    assert abs(Superpixel().efficiency - 0.0821) < 1e-4


@pytest.mark.parametrize(
    ("hologram", "make"), [*((h, np.asarray) for h in HOLOGRAMS), *((h, strict.asarray) for h in HOLOGRAMS[2:])]
)
def test_speckle_through_the_aperture(hologram, make):
    """Fidelity above 0.99 with 3 % of the power before the envelope, right amplitude and phase, at spots of 16 mirrors.

    The filter and the logical pixels take 3 % of the amplitude at the edge of the band. Catches: the order mirrored
    (field conjugated), the turn from one superpixel to the next forgotten, rows and columns of a superpixel swapped.
    """
    target = np.tile(speckle(side=64, spot=16.5), (1, 3, 3))
    mirrors = hologram.encode(make(target))
    assert np.asarray(mirrors).dtype == np.bool_ and mirrors.shape == (2, 768, 768)
    field = np.asarray(hologram.decode(mirrors))
    assert field.shape == target.shape
    target, field = target[INSIDE], field[INSIDE]
    assert np.asarray(fidelity(make(target), make(field))).min() > 0.99
    scale = np.vdot(target, field) / np.vdot(target, target)
    assert abs(scale / hologram.amplitude - 0.97) < 0.015
    power = (np.abs(np.asarray(hologram.decode(mirrors, full=True))[:, 256:-256, 256:-256]) ** 2).mean()
    assert 0.03 < power / envelope(period_of(hologram)) ** 2 < 0.0335


@pytest.mark.parametrize("hologram", [LeeHologram(spot=8), Superpixel(spot=8)], ids=str)
def test_smaller_spots_are_less_faithful(hologram):
    """0.98 at spots of 8 mirrors, as Goorden measured (their 0.98). Catches: an aperture twice as wide or narrow."""
    target = np.tile(speckle(side=64, spot=8), (1, 3, 3))
    assert 0.98 < fidelity(target[INSIDE], hologram.decode(hologram.encode(target))[INSIDE]).min() < 0.99


def test_lee_amplitude_is_that_of_the_duty_cycle():
    """Order 1 of a uniform target of amplitude ``sin(pi q)`` is ``sin(pi q)/pi`` times the mirror's envelope.

    With period 16 the 256 phases make the rounding of q at most 1/256, of the field 1/256. Catches: an ON arc of
    another width, ``cos(pi q) = 1 - 2 |f|^2`` among them; the order's amplitude halved.
    """
    lee = LeeHologram(period=16, pixel=1)
    duty = np.linspace(0, 0.5, 17)[:, None, None]
    mirrors = lee.encode(np.broadcast_to(np.sin(math.pi * duty) * np.exp(0.3j), (17, 32, 256)))
    assert np.abs(mirrors.mean((1, 2)) - duty[:, 0, 0]).max() <= 1 / 256
    field, duty = order_of(lee, mirrors) / envelope(16), duty[:, 0, 0]
    assert np.abs(field - np.sin(math.pi * duty) / math.pi * np.exp(0.3j)).max() <= 1 / 256
    assert abs((np.abs(field) ** 2).max() * envelope(16) ** 2 - lee.efficiency) < 1e-3


@pytest.mark.parametrize("period", [3, 4, 8])
def test_lee_rounding_error(period):
    """Rms ``pi / (sqrt(6) period^2)`` and at most ``pi / period^2``, in units of the target, over uniform targets.

    Tolerance 3 %: five standard errors of 4000 targets are 2.5 % for the rms, plus 0.5 % of curvature (12 % at
    period 3, whose arcs are coarse). Catches: a carrier along the columns only, with `period` phases and not
    ``period^2``; ``sqrt(12)``, the error of one end of the arc alone.
    """
    lee, target = LeeHologram(period=period, pixel=1), disc(4000)
    mirrors = lee.encode(np.broadcast_to(target[:, None, None], (4000, period, period)))
    error = np.abs(order_of(lee, mirrors) / lee.amplitude - target)
    assert error.max() <= math.pi / period**2 * (1.08 if period == 3 else 1.001)
    assert abs(math.sqrt((error**2).mean()) / lee.error - 1) < (0.12 if period == 3 else 0.03)


def subset_sums():
    """Sum of the 16 phases of a superpixel for each of the 2^16 sets of ON mirrors, by brute force."""
    phases = np.exp(2j * math.pi * (np.arange(16) + 0.5) / 16)
    return (np.arange(2**16)[:, None] >> np.arange(16) & 1) @ phases / 16


def test_superpixel_makes_6561_fields():
    """All 65536 mirror sets give 6561 fields, 1e-3 apart or more; the largest has 0.1026 of the power of points.

    Catches: a phase step of 1/8, a pair that adds 0 to 2, the amplitude of eight mirrors taken as 8/16.
    """
    unit = Superpixel()
    sums, fields = subset_sums(), superpixel_fields() * unit.amplitude / envelope(4)
    assert fields.shape == (6561,)
    tree = KDTree(np.stack((fields.real, fields.imag), axis=-1))
    assert tree.query(np.stack((fields.real, fields.imag), axis=-1), k=2)[0][:, 1].min() > 1e-3
    distance, which = tree.query(np.stack((sums.real, sums.imag), axis=-1))
    assert distance.max() < 1e-12 and np.unique(which).size == 6561
    assert abs(np.abs(sums).max() ** 2 * envelope(4) ** 2 - unit.efficiency) < 1e-12
    assert 0.1026 < np.abs(sums).max() ** 2 < 0.10264


def uniform_superpixels(targets):
    """Mirrors of a row of superpixels with the given targets, and the sum that each makes at the order."""
    unit = Superpixel()
    mirrors = unit.encode(targets[None, None, :])
    row, column = np.arange(4)[:, None], np.arange(mirrors.shape[2])[None, :]
    turned = mirrors[0] * np.exp(2j * math.pi * ((4 * row + column) % 16 + 0.5) / 16)
    return mirrors, turned.reshape(4, -1, 4).mean((0, 2)) * envelope(4) / unit.amplitude


def test_superpixel_picks_the_nearest_field():
    """Within a cell of the table of the nearest one; the errors that the docstring states, in any column.

    40000 targets: the rms is known to 0.5 %. Catches: the nearest of too coarse a table, real and imaginary part
    swapped, the table read a cell off.
    """
    target, fields = disc(40_000, seed=1), superpixel_fields()
    _, found = uniform_superpixels(target)
    best, _ = KDTree(np.stack((fields.real, fields.imag), axis=-1)).query(np.stack((target.real, target.imag), axis=-1))
    error = np.abs(found - target)
    assert np.all(error >= best - 1e-12) and (error - best).max() < 0.0056
    assert abs(math.sqrt((error**2).mean()) / Superpixel().error - 1) < 0.02
    inner = error[np.abs(target) <= 0.8]
    assert inner.max() < 0.041 and abs(math.sqrt((inner**2).mean()) - 0.0122) < 0.0003
    assert error.max() < 0.105


def test_superpixel_leaves_idle_pairs_off():
    """0 is all OFF, 1 has eight mirrors ON and is exact, and two opposite mirrors are never both ON.

    Catches: a pair that adds nothing shown both ON, which doubles the light in the other orders.
    """
    mirrors, found = uniform_superpixels(np.concatenate(([0, 1, 1j, -1], disc(2000))))
    sets = mirrors[0].reshape(4, -1, 4).transpose(1, 0, 2).reshape(-1, 16)
    np.testing.assert_array_equal(sets[:4].sum(1), [0, 8, 8, 8])
    assert np.abs(found[:4] - [0, 1, 1j, -1]).max() < 1e-12
    assert not np.any(sets[:, :8] & sets[:, 8:])


@pytest.mark.parametrize("hologram", HOLOGRAMS, ids=str)
def test_decoding_is_linear_and_keeps_one_order(hologram):
    """A plane wave of the carrier passes with the mirror's envelope, one two bandwidths beside it does not; sums add.

    In the middle of the chip: 2 % of the light of its edges gets there. Catches: the carrier of the other sign, an
    aperture centred on order 0, the imaginary part of the mirrors dropped.
    """
    period, side, middle = period_of(hologram), 400, (0, slice(150, 250), slice(150, 250))
    wave = carrier_of(hologram, side, side).conj()[None]
    beside = wave * np.exp(2j * math.pi * np.arange(side) / 8)
    passed, stopped = hologram.decode(wave, full=True), hologram.decode(beside, full=True)
    assert np.abs(passed[middle] / envelope(period) - 1).max() < 0.02
    assert np.abs(stopped[middle]).max() < 0.02
    both = hologram.decode(wave * 2j + beside, full=True)
    assert np.abs(both - 2j * passed - stopped).max() < 1e-12


def test_aperture_shapes():
    """Share of white light that passes: pi/4 of a square of side 1/spot, or all of it, times the envelope.

    Tolerance: bins on the rim, and light that falls beside the chip.

    Catches: the diameter taken for the radius, circle and square swapped.
    """
    impulse = np.zeros((1, 256, 256))
    impulse[0, 128, 128] = 1
    for aperture, area in (("circle", math.pi / 4), ("square", 1.0)):
        unit = Superpixel(spot=8, aperture=aperture)
        passed = (np.abs(unit.decode(impulse, full=True)) ** 2).sum()
        assert abs(passed / envelope(4) ** 2 - area / 64) < 0.08 * area / 64


def test_batch_split_changes_nothing():
    """Each image on its own gives the same mirrors and field. Catches: a normalisation over the batch."""
    target = speckle(batch=3, side=16) * np.array([1.0, 0.5, 0.1])[:, None, None]
    for hologram in HOLOGRAMS:
        whole = hologram.encode(target)
        parts = [hologram.encode(target[i : i + 1]) for i in range(3)]
        np.testing.assert_array_equal(whole, np.concatenate(parts))
        fields = np.concatenate([hologram.decode(part) for part in parts])
        assert np.abs(hologram.decode(whole) - fields).max() < 1e-14


def test_complex64_phases_are_allowed():
    """``|exp(i phi)|`` may exceed 1 by rounding. Catches: a limit of exactly 1, the root of a negative."""
    target = np.exp(1j * np.linspace(0, 7, 100, dtype=np.float32)).reshape(1, 10, 10)
    assert target.dtype == np.complex64 and np.abs(target).max() > 1
    for hologram in HOLOGRAMS:
        assert hologram.encode(target).any()


def test_fidelity():
    """1 for proportional fields, 0 for orthogonal ones, ``cos^2`` between. Catches: the square or conjugate missing."""
    a, b = np.array([[[1, 1j]]]), np.array([[[1, -1j]]])
    angle = 0.4
    mixed = math.cos(angle) * a + math.sin(angle) * b
    found = [fidelity(a, other)[0] for other in (3j * a, b, mixed)]
    assert np.abs(np.array(found) - [1, 0, math.cos(angle) ** 2]).max() < 1e-12


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ([[[0.5, np.nan]]], "be finite, got NaN"),
        ([[[1j * np.inf]]], "be finite, got NaN or inf"),
        ([[[1 + 1j]]], r"have \|field\| <= 1, got 1\.41"),
        ([[0.5]], r"have shape \(batch, rows, columns\), got \(1, 1\)"),
        ([[["a"]]], "be numbers, got dtype <U1"),
        ([[[1.0]], [[0.5, 1]]], "be an array, got rows of several lengths"),
    ],
)
def test_bad_targets_are_named(field, says):
    """One line with the argument, what is allowed, what came. Catches: NaN or an amplitude above 1 let through."""
    for hologram in HOLOGRAMS[2:]:
        with pytest.raises(ValueError, match=f"^field must {says}") as error:
            hologram.encode(field)
        assert "\n" not in str(error.value)


BAD_CALLS = [
    (lambda: LeeHologram(order=2), r"order must be -1 or 1, got 2$"),
    (lambda: LeeHologram(order=0), r"order must be -1 or 1, got 0$"),
    (lambda: LeeHologram(period=2), r"period must be greater than or equal to 3, got 2$"),
    (lambda: LeeHologram(period=20), r"spot must be at least the period, 20, to stop order 0, got 16\.0$"),
    (lambda: Superpixel(spot=3.9), r"spot must be greater than or equal to 4, got 3\.9$"),
    (lambda: Superpixel(aperture="slit"), r"aperture must be 'circle' or 'square', got 'slit'$"),
    (lambda: Superpixel(side=4), r"side is not a parameter; those are spot, aperture"),
    (lambda: Superpixel().decode(np.ones((1, 6, 8))), r"^shown must .* multiples of 4, got 6 x 8$"),
    (lambda: LeeHologram(pixel=3).decode(np.ones((1, 3, 8))), r"^shown must .* multiples of 3, got 3 x 8$"),
    (lambda: Superpixel().decode(np.ones((1, 0, 8))), r"^shown must .* multiples of 4, got 0 x 8$"),
    (lambda: Superpixel().decode(np.ones((8, 8))), r"^shown must have shape"),
    (lambda: fidelity(np.ones((1, 2, 2)), np.ones((1, 2, 3))), r"^field must have the target's shape"),
    (lambda: fidelity(np.ones((1, 2, 2)), np.zeros((1, 2, 2))), r"^field must not be zero"),
    (lambda: fidelity(np.zeros((1, 2, 2)), np.ones((1, 2, 2))), r"^target must not be zero"),
]


def test_bad_arguments_are_named():
    """As above, for parameters and mirrors. Catches: a bound removed, orders that overlap let through."""
    for call, says in BAD_CALLS:
        with pytest.raises(ValueError, match=says) as error:
            call()
        assert "\n" not in str(error.value)
