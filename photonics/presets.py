"""Named devices. Each figure has its source beside it; what has none is said to be an estimate."""

from collections.abc import Callable
from dataclasses import replace

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
    """A device without flaws but the rounding of a 16-bit camera.

    The well is so deep (1e10 electrons) that shot noise is under 1e-4 of the mean signal for up to 10 000 inputs; no
    read noise, dark current, non-uniformity, leakage or laser noise; a flat-topped beam. Random half-ON patterns sit at
    10 % of the range. Its electrical power is that of `lab_bench`, without the 100 W of light: a device without flaws
    has no bench.
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
        imaging=Imaging(throughput=3.2e-4),
        camera=camera,
        seed=seed,
        exposure_s=5e-4,
        electrical_power_w=40.0,
        power_source="that of lab_bench: a device without flaws has no bench; its 100 W of light are not counted",
    )


def lab_bench(n_in: int, n_out: int, seed: int = 0) -> OPU:
    """A university bench: 100 mW DPSS laser, 0.7" XGA mirrors, an 8-bit CMOS camera, 1000 frames per second.

    Parts are the defaults of their classes, with the sources given there. The frame rate is that of such a camera
    on a region of interest; the exposure puts random half-ON patterns of up to 1000 inputs at 10 to 11 % of the range,
    as `OPU.autoexpose` does (a beam's edge lights the outer inputs of larger ones less: 5.5 % at 10 000). Electrical
    power 40 W is an estimate (laser driver 20 W, mirrors 15 W, camera 5 W), good to a factor of 2.
    """
    return OPU(
        laser=Laser(),
        dmd=fit(DMD(seed=seed), n_in),
        medium=GaussianMedium(n_in, n_out, seed=seed, storage="auto"),
        imaging=Imaging(),
        camera=Camera(seed=seed),
        seed=seed,
        exposure_s=4.4e-4,
        electrical_power_w=40.0,
        power_source="estimate: laser driver 20 W, mirrors 15 W, camera 5 W; good to a factor of 2",
    )


def lighton_aurora(n_in: int, n_out: int, seed: int = 0) -> OPU:
    """The commercial co-processor, as far as it is public.

    1140 x 912 mirrors, 2040 x 1088 pixels of 8 bits, 500 us per frame of which 400 us are exposed (LightOn's own
    simulated device, lightonml); under 30 W (arXiv:2409.12965). Pitch 7.637 um is that of the 0.45" WXGA chip of this
    format. Laser and camera noise are not public: those of `lab_bench`, with the largest macropixel that fits. Nor is
    the throughput: 3e-7 puts random half-ON patterns of up to 1000 inputs at 10 to 11 % of the range (4 % at 10 000).
    The chip's blaze sends 0.77 of the light into the used order, that of `lab_bench` 0.31.
    """
    integer(n_out, "n_out", 1, 2040 * 1088)
    dmd = DMD(columns=1140, rows=912, pitch_m=7.637e-6, macropixel=14, seed=seed)
    return OPU(
        laser=Laser(),
        dmd=fit(dmd, n_in),
        medium=GaussianMedium(n_in, n_out, seed=seed, storage="auto"),
        imaging=Imaging(throughput=3e-7),
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
        If there is none.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {name!r}")
    return PRESETS[name]


def is_file(device: str) -> bool:
    """Whether a device is named by its TOML file rather than as a preset."""
    return device.endswith(".toml")


def load(device: str, n_in: int, n_out: int, seed: int = 0) -> OPU:
    """Make a device from what a command line names: a preset of that size, exposed; or a TOML file, taken as it is.

    Raises
    ------
    ValueError
        If there is no such preset, or the file does not describe a device.
    """
    if is_file(device):
        return OPU.from_toml(device)
    opu = get(device)(n_in, n_out, seed=seed)
    opu.autoexpose()
    return opu
