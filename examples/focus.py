"""Focus light through a scattering medium: recover its transmission matrix from frames, then shape the mirrors.

python examples/focus.py [figure.png]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from calibration import recover_transmission_matrix
from calibration.wavefront.focusing import Focus, binary_gain, focus
from photonics import presets


def main(path: str = "focus.png", n_in: int = 256, n_out: int = 1024) -> Focus:
    """Recover a matrix, focus on 16 pixels, and save a figure."""
    opu = presets.lab_bench(n_in, n_out, seed=1)
    usual = opu.autoexpose()
    # Frames with the reference beam are brighter: the recovery finds the exposure for them.
    estimate = recover_transmission_matrix(opu, "phase-stepping")
    opu.exposure_s = usual
    foci = focus(opu, estimate.matrix, valid=estimate.valid)

    rows, columns = opu.imaging.sensor_of(n_out)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    before = opu.measure(np.ones((1, n_in), bool))[0].reshape(rows, columns)
    shown = axes[0].imshow(before, cmap="magma", vmin=0, vmax=2**opu.camera.bit_depth - 1)
    figure.colorbar(shown, ax=axes[0], label="digital number (DN)")
    axes[0].set(title=f"Before: all mirrors ON, {usual * 1e6:.0f} µs", xlabel="pixel column", ylabel="pixel row")
    target = int(foci.targets[7])
    mask, after = foci.masks[7], opu.measure(foci.masks[7:8], foci.exposure_s)[0].reshape(rows, columns)
    side = int(np.sqrt(n_in))
    axes[1].imshow(mask.reshape(side, -1), cmap="gray")
    axes[1].set(title=f"Mask: {mask.sum()} of {n_in} inputs ON", xlabel="input column", ylabel="input row")
    shown = axes[2].imshow(after, cmap="magma", vmin=0)
    figure.colorbar(shown, ax=axes[2], label="digital number (DN)")
    axes[2].plot(target % columns, target // columns, "o", ms=16, mfc="none", color="#58c4dd")
    gain = f"{foci.enhancement.mean():.0f} ± {foci.enhancement.std() / 4:.0f} × mean, 16 foci"
    axes[2].set(title=f"After, {foci.exposure_s * 1e6:.0f} µs: {gain}", xlabel="pixel column", ylabel="pixel row")
    figure.suptitle(
        f"Focus through a scattering medium (law for binary masks at any phase: {binary_gain(n_in):.0f} times)"
    )
    figure.savefig(Path(path), dpi=120)
    plt.close(figure)
    return foci


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "focus.png")
