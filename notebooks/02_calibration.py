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
# # 02 Calibration
#
# A camera sees $|Tx|^2$, never $Tx$. From such frames alone you will make a linear map in two ways, recover the
# transmission matrix, send light to any pixel behind the medium with it, and write the report that a laboratory would
# file. A simulator knows the truth, so every result stands beside the number that theory gives for it.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import IntSlider, SelectionSlider

from calibration import characterize, expose, measure_projection, recover_transmission_matrix
from calibration.metrics import anchor_truth, fix_gauge, matrix_row_errors, row_errors
from calibration.reports import figures as drawings
from calibration.reports.html import row
from calibration.reports.page import STYLE
from calibration.wavefront.focusing import binary_gain, focus
from photonics import presets
from photonics.patterns.encoding import half_on
from photonics.plotting import plots
from photonics.plotting.sliders import slide

plt.rcParams.update(STYLE)
SMALL = os.environ.get("OPU_SMALL") == "1"  # the size at which the tests run this notebook
N_IN, SIDE = (64, 12) if SMALL else (256, 32)

opu = presets.lab_bench(N_IN, SIDE**2, seed=2)
usual = opu.autoexpose()
truth = opu.effective_matrix()  # for comparisons only: nothing below calibrates with it
x = half_on(64, N_IN, seed=5)
part = half_on(64, N_IN, seed=6)

# %% [markdown]
# ## Intensities do not add, interference does
#
# Split a pattern into two disjoint parts, $x = x_1 + x_2$. Left, frames: the sum of the two says little about the frame
# of both, because the two fields interfere. Right, a *projection by anchors*: the device shows $x$ and then the rest of
# the mirrors, and the difference of the two frames is $\mathrm{Re}(\overline{Ta}\,Tx)$, where $a$ is all mirrors ON.
# That is linear in $x$, at two frames per vector.

# %%
projection = measure_projection(opu, method="anchor")
dark = opu.dark(16).mean()
brightness = {"whole": opu.measure(x) - dark, "sum": opu.measure(x & part) + (opu.measure(x & ~part) - 2.0 * dark)}
linear = {"whole": projection(x), "sum": projection(x & part) + projection(x & ~part)}
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, values, name in zip(axes, (brightness, linear), ("frames (DN)", "projections (unit of T)"), strict=True):
    few = {key: np.ravel(value)[:: max(1, np.size(value) // 3000)] for key, value in values.items()}
    drawings.draw_additivity(ax, few)
    ax.set_title(name)
    ax.set(xlabel="of x₁, plus of x₂", ylabel="of x₁ + x₂")
plt.show()
print(f"{projection.frames_per_vector} frames per vector, {projection.valid.mean():.1%} of the rows usable")

# %% [markdown]
# Some rows are dark: where the anchor itself happens to interfere to nothing, there is nothing to compare with. They
# are left out (`projection.valid`); fully developed speckle with one anchor has $1 - e^{-0.05} = 4.9\,\%$ of them.
#
# ## Is it the right linear map?
#
# The anchor gives $P(x) = \mathrm{Re}(\overline{Ta}\,Tx)/|Ta|$, with scale and sign, and nothing is fitted in this
# comparison. Phase stepping opens the reference arm and moves its mirror through four phases: four frames per vector,
# the full complex field, and no row is dark but those that the reference does not reach.

# %%
expected = anchor_truth(projection, truth, x)[:, projection.valid]
measured = projection(x)[:, projection.valid]
expose(opu, "phase-stepping")
stepped = measure_projection(opu, method="phase-stepping")
fields, true_fields = stepped(x), x.astype(np.float32) @ truth.T
turn = np.exp(1j * np.angle(np.sum(np.conj(fields) * true_fields, axis=0)))  # the gauge: one phase per row
opu.exposure_s = usual
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
real = [np.real(values).ravel()[:: max(1, x.shape[0] * SIDE**2 // 3000)] for values in (true_fields, fields * turn)]
drawings.draw_projection(axes[0], {"truth": expected.ravel()[::20], "measured": measured.ravel()[::20]})
drawings.draw_projection(axes[1], {"truth": real[0], "measured": real[1]})
axes[0].set_title("anchor")
axes[1].set_title("phase stepping, real part")
plt.show()
share = np.linalg.norm(fields * turn - true_fields, axis=0) / np.linalg.norm(true_fields, axis=0)
print(f"error of a row over its rms, median: anchor {np.median(row_errors(measured, expected)):.2%}, ", end="")
print(f"phase stepping {np.median(share[stepped.valid]):.2%}")

# %% [markdown]
# How much light is right? Drag the exposure. With too little, rounding to whole digital numbers wins (the stripes are
# the camera's codes); then shot noise leads; with too much, bright pixels saturate and the map is no longer linear. The
# median error is 20 % at 20 µs, 2.2 % at 700 µs, and 2.7 % at 980 µs.

# %%


def at_exposure(figure, exposure):
    opu.exposure_s = exposure * 1e-6
    found = measure_projection(opu)
    values, right = found(x)[:, found.valid], anchor_truth(found, truth, x)[:, found.valid]
    opu.exposure_s = usual
    left, ax = figure.subplots(1, 2)
    drawings.draw_projection(left, {"truth": right.ravel()[::20], "measured": values.ravel()[::20]})
    drawings.draw_row_errors(ax, row_errors(values, right))
    left.set_title(f"{exposure} µs")


exposures = [10, 20, 50, 100, 200, 400, 700, 980]
slide(at_exposure, exposure=SelectionSlider(options=exposures, value=20, description="exposure, µs"))

# %% [markdown]
# ## The transmission matrix
#
# Show a full set of patterns (rows of a Hadamard matrix), step the reference for each, and solve: every complex entry
# of $T$, with a predicted error. What the frames cannot tell is stated with the result, as its *gauge*.

# %%
expose(opu, "phase-stepping")
estimate = recover_transmission_matrix(opu, "phase-stepping")
opu.exposure_s = usual
print(estimate)
print("Gauge:", estimate.gauge.sentence)

# %%
errors = matrix_row_errors(estimate.matrix, truth, estimate.gauge)[estimate.valid]
fixed = fix_gauge(estimate.matrix, truth, estimate.gauge)
figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
points = slice(None, None, max(1, fixed.size // 3000))
drawings.draw_projection(axes[0], {"truth": truth.real.ravel()[points], "measured": fixed.real.ravel()[points]})
axes[0].set(xlabel="true Re t", ylabel="recovered Re t", title="entries")
drawings.draw_row_errors(axes[1], errors)
axes[1].set_title(f"stated by the estimate itself: {np.median(estimate.relative_error[estimate.valid]):.3g}")
plots.draw_singular_values(axes[2], estimate.matrix[estimate.valid])
axes[2].set_title("a random matrix, as it should be")
plt.show()

# %% [markdown]
# The singular values of a matrix of independent Gaussian entries follow the law of Marchenko and Pastur. A medium with
# correlations (a memory effect, say), a saturated camera, or a common background would show here before anywhere else.
#
# No reference arm on your bench? Then interference among the patterns themselves must do. It takes more frames and
# leaves more open.

# %%
for method in ("phase-stepping", "numerical-interferometry"):
    expose(opu, method)
    found = recover_transmission_matrix(opu, method)
    error = np.median(matrix_row_errors(found.matrix, truth, found.gauge)[found.valid])
    print(f"{method:26} {found.frames / N_IN:5.1f} frames per input   error {error:.2%}   {found.gauge.sentence}")
opu.exposure_s = usual

# %% [markdown]
# ## Focus
#
# The best test of a matrix is to use it. To focus on pixel $i$, switch ON the mirrors whose light arrives there within
# a quarter turn of a common phase. Theory for $N$ binary mirrors and a perfect matrix: $1 + (N/2 - 1)/\pi$ times the
# mean, on average over foci and phases (the best of many phases does a little better). Drag the pixel.

# %%


def at_pixel(figure, pixel):
    made = focus(opu, estimate.matrix, [pixel], valid=estimate.valid)
    left, right = figure.subplots(1, 2)
    left.imshow(plots.as_image(made.masks[0]), cmap="gray")
    left.set(xlabel="input column", ylabel="input row", title=f"{made.masks[0].sum()} of {N_IN} inputs ON")
    left.locator_params(integer=True)
    drawings.draw_focus(right, made.frame, pixel, opu.frame_shape)
    right.set_title(f"{made.enhancement[0]:.1f} × the mean, the matrix says {made.predicted[0]:.1f}")


start = int(np.flatnonzero(estimate.valid)[SIDE**2 // 2 - SIDE // 2])
slide(at_pixel, pixel=IntSlider(start, 0, SIDE**2 - 1, description="pixel", continuous_update=False))

# %%
foci = focus(opu, estimate.matrix, 64, valid=estimate.valid, phases=1)
mean, error, says = foci.enhancement.mean(), foci.enhancement.std() / 8.0, foci.predicted.mean()
print(f"64 foci: {mean:.1f} ± {error:.1f} times the mean; law {binary_gain(N_IN):.1f}, the matrix {says:.1f}")

# %% [markdown]
# ## The report
#
# All of this, and the camera's own tests, in one call: a page for people, JSON for programs, and a verdict for each
# line. `opu calibrate --device lab_bench` does the same from a shell, and `opu calibrate --compare old.json new.json`
# says what degraded since.

# %%
report = characterize(opu, truth=truth, matrix=estimate)
with tempfile.TemporaryDirectory() as folder:
    page = report.to_html(Path(folder) / "report.html")
    print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB, overall {report.verdict}\n")
for line in report.lines:
    group, name, _, wanted, found, verdict, _ = row(line)
    print(f"{group:11}{name:28}{found:28}{wanted:28}{verdict}")

# %% [markdown]
# In a live notebook, `report` alone in a cell shows the page with all its figures.
#
# ## What to try next
#
# - A device with a flaw: `opu.replace(**{"camera.bit_depth": 4})` or `opu.replace(**{"dmd.stuck_fraction": 0.05})`.
#   Which line of the report notices first?
# - `recover_transmission_matrix(opu, "phase-retrieval")` also needs no reference; `track_drift=True` follows a
#   reference whose phase wanders.
# - A medium that drifts: `Drifting(opu.medium, correlation_frames=1e5)`, and the matrix grows old between its first
#   frame and its last.
# - Next notebook: [03_training_through_light](03_training_through_light.ipynb) trains networks with such projections.
