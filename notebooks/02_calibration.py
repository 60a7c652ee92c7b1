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
# A camera measures $|Tx|^2$, not $Tx$. From such frames alone you will measure a linear map in two ways, recover the
# transmission matrix, focus light on any pixel behind the medium, and write a calibration report. The simulator knows
# the true matrix, so every result is compared with the value that theory predicts.

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
# ## Intensities are not additive, projections are
#
# Split a pattern into two disjoint parts, $x = x_1 + x_2$. Left: frames. The sum of the two frames differs from the
# frame of both parts, because the two fields interfere. Right: a *projection by anchors*. The device shows $x$ and then
# the complementary mirrors, and the two frames give $\mathrm{Re}(\overline{Ta}\,Tx)$, where $a$ is all mirrors ON. This
# is linear in $x$ and takes two frames per vector.

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
# Some rows are dark: the anchor's field is close to zero there, so it cannot serve as a reference. These rows are left
# out (`projection.valid`). In fully developed speckle with one anchor they are $1 - e^{-0.05} = 4.9\,\%$ of all rows.
#
# ## Is it the right linear map?
#
# The anchor gives $P(x) = \mathrm{Re}(\overline{Ta}\,Tx)/|Ta|$ including scale and sign, and nothing is fitted in this
# comparison. Phase stepping opens the reference arm and moves its mirror through four phases. It takes four frames per
# vector and gives the full complex field. Only rows that the reference does not reach are dark.

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
# How much light is best? Drag the exposure. With too little light, rounding to whole digital numbers dominates (the
# stripes are the camera's codes); with more light, shot noise dominates; with too much, bright pixels saturate and the
# map is no longer linear. The median error is 20 % at 20 µs, 2.2 % at 700 µs, and 2.7 % at 980 µs.

# %%


def draw_exposure(figure, exposure):
    opu.exposure_s = exposure * 1e-6
    found = measure_projection(opu)
    values, right = found(x)[:, found.valid], anchor_truth(found, truth, x)[:, found.valid]
    opu.exposure_s = usual
    left, ax = figure.subplots(1, 2)
    drawings.draw_projection(left, {"truth": right.ravel()[::20], "measured": values.ravel()[::20]})
    drawings.draw_row_errors(ax, row_errors(values, right))
    left.set_title(f"{exposure} µs")


exposures = [10, 20, 50, 100, 200, 400, 700, 980]
slide(draw_exposure, exposure=SelectionSlider(options=exposures, value=20, description="exposure, µs"))

# %% [markdown]
# ## The transmission matrix
#
# The device shows a full set of patterns (rows of a Hadamard matrix), each at several phases of the reference. The
# solution is every complex entry of $T$, with a predicted error. The result also states its *gauge*: what frames cannot
# determine.

# %%
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
axes[2].set_title("singular values of the recovered matrix")
plt.show()

# %% [markdown]
# The singular values of a matrix of independent Gaussian entries follow the law of Marchenko and Pastur. A medium with
# correlations (such as a memory effect), a saturated camera, or a common background would show here first.
#
# A bench without a reference arm can use interference between the patterns themselves. This takes more frames and
# leaves a larger gauge.

# %%
for method in ("phase-stepping", "numerical-interferometry"):
    found = recover_transmission_matrix(opu, method)
    error = np.median(matrix_row_errors(found.matrix, truth, found.gauge)[found.valid])
    print(f"{method:26} {found.frames / N_IN:5.1f} frames per input   error {error:.2%}   {found.gauge.sentence}")
opu.exposure_s = usual

# %% [markdown]
# ## Focus
#
# Focusing tests a matrix by using it. To focus on pixel $i$, switch ON the mirrors whose light arrives there within a
# quarter turn of a common phase. For $N$ binary mirrors and a perfect matrix, theory predicts $1 + (N - 1)/2\pi$ times
# the mean, on average over foci and phases (the best of many phases gives slightly more). Drag the pixel.

# %%


def draw_pixel(figure, pixel):
    spot = focus(opu, estimate.matrix, [pixel], valid=estimate.valid)
    left, right = figure.subplots(1, 2)
    left.imshow(plots.as_image(spot.masks[0]), cmap="gray")
    left.set(xlabel="input column", ylabel="input row", title=f"{spot.masks[0].sum()} of {N_IN} inputs ON")
    left.locator_params(integer=True)
    drawings.draw_focus(right, spot.frame, pixel, opu.frame_shape)
    right.set_title(f"{spot.enhancement[0]:.1f} × the mean, predicted {spot.predicted[0]:.1f}")


start = int(np.flatnonzero(estimate.valid)[SIDE**2 // 2 - SIDE // 2])
slide(draw_pixel, pixel=IntSlider(start, 0, SIDE**2 - 1, description="pixel", continuous_update=False))

# %%
foci = focus(opu, estimate.matrix, 64, valid=estimate.valid, phases=1)
mean, error, predicted = foci.enhancement.mean(), foci.enhancement.std() / 8.0, foci.predicted.mean()
print(f"64 foci: {mean:.1f} ± {error:.1f} times the mean; ", end="")
print(f"theory {binary_gain(N_IN):.1f}, predicted from the matrix {predicted:.1f}")

# %% [markdown]
# ## The report
#
# One call does all of this and tests the camera. The result is an HTML page, a JSON file, and a verdict for each line.
# `opu calibrate --device lab_bench` does the same from a shell, and `opu calibrate --compare old.json new.json` lists
# what has degraded.

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
#   Which line of the report shows it?
# - `recover_transmission_matrix(opu, "phase-retrieval")` also needs no reference; `track_drift=True` tracks a reference
#   whose phase drifts.
# - A medium that drifts: with `Drifting(opu.medium, correlation_frames=1e5)` the matrix changes during its measurement.
# - Next notebook: [03_training_through_light](03_training_through_light.ipynb) trains networks with such projections.
