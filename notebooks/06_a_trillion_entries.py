# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 A trillion entries on a laptop
#
# The advantage of the optical processor is its size: a matrix of a million by two million, applied at the speed of
# light. Stored, it would take 16 terabytes. You will apply a matrix of this size in a fraction of a second, compute any
# block of another without the rest, check that entries do not depend on how they are computed, and see the time and
# energy of the real device.

# %%
import os
import time
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import SelectionSlider

from calibration.reports.page import STYLE
from photonics import GaussianMedium, ScatteringLayers, presets
from photonics.analysis.speckle import contrast, exponential_distance
from photonics.patterns.encoding import half_on
from photonics.plotting import plots
from photonics.plotting.sliders import slide

plt.rcParams.update(STYLE)
SMALL = os.environ.get("OPU_SMALL") == "1"  # the size at which the tests run this notebook
N_IN, N_OUT = (50_000, 100_000) if SMALL else (1_000_000, 2_000_000)

# %% [markdown]
# ## Scattering layers: no matrix anywhere
#
# Three random phase screens, each followed by a Fourier transform, scatter light like a thick slab of paint. A
# projection takes of the order of $n \log n$ operations, and the medium stores only its seed: the phases are generated
# again each time they are used.

# %%
medium = ScatteringLayers(N_IN, N_OUT, seed=7)
x = half_on(3, N_IN, seed=0)
medium.propagate(x[:1])  # compiles
times = []
for pattern in x:
    start = time.perf_counter()
    speckle = medium.propagate(pattern[None])
    times.append(time.perf_counter() - start)
tracemalloc.start()
medium.propagate(x[:1])
peak = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
entries = N_IN * N_OUT
print(f"{entries:.1e} entries, {8 * entries / 1e12:.3g} TB if they were stored")
print(f"a projection takes {min(times) * 1e3:.0f} ms and {peak / 1e6:.0f} MB of arrays on this computer")

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
intensity = np.abs(speckle[0]) ** 2
shown = axes[0].imshow(plots.as_image(intensity)[:100, :100], cmap="magma", vmin=0)
axes[0].set(xlabel="output column", ylabel="output row", title=f"10,000 of {N_OUT:,} outputs")
figure.colorbar(shown, ax=axes[0], label="intensity / mean with all inputs ON")
plots.draw_histogram(axes[1], intensity)
plt.show()

# %%
distance = exponential_distance(intensity[:: max(1, N_OUT // 20_000)])
print(
    f"contrast {contrast(intensity):.4f} (law 1), distance to the exponential law {distance:.2f} (below 1.63 in 99 %)"
)

# %% [markdown]
# ## The same entries, computed in two ways
#
# A column of the matrix is the output for a single input. The next cell compares a block of entries with the outputs of
# single inputs; the largest difference is due to rounding. The adjoint, which propagates light backwards, has the same
# entries: $\langle y, Tx \rangle = \langle T^\dagger y, x \rangle$.

# %%
rows, columns = slice(N_OUT - 5, N_OUT), slice(N_IN // 2, N_IN // 2 + 4)
block = medium.block(rows, columns)
alone = np.zeros((4, N_IN), bool)
alone[np.arange(4), np.arange(N_IN)[columns]] = True
answers = medium.propagate(alone)[:, rows].T
print(
    f"block {block.shape}, largest difference {np.abs(block - answers).max() / np.abs(block).max():.1g} of the largest"
)
y = medium.propagate(x[1:2])
forward = np.vdot(y, medium.propagate(x[:1]))
backward = np.vdot(medium.adjoint(y), x[:1].astype(np.complex64))
print(f"<y, T x> = {forward:.3f}\n<T'y, x> = {backward:.3f}")

# %% [markdown]
# ## A truly random matrix: streamed
#
# Screens are fast because their entries are not independent. Where independence matters, the Gaussian matrix can be
# *streamed*: each entry is a function of the seed and its position, generated when it is needed and not kept. The cost
# of a block is proportional to its size, at any position. Drag a block along the diagonal of two trillion entries.

# %%
gaussian = GaussianMedium(N_IN, N_OUT, seed=7, storage="streamed")


def draw_block(figure, place):
    row, column = int(place * (N_OUT - 60)), int(place * (N_IN - 60))
    entries = gaussian.block(slice(row, row + 60), slice(column, column + 60))
    left, right = figure.subplots(1, 2)
    edges = (column - 0.5, column + 59.5, row + 59.5, row - 0.5)
    picture = left.imshow(np.abs(entries) ** 2 * N_IN, cmap="magma", vmin=0, vmax=6, extent=edges)
    left.set(xlabel="input", ylabel="output")
    left.locator_params(nbins=3)
    left.ticklabel_format(useOffset=False)
    figure.colorbar(picture, ax=left, label="|t|² / mean")
    plots.draw_histogram(right, np.abs(entries) ** 2)


places = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]
slide(draw_block, place=SelectionSlider(options=places, value=0.75, description="place"))

# %% [markdown]
# The streamed matrix equals the stored one, entry for entry: blocks of both are equal, and so are projections except
# for the order of summation. Streaming takes time: entries are generated at a constant rate, and the last line gives
# the time of a projection through all of them. Only scattering layers make this size practical.

# %%
n = 2_000 if SMALL else 12_000
streamed, stored = (GaussianMedium(n, n, seed=7, storage=storage) for storage in ("streamed", "stored"))
part = slice(n // 2, n // 2 + 100)
same = bool((streamed.block(part, part) == stored.block(part, part)).all())
pattern = half_on(1, n, seed=1)
streamed.propagate(pattern)  # compiles
start = time.perf_counter()
light = streamed.propagate(pattern)
seconds = time.perf_counter() - start
difference = np.abs(light - stored.propagate(pattern)).max()
rate = n * n / seconds
print(
    f"100 x 100 entries equal bit for bit: {same}; projections differ by at most {difference:.1g}, rms of an output 0.7"
)
print(f"{rate:.1e} entries per second here, so {entries:.0e} entries take {entries / rate / 60:,.0f} minutes")

# %% [markdown]
# ## A device of that size
#
# The medium can be used in a device like any other, if there are enough mirrors. The chip of the preset has 786 432
# mirrors, each one an input here, for two million pixels. A pixel receives the same share of the total light, 6.4e-10,
# as in the preset with a thousand inputs.

# %%
inputs = 20_000 if SMALL else 1024 * 768
slab = ScatteringLayers(inputs, N_OUT, seed=7)
opu = presets.lab_bench(inputs, 16).replace(medium=slab, **{"imaging.throughput": 6.4e-10})
opu.autoexpose()
start = time.perf_counter()
frame = opu.measure(half_on(1, inputs, seed=2))[0]
seconds = time.perf_counter() - start
figure, ax = plt.subplots(figsize=(5.2, 4), layout="constrained")
plots.draw_frame(ax, frame.reshape(opu.frame_shape)[:200, :200], opu.camera.top)
ax.set_title(f"200 x 200 of {frame.size:,} pixels")
plt.show()
energy = opu.energy(1000)
print(f"a frame of {frame.size:,} pixels through {inputs * N_OUT:.1e} entries, with all noise: {seconds:.2f} s here")
print(f"on the bench: {opu.frame_period_s * 1e3:g} ms, {energy.joules_per_frame * 1e3:.0f} mJ,", end=" ")
print(f"{energy.joules_per_multiplication:.1e} J per complex multiplication")

# %% [markdown]
# The frame rate is that of a small region of interest (1 kHz); a real camera reads two million pixels more slowly. The
# energy is that of the whole device at an electrical power of 40 W, an estimate.
#
# ## What to try next
#
# - `ScatteringLayers(..., layers=1)` and `layers=2` do *not* give speckle. Which of the figures above shows it?
# - `oversample=4` changes the singular values from those of a unitary matrix to the law of Marchenko and Pastur.
# - `opu.to("cuda")` computes the same entries on a GPU (`pip install opu-sim[cuda12]`).
# - `opu bench` measures speed and memory of all media on your computer.
