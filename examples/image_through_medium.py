"""Send pictures through a scattering medium and recover them with its transmission matrix.

    python examples/image_through_medium.py [figure.png]

The pictures are recovered from single frames, by phase retrieval, and from linear projections, by the pseudo-inverse.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from calibration import measure_projection, recover_transmission_matrix
from calibration.wavefront.images import recover_from_frames, recover_from_projections, send, similarity
from photonics import presets
from photonics.arrays import BoolArray, HostArray

SIDE = 16


def digits(count: int) -> BoolArray:
    """Handwritten digits of 8 x 8 pixels, enlarged and made black and white: (count, SIDE^2)."""
    grey = np.asarray(load_digits(return_X_y=True)[0])[:count].reshape(-1, 8, 8) / 16.0
    return np.kron(grey, np.ones((SIDE // 8, SIDE // 8))).reshape(count, -1) > 0.5


def main(path: str = "image_through_medium.png", count: int = 5, n_out: int = 1600) -> tuple[HostArray, HostArray]:
    """Recover a matrix and pictures, save a figure, and return the similarity to the pictures that were sent."""
    opu, pictures = presets.lab_bench(SIDE**2, n_out, seed=1), digits(count)
    estimate = recover_transmission_matrix(opu, "phase-stepping")
    opu.autoexpose(patterns=pictures)

    sent = send(opu, pictures)
    from_frames = recover_from_frames(opu, estimate.matrix, sent, valid=estimate.valid)

    projection = measure_projection(opu)
    # The anchor is all mirrors ON: the projection is the part of T x that is in phase with T 1.
    anchor = estimate.matrix.sum(axis=1)
    real = np.real(np.conj(anchor / np.maximum(np.abs(anchor), 1e-12))[:, None] * estimate.matrix)
    used = projection.valid & estimate.valid
    from_projections = recover_from_projections(real[used], projection(pictures)[:, used])

    rows, columns = opu.imaging.sensor_of(n_out)
    top = 2**opu.camera.bit_depth - 1
    images = [
        ("sent", pictures, (SIDE, SIDE), {"cmap": "gray", "vmin": 0, "vmax": 1}),
        ("speckle (DN)", sent.intensity * opu.unit_dn, (rows, columns), {"cmap": "magma", "vmin": 0, "vmax": top}),
        ("recovered,\nframes", from_frames, (SIDE, SIDE), {"cmap": "gray", "vmin": 0, "vmax": 1}),
        ("recovered,\nprojections", from_projections, (SIDE, SIDE), {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ]
    scores = similarity(pictures, from_frames), similarity(pictures, from_projections)
    figure, axes = plt.subplots(4, count, figsize=(1.9 * count + 1, 8), layout="constrained", squeeze=False)
    for line, (name, values, shape, style) in zip(axes, images, strict=True):
        for ax, picture in zip(line, values, strict=True):
            shown = ax.imshow(np.asarray(picture, float).reshape(shape), **style)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
        figure.colorbar(shown, ax=line, fraction=0.03)
    for line, score in zip(axes[2:], scores, strict=True):
        for ax, value in zip(line, score, strict=True):
            ax.set_xlabel(f"correlation {value:.3f}", fontsize=8)
    figure.suptitle(f"Through a scattering medium: {SIDE} × {SIDE} inputs, {rows} × {columns} pixels")
    figure.savefig(Path(path), dpi=110)
    plt.close(figure)
    return scores


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "image_through_medium.png")
