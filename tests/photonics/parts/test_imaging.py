"""From the field behind the medium to a photon rate on each pixel."""

import array_api_strict
import numpy as np
import pytest

from photonics import GaussianMedium, Imaging
from photonics.backend import HOST, Backend, to_host

STRICT = Backend(array_api_strict, array_api_strict.Device("device1"))
WAVELENGTH_M = 532e-9

CASES = {
    "plain": (Imaging(), 1, False),
    "modes": (Imaging(polarisations=2), 2, False),
    "region": (Imaging(sensor=(9, 14), region=(2, 5, 3, 7)), 1, False),
    "reference": (Imaging(), 1, True),
    "pupil": (Imaging(numerical_aperture=0.03), 1, False),
    "square-pupil": (Imaging(numerical_aperture=0.03, pupil="square", samples=1, sensor=(21, 6)), 1, False),
    "everything": (Imaging(numerical_aperture=0.1, samples=3, sensor=(14, 9), region=(1, 12, 0, 5)), 3, True),
}
every_case = pytest.mark.parametrize(("optic", "modes", "arm"), CASES.values(), ids=CASES)


def fields(optic, modes, arm, batch=13, pixels=126, seed=0):
    """Speckle, and a reference or None, for a sensor of so many pixels."""
    rng = np.random.default_rng(seed)
    n = pixels * optic.samples_per_pixel**2
    speckle = rng.normal(size=(batch, 2 * modes * n)).astype(np.float32).view(np.complex64)
    return speckle, rng.normal(size=(batch, 2 * n)).astype(np.float32).view(np.complex64) if arm else None


def spelled_out(optic, speckle, modes, reference):
    """Reference implementation of the equations in complex128, for 5 inputs."""
    k, batch = optic.samples_per_pixel, len(speckle)
    rows, columns = optic.layout(speckle.shape[1], modes)
    field = speckle.astype(np.complex128).reshape(batch, modes, rows, columns)
    if optic.numerical_aperture is not None:
        field = np.fft.ifft2(np.fft.fft2(field) * optic.filter((rows, columns), WAVELENGTH_M, HOST))
    if reference is not None:
        field[:, 0] += reference.reshape(-1, rows, columns)
    power = (np.abs(field) ** 2).sum(axis=1).reshape(batch, rows // k, k, columns // k, k).mean(axis=(2, 4))
    if optic.region is not None:
        row, height, column, width = optic.region
        power = power[:, row : row + height, column : column + width]
    return 5 * optic.throughput * power.reshape(batch, -1)


def test_intensity_is_throughput_times_field_squared(rng):
    """To float32, for any memory layout; field unchanged. Catches: |E|, a conjugate product, in-place squares."""
    field = (rng.normal(size=(7, 90)) + 1j * rng.normal(size=(7, 90))).astype(np.complex64)
    before = field.copy()
    for view in (field, field[:, ::2], np.asfortranarray(field), field[2:3], field[:0]):
        rate = Imaging(throughput=3e-4).intensity(view, n_in=1)
        assert rate.dtype == np.float32
        assert rate.shape == view.shape
        np.testing.assert_allclose(rate, 3e-4 * np.abs(view.astype(np.complex128)) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(field, before)


def test_photon_budget():
    """The mean pixel gets the throughput times all the light, within 4 SE. Catches: a missing factor n_in."""
    n_out, throughput = 20_000, 1e-3
    light = np.linspace(1, 3, 64, dtype=np.float32)[None]
    rate = Imaging(throughput=throughput).intensity(GaussianMedium(64, n_out).propagate(light), n_in=64)
    expected = throughput * (light**2).sum()
    assert abs(rate.mean() / expected - 1) < 4 / np.sqrt(n_out)


@every_case
def test_path_is_the_equations(optic, modes, arm):
    """Against complex128, 3e-6 of the brightest pixel; inputs untouched, strided or empty ones taken.

    Catches: a reference on each mode, pixels binned across rows, a crop of samples for pixels, throughput twice.
    """
    speckle, reference = fields(optic, modes, arm)
    before = speckle.copy()
    rate = optic.intensity(speckle, n_in=5, modes=modes, reference=reference)
    assert rate.dtype == np.float32
    assert rate.shape == (13, optic.pixels(speckle.shape[1], modes))
    exact = spelled_out(optic, speckle, modes, reference)
    assert np.abs(rate - exact).max() < 3e-6 * exact.max()
    np.testing.assert_array_equal(speckle, before)
    np.testing.assert_array_equal(
        optic.intensity(np.asfortranarray(speckle), n_in=5, modes=modes, reference=reference), rate
    )
    none = optic.intensity(speckle[:0], n_in=5, modes=modes, reference=None if reference is None else reference[:0])
    assert none.shape == (0, rate.shape[1])


@every_case
def test_batch_split_is_bit_identical(optic, modes, arm, set_threads):
    """Any split, order and number of threads. Catches: blocks of frames that share a sum, an FFT across the batch."""
    speckle, reference = fields(optic, modes, arm, batch=2500)  # several blocks of the host
    set_threads(1)
    whole = optic.intensity(speckle, n_in=5, modes=modes, reference=reference)
    set_threads(2)
    np.testing.assert_array_equal(optic.intensity(speckle, n_in=5, modes=modes, reference=reference), whole)
    for part in (slice(0, 1), slice(1, 3), slice(3, 8), slice(777, 1500), np.arange(20)[::-3]):
        arm_part = None if reference is None else reference[part]
        np.testing.assert_array_equal(
            optic.intensity(speckle[part], n_in=5, modes=modes, reference=arm_part), whole[part]
        )


@every_case
def test_other_libraries(optic, modes, arm):
    """Equal to numpy in float32, on a device that numpy cannot reach. Catches: numpy functions, a trip to the host."""
    speckle, reference = fields(optic, modes, arm)
    there = optic.intensity(
        STRICT.asarray(speckle), n_in=5, modes=modes, reference=None if reference is None else STRICT.asarray(reference)
    )
    assert there.device == STRICT.device
    assert there.dtype == array_api_strict.float32
    here = optic.intensity(speckle, n_in=5, modes=modes, reference=reference)
    assert np.abs(to_host(there) - here).max() < 3e-6 * here.max()


def test_one_reference_serves_all_frames():
    """(1, n) is the same as (batch, n) of it. Catches: a slice of the one row in the second block."""
    optic, speckle = Imaging(numerical_aperture=0.03), fields(Imaging(numerical_aperture=0.03), 1, False, 900)[0]
    beam = np.exp(1j * np.arange(speckle.shape[1])).astype(np.complex64)[None]
    repeated = np.repeat(beam, 900, axis=0)
    np.testing.assert_array_equal(
        optic.intensity(speckle, n_in=1, reference=beam), optic.intensity(speckle, n_in=1, reference=repeated)
    )


def test_reference_interferes_with_one_mode():
    """Fringes on the first mode, a pedestal from the second. Catches: a reference on the sum of the modes."""
    first, second = np.array([[1.0, 2.0]], np.complex64), np.array([[3.0, 1j]], np.complex64)
    beam = np.array([[2.0, 1j]], np.complex64)
    rate = Imaging(throughput=1.0).intensity(np.concatenate([first, second], axis=1), n_in=1, modes=2, reference=beam)
    np.testing.assert_allclose(rate, [[9.0 + 9.0, 5.0 + 1.0]], rtol=1e-6)


def test_two_polarisations_halve_the_variance():
    """(check) Contrast 1/sqrt(2) within 4 SE of the variance. Catches: fields added instead of intensities."""
    speckle, _ = fields(Imaging(), 2, False, batch=200, pixels=500)
    rate = Imaging(throughput=0.25).intensity(speckle, n_in=1, modes=2).astype(np.float64)  # mean 1
    n = rate.size  # var of (I - 1)^2 for the mean of two exponentials: mu_4 - mu_2^2 = 1.5 - 0.25
    assert abs(((rate - 1.0) ** 2).mean() - 0.5) < 4 * np.sqrt(1.25 / n)
    assert Imaging().contrast(modes=2) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("na", [None, 0.03])
def test_region_is_a_crop(na):
    """Bit for bit what the whole frame shows there. Catches: a pupil that sees the region only, rows for columns."""
    whole = Imaging(numerical_aperture=na, sensor=(11, 17))
    part = Imaging(numerical_aperture=na, sensor=(11, 17), region=(3, 4, 5, 12))
    speckle, _ = fields(whole, 1, False, pixels=187)
    full = whole.intensity(speckle, n_in=1).reshape(-1, 11, 17)
    np.testing.assert_array_equal(part.intensity(speckle, n_in=1).reshape(-1, 4, 12), full[:, 3:7, 5:17])
    assert part.frame(speckle.shape[1]) == (4, 12)


@pytest.mark.parametrize(
    ("optic", "n_field", "modes", "layout", "pixels"),
    [
        (Imaging(), 1000, 1, (25, 40), 1000),
        (Imaging(), 1024, 1, (32, 32), 1024),
        (Imaging(), 13, 1, (1, 13), 13),
        (Imaging(samples=5), 2000, 2, (25, 40), 1000),
        (Imaging(numerical_aperture=0.1), 4000, 1, (50, 80), 1000),
        (Imaging(numerical_aperture=0.1, samples=3), 18000, 2, (75, 120), 1000),
        (Imaging(sensor=(10, 100), region=(0, 10, 98, 2)), 1000, 1, (10, 100), 20),
    ],
)
def test_layout(optic, n_field, modes, layout, pixels):
    """Near-square, samples only with a pupil, modes not on the sensor. Catches: modes or samples counted as pixels."""
    assert optic.layout(n_field, modes) == layout
    assert optic.pixels(n_field, modes) == pixels


@pytest.mark.parametrize(
    ("optic", "n_field", "modes", "says"),
    [
        (Imaging(numerical_aperture=0.09), 1001, 1, r"n_out of the medium must be a multiple of 4 \(1 modes x 2"),
        (Imaging(numerical_aperture=0.09), 1004, 2, r"multiple of 8 .*, got 1004"),
        (Imaging(), 0, 1, "multiple of 1 .*, got 0"),
        (Imaging(), 7, 2, "multiple of 2 .*, got 7"),
        (Imaging(sensor=(4, 5)), 21, 1, r"sensor of 4 x 5 pixels must have 21, .*, got 20"),
        (Imaging(sensor=(4, 5), region=(1, 4, 0, 5)), 20, 1, r"region must lie on the sensor of 4 x 5 .* rows 1 to 4"),
        (Imaging(region=(0, 4, 2, 4)), 20, 1, r"region must lie on .* columns 2 to 5"),
    ],
)
def test_fields_that_do_not_fit(optic, n_field, modes, says):
    """One line that states what would fit. Catches: pixels rounded down, a region that is silently shorter."""
    speckle = np.ones((1, n_field), np.complex64)
    for call in (optic.pixels, lambda n, m: optic.intensity(speckle, n_in=1, modes=m, reference=speckle)):
        with pytest.raises(ValueError, match=says) as error:
            call(n_field, modes)
        assert "\n" not in str(error.value)


def test_grains_smaller_than_a_sample_are_refused():
    """At one grain per sample they pass. Catches: a pupil cut off by the grid; the diameter taken for the radius."""
    optic = Imaging(numerical_aperture=0.2)
    with pytest.raises(ValueError, match=r"^samples must be 5 or more, .*, got 2$"):
        optic.intensity(np.ones((1, 16), np.complex64), n_in=1)
    optic.intensity(np.ones((1, 16), np.complex64), n_in=1, wavelength_m=1.1e-6)
    Imaging().check_samples(WAVELENGTH_M)


def test_bad_reference():
    """Shape and library are checked. Catches: a broadcast over pixels, a silent copy to the host."""
    speckle = np.ones((3, 8), np.complex64)
    for shape in ((2, 8), (3, 4), (8,), (3, 1)):
        with pytest.raises(ValueError, match=r"^reference must have shape \(3, 8\) or \(1, 8\), got"):
            Imaging().intensity(speckle, n_in=1, reference=np.ones(shape, np.complex64))
    with pytest.raises(ValueError, match=r"^reference must be a numpy array"):
        Imaging().intensity(speckle, n_in=1, reference=STRICT.asarray(speckle))


@pytest.mark.parametrize("bad", [4, (0, 3), (2.5, 2), (True, 3), (1, 2, 3)])
def test_bad_sensor(bad):
    with pytest.raises(ValueError, match=r"^Imaging: sensor must be None or integers \(rows, columns\), .*, got"):
        Imaging(sensor=bad)


@pytest.mark.parametrize("bad", ["much", (0, 1, 0), (-1, 1, 0, 1), (0, 0, 0, 1), (0, 1, 0, 1.0)])
def test_bad_region(bad):
    with pytest.raises(ValueError, match=r"^Imaging: region must be None or integers \(first row, rows,.*, got"):
        Imaging(region=bad)


def test_lists_and_numpy_integers_are_accepted():
    """They become tuples of int, so that the part remains hashable. Catches: a list that is kept."""
    optic = Imaging(sensor=[3, np.int64(4)], region=np.arange(4).clip(1).tolist())
    assert optic == Imaging(sensor=(3, 4), region=(1, 1, 2, 3))
    assert type(optic.sensor[1]) is int
    assert isinstance(hash(optic), int)
