"""Parameters of a camera, and the figures that follow from them."""

import math

import numpy as np
from pydantic import ValidationInfo, field_validator

from photonics.component import Field, Seed, component
from photonics.parts.chip.maps import encode_map, read_map

__all__ = ["DOUBLING_K", "MAPS", "CameraParameters"]

MAPS = ("offset_map", "gain_map", "bad_pixel_map")
"""Parameters that are maps of the chip."""
MAP_RANGES = {"offset_map": (-65535.0, 65535.0), "gain_map": (0.5, 2.0), "bad_pixel_map": (0.0, 65535.0)}
"""Range of the entries of each map."""
DOUBLING_K = 8.0
"""Warming that doubles the dark current, kelvin."""


@component
class CameraParameters:
    """Data sheet of a camera."""

    bit_depth: int = Field(default=8, ge=1, le=16)
    """Bits per pixel; frames are uint8 up to 8 bits, uint16 above (generic CMOS)."""

    quantum_efficiency: float = Field(default=0.6, gt=0, le=1)
    """Mean electrons per photon (generic CMOS at 532 nm)."""

    full_well_e: float = Field(default=10_000.0, gt=0)
    """Electrons at which a pixel saturates (generic CMOS, 5.5 um pixel)."""

    gain_dn_per_e: float | None = Field(default=None, gt=0)
    """Overall system gain K, DN per electron; None maps the full well onto the last code (see `gain`)."""

    offset_dn: float | None = Field(default=None, ge=0)
    """Level of a dark pixel, DN; None takes 1/128 of the range, 2 DN at 8 bits (see `offset`)."""

    read_noise_e: float = Field(default=2.5, ge=0)
    """Temporal read noise, electrons rms (generic CMOS)."""

    dark_current_e_per_s: float = Field(default=15.0, ge=0)
    """Mean dark current at the reference temperature, electrons per second (generic CMOS)."""

    warming_k: float = Field(default=0.0, ge=-60, le=60)
    """Sensor temperature above that of `dark_current_e_per_s`, kelvin; the current doubles every 8 K."""

    prnu: float = Field(default=0.01, ge=0, le=0.2)
    """Photo-response non-uniformity, relative standard deviation over pixels (1 %)."""

    dsnu_e: float = Field(default=1.0, ge=0)
    """Dark-signal non-uniformity, electrons standard deviation over pixels (1 to 2 e-)."""

    dead_pixels: float = Field(default=0.0, ge=0, le=1)
    """Share of pixels that do not respond to light (0; a good sensor has 1e-5 or fewer, an estimate: EMVA 1288 leaves
    the definition of a defect pixel to the user). They show dark current, DSNU and read noise only."""

    hot_pixels: float = Field(default=0.0, ge=0, le=1)
    """Share of hot pixels, with more dark current (0; EMVA 1288 leaves the definition to the user)."""

    hot_current_e_per_s: float = Field(default=5000.0, ge=0)
    """Mean of the further dark current of hot pixels, electrons per second, of an exponential law (an estimate: the
    tail of a histogram of dark current is a straight line in EMVA 1288's logarithmic plots). It doubles every 8 K."""

    row_noise_e: float = Field(default=0.0, ge=0)
    """Temporal noise that the pixels of a row have in common, electrons rms (0; row drivers and references)."""

    column_noise_e: float = Field(default=0.0, ge=0)
    """Temporal noise that the pixels of a column have in common, electrons rms (0; amplifiers of columns)."""

    row_dsnu_e: float = Field(default=0.0, ge=0)
    """Fixed offset of rows, electrons standard deviation over rows (0; DSNU of rows in EMVA 1288 release 4.0)."""

    column_dsnu_e: float = Field(default=0.0, ge=0)
    """Fixed offset of columns, electrons standard deviation (0; DSNU of columns in EMVA 1288 release 4.0)."""

    nonlinearity: float = Field(default=0.0, gt=-0.5, le=0.5)
    """Relative deviation from a straight line at the full well, ``a`` in ``e + a e^2 / full_well_e``; negative where
    the response bends down (0; EMVA 1288's linearity error of this curve is ``0.15 |a|``)."""

    offset_map: str | None = None
    """Offset of each pixel of the chip, DN, added to `offset_dn` (none): an array (rows, columns), or its file (npy,
    npz, HDF5, MATLAB, TIFF, PNG). The content becomes part of the description."""

    gain_map: str | None = None
    """Gain of each pixel over `gain`, 0.5 to 2 (none), as `offset_map`. It scales light and noise alike."""

    bad_pixel_map: str | None = None
    """Pixels that do not respond to light, besides `dead_pixels`: not 0 where a pixel is bad (none); as
    `offset_map`."""

    binning: int = Field(default=1, ge=1, le=8)
    """Side of the square of pixels whose charges are added before they are read (1): one reading with one read noise,
    and the full well is that of the sum."""

    frame_rate_hz: float = Field(default=1000.0, gt=0, le=1e6)
    """Highest frame rate, Hz (such a CMOS with a region of interest); the slower of camera and mirrors counts."""

    seed: Seed = 0
    """Identity of the sensor: seed of PRNU, DSNU and dead pixels, and with the seed of the run that of the noise."""

    @field_validator(*MAPS, mode="before")
    @classmethod
    def _encode_map(cls, value: object, info: ValidationInfo) -> str | None:
        name = str(info.field_name)
        return encode_map(value, name, *MAP_RANGES[name])

    def __post_init__(self) -> None:
        if self.offset >= self.top:
            raise ValueError(f"offset_dn must be under the last code {self.top}, got {self.offset_dn}")

    @property
    def top(self) -> int:
        """Largest digital number, ``2**bit_depth - 1``."""
        return 2**self.bit_depth - 1

    @property
    def offset(self) -> float:
        """Offset in use, DN: `offset_dn`, or 1/128 of the range."""
        return 2.0**self.bit_depth / 128.0 if self.offset_dn is None else self.offset_dn

    @property
    def gain(self) -> float:
        """Gain in use, DN per electron: `gain_dn_per_e`, or the gain that maps the full well onto the last code."""
        if self.gain_dn_per_e is not None:
            return self.gain_dn_per_e
        return (self.top - self.offset) / self.full_well_e

    @property
    def saturation_dn(self) -> int:
        """Digital number of a saturated pixel: that of a full well or the last code, whichever is lower.

        With maps it is that of the pixel which saturates first.
        """
        well, offset = self.gain * self.full_well_e, self.offset
        if not self.is_detailed:
            return int(min(self.top, round(well + offset)))
        gain = 1.0 if self.gain_map is None else read_map(self.gain_map)
        more = 0.0 if self.offset_map is None else read_map(self.offset_map)
        return int(min(self.top, np.min(np.rint(well * (1.0 + self.nonlinearity) * gain + offset + more))))

    @property
    def is_detailed(self) -> bool:
        """Whether the camera has a map, hot pixels, patterns of rows or columns, a curved response, or bins pixels."""
        lines = (self.row_noise_e, self.column_noise_e, self.row_dsnu_e, self.column_dsnu_e)
        if any(lines) or self.hot_pixels or self.nonlinearity or self.binning > 1:
            return True
        return any(getattr(self, name) is not None for name in MAPS)

    @property
    def mapped_pixels(self) -> int | None:
        """Number of pixels in a frame of the whole chip, by a map; None if there is no map."""
        texts = [text for name in MAPS if (text := getattr(self, name)) is not None]
        return read_map(texts[0]).size // self.binning**2 if texts else None

    @property
    def dead_share(self) -> float:
        """Expected share of pixels that do not respond to light, by `dead_pixels` and `bad_pixel_map`."""
        mapped = 0.0 if self.bad_pixel_map is None else float(np.mean(read_map(self.bad_pixel_map) != 0))
        return 1.0 - (1.0 - self.dead_pixels) * (1.0 - mapped)

    def hot_share(self, electrons: float, exposure_s: float) -> float:
        """Expected share of pixels whose current as hot pixels gives over so many electrons in an exposure."""
        mean = self.hot_current_e_per_s * 2.0 ** (self.warming_k / DOUBLING_K) * exposure_s
        single = self.hot_pixels * math.exp(-electrons / mean) if mean else 0.0
        return 1.0 - (1.0 - single) ** self.binning**2

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Type of the frames: uint8 up to 8 bits, uint16 above."""
        return np.uint8 if self.bit_depth <= 8 else np.uint16

    def dark_electrons(self, exposure_s: float) -> float:
        """Mean dark electrons of a reading in an exposure, ``mu_I t`` of each binned pixel, without hot ones."""
        return self.binning**2 * self.dark_current_e_per_s * 2.0 ** (self.warming_k / DOUBLING_K) * exposure_s

    @property
    def reading_noise_e(self) -> float:
        """Temporal noise of a reading with that of its row and column, electrons rms."""
        return float(np.sqrt(self.read_noise_e**2 + self.row_noise_e**2 + self.column_noise_e**2))

    @property
    def response_spread(self) -> float:
        """Relative standard deviation of the response over readings, by PRNU and the gain map."""
        of_map = (
            0.0 if self.gain_map is None else float(np.std(read_map(self.gain_map)) / read_map(self.gain_map).mean())
        )
        return float(np.hypot(self.prnu, of_map)) / self.binning

    @property
    def offset_spread_e(self) -> float:
        """Standard deviation of the dark level over readings, electrons, by DSNU of pixels and lines and the map."""
        lines = self.binning**3 * (self.row_dsnu_e**2 + self.column_dsnu_e**2)
        of_map = 0.0 if self.offset_map is None else float(np.std(read_map(self.offset_map))) / self.gain
        return float(np.sqrt((self.binning * self.dsnu_e) ** 2 + lines + (of_map / self.binning) ** 2))
