"""A recorded off-axis hologram, demodulated: ``python -m benchmarks.hologram_measured FILE`` from the root.

The file is ``examples/data/hologram_cell.npz`` of https://github.com/RI-imaging/qpretrieve (MIT licence): an HL60 cell
in a digital holographic microscope, 200 x 210 pixels of 8 bits, and a hologram without the cell (set-up of M.
Schuermann et al., Methods in Cell Biology 125, 143 (2015), doi:10.1016/bs.mcb.2014.10.016). The place of the fringes
is found in the frames. The noise is that of what neither light nor fringes explain; the phase noise that it gives is
compared with the scatter of the phase beside the cell.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from calibration.fields.sideband import Sideband, distance, wrapped_distance
from calibration.fields.sideband_place import find_sideband, mean_power
from photonics.arrays import FloatArray

DIM = 0.04
"""Radius around frequency 0 in which no fringes are searched, cycles per pixel."""


def sideband_of(frames: FloatArray, shape: tuple[int, int]) -> Sideband:
    """Sideband of holograms, (count, n_out), with the widest band that three equal discs allow."""
    power = mean_power(frames - frames.mean(axis=1, keepdims=True), shape, cropped=True)
    power[distance(shape, (0.0, 0.0)) < DIM] = 0.0
    row, column = np.unravel_index(int(power.argmax()), shape)
    peak = float(np.fft.fftfreq(shape[1])[column]), float(np.fft.fftfreq(shape[0])[row])
    center = find_sideband(power, DIM / 2.0, peak)
    band = wrapped_distance(center) / 3.0
    return Sideband.at(shape, center, band, band, samples=8, cropped=True)


def main() -> None:
    """Print place, noise and phase, and draw hologram and phase."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hologram_measured", description=__doc__)
    parser.add_argument("file", type=Path, help="hologram_cell.npz")
    parser.add_argument("--out", type=Path, default=Path("hologram.png"), help="picture")
    args = parser.parse_args()
    stored = np.load(args.file)
    holograms = np.stack([stored["data"], stored["bg_data"]]).astype(np.float32)
    shape, frames = holograms.shape[1:], holograms.reshape(2, -1)
    sideband = sideband_of(frames, shape)
    fields, lost = sideband.demodulate(frames), np.zeros(frames.shape, bool)
    left = sideband.residual(frames, lost).std(axis=1)
    error = np.sqrt(sideband.variance(np.square(left)[:, None] * np.ones_like(frames))) / np.abs(fields)
    phase = np.angle(fields[0] * fields[1].conj()).reshape(shape)
    phase -= np.median(phase)
    inside = sideband.depth.reshape(shape) >= 10
    flat = inside & (np.hypot(*(np.indices(shape) - np.array(shape)[:, None, None] / 2)) > 85)
    steps = (phase[:, 12:] - phase[:, :-12])[flat[:, 12:] & flat[:, :-12]] / np.sqrt(2.0)
    stated = float(np.sqrt(np.mean(np.square(error).sum(axis=0).reshape(shape)[flat])))
    scatter = 1.4826 * float(np.median(np.abs(steps - np.median(steps))))
    x, y = sideband.center
    print(f"fringes at {x:.3f}, {y:.3f} cycles per pixel; band {sideband.radius:.3f}; unexplained {left[0]:.2f} DN rms")
    print(f"scatter of the phase beside the cell {scatter:.3f} rad; by the noise {stated:.3f} rad")
    figure, (one, two) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    figure.colorbar(one.imshow(holograms[0], cmap="gray"), ax=one, label="reading, DN")
    figure.colorbar(
        two.imshow(np.where(inside, phase, np.nan), cmap="twilight"), ax=two, label="phase modulo 2 pi, rad"
    )
    one.set(title="recorded hologram", xlabel="column, pixels", ylabel="row, pixels")
    two.set(title="phase, less that without the cell", xlabel="column, pixels", ylabel="row, pixels")
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
