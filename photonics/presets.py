"""Named devices; each value has a source or is marked as an estimate.

A preset is a bench built for its number of inputs: `Imaging.throughput` is proportional to ``1 / n_in``, so that all
inputs ON give the same frames at any size. A preset for more inputs has a dimmer light path, by design; a medium of
another size in the same bench (`OPU.replace`) has other frames, as it would have there.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from photonics.component import integer
from photonics.medium import GaussianMedium
from photonics.opu import OPU
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser

__all__ = ["PRESETS", "get", "ideal", "is_file", "lab_bench", "lighton_aurora", "load"]


def fit(dmd: DMD, n_in: int) -> DMD:
    """Return the chip with the largest macropixel, up to its own, at which `n_in` inputs fit."""
    n_in = integer(n_in, "n_in", 1)
    for side in range(dmd.macropixel, 1, -1):
        if n_in <= (dmd.rows // side) * (dmd.columns // side):
            return replace(dmd, macropixel=side)
    return replace(dmd, macropixel=1)


def ideal(n_in: int, n_out: int, seed: int = 0) -> OPU:
    """A device without noise or errors apart from the rounding of a 16-bit camera.

    The well is so deep (1e10 electrons) that shot noise is less than 1e-4 of the mean signal for up to 10 000 inputs.
    There is no read noise, dark current, non-uniformity, leakage or laser noise, and the beam is uniform. The mean of
    random half-ON patterns is 10 % of the range, with a throughput of ``3.2e-4 / n_in``. The electrical power is that
    of `lab_bench`, because no such bench exists; the 100 W of light are not included.
    """
    camera = Camera(
        bit_depth=16,
        quantum_efficiency=1.0,
        full_well_e=1e10,
        read_noise_e=0.0,
        dark_current_e_per_s=0.0,
        prnu=0.0,
        dsnu_e=0.0,
        seed=seed,
    )
    return OPU(
        laser=Laser(power_w=100.0, beam_radius_m=None, rin_db_per_hz=None, drift_rms=0.0),
        dmd=fit(DMD(contrast=None, seed=seed), n_in),
        medium=GaussianMedium(n_in, n_out, seed=seed, storage="auto"),
        imaging=Imaging(throughput=3.2e-4 / n_in),
        camera=camera,
        seed=seed,
        exposure_s=5e-4,
        electrical_power_w=40.0,
        power_source="that of lab_bench, since no ideal bench exists; its 100 W of light are not included",
    )


def lab_bench(n_in: int, n_out: int, seed: int = 0) -> OPU:
    """A university bench: 100 mW DPSS laser, 0.7" XGA mirrors, an 8-bit CMOS camera, 1000 frames per second.

    All parts have the defaults of their classes, with the sources given there. The frame rate is that of such a camera
    with a region of interest. The throughput is ``6.4e-7 / n_in``, the default of `Imaging` at 256 inputs, so that all
    inputs ON fill the well in 2 ms. At this exposure the mean of random half-ON patterns is 10 to 11 % of the range for
    up to 1000 inputs, as `OPU.autoexpose` sets it, and 5.5 % for 10 000 inputs, where the edge of the beam lights the
    outer inputs less. The electrical power of 40 W is an estimate (laser driver 20 W, mirrors 15 W, camera 5 W), right
    to a factor of 2.
    """
    return OPU(
        laser=Laser(),
        dmd=fit(DMD(seed=seed), n_in),
        medium=GaussianMedium(n_in, n_out, seed=seed, storage="auto"),
        imaging=Imaging(throughput=6.4e-7 / n_in),
        camera=Camera(seed=seed),
        seed=seed,
        exposure_s=4.4e-4,
        electrical_power_w=40.0,
        power_source="estimate: laser driver 20 W, mirrors 15 W, camera 5 W; right to a factor of 2",
    )


def lighton_aurora(n_in: int, n_out: int, seed: int = 0) -> OPU:
    """The commercial co-processor, from its published values.

    It has 1140 x 912 mirrors, 2040 x 1088 pixels of 8 bits, and 500 us per frame with an exposure of 400 us (LightOn's
    own simulated device, lightonml), and draws less than 30 W (arXiv:2409.12965). The pitch of 7.637 um is that of the
    0.45" WXGA chip of this format, with the largest macropixel that fits. Laser and camera noise are not public and are
    those of `lab_bench`. The throughput is not public either; with ``3e-7 / n_in`` the mean of random half-ON
    patterns is 10 to 11 % of the range for up to 1000 inputs (4 % for 10 000). The blaze of the chip sends 0.77 of the
    light into the used order, that of `lab_bench` 0.31.
    """
    integer(n_out, "n_out", 1, 2040 * 1088)
    dmd = DMD(columns=1140, rows=912, pitch_m=7.637e-6, macropixel=14, seed=seed)
    return OPU(
        laser=Laser(),
        dmd=fit(dmd, n_in),
        medium=GaussianMedium(n_in, n_out, seed=seed, storage="auto"),
        imaging=Imaging(throughput=3e-7 / n_in),
        camera=Camera(frame_rate_hz=2000.0, seed=seed),
        seed=seed,
        exposure_s=4e-4,
        electrical_power_w=30.0,
        power_source="under 30 watts: Wang et al., arXiv:2409.12965v2, abstract; an upper bound",
    )


PRESETS: dict[str, Callable[..., OPU]] = {
    "ideal": ideal,
    "lab_bench": lab_bench,
    "lighton_aurora": lighton_aurora,
}


def get(name: str) -> Callable[..., OPU]:
    """Return the preset of that name.

    Raises
    ------
    ValueError
        If there is no preset of that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(
            f"preset must be one of {', '.join(PRESETS)}, or the path of a file that ends in .toml, got {name!r}"
        )
    return PRESETS[name]


def is_file(device: str) -> bool:
    """Whether `device` names a TOML file rather than a preset."""
    return device.lower().endswith(".toml")


def load(
    device: str,
    n_in: int,
    n_out: int,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    expose: bool = True,
) -> OPU:
    """Build a preset of the given size and set its exposure, or read a device from a TOML file with its own.

    `changes` are parameters by dotted name, as for `OPU.replace`; an exposure among them is kept. Without `expose`, a
    preset keeps the exposure that it states.

    Raises
    ------
    ValueError
        If there is no such preset, the file does not describe a device, or a change is unknown or out of range.
    """
    changes = dict(changes or {})
    if is_file(device):
        return OPU.from_toml(device).replace(**changes)
    opu = get(device)(n_in, n_out, seed=seed).replace(**changes)
    if expose and "exposure_s" not in changes:
        opu.autoexpose()
    return opu
