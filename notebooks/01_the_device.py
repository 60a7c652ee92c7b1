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
# # 01 The device
#
# A laser lights an array of binary mirrors, a scattering medium mixes the reflected light, and a camera records the
# speckle behind it. You will follow the light through this chain, compare the speckle with the laws of optics,
# under- and overexpose the camera with a slider, and measure the camera as a laboratory would. The notebook takes a
# few seconds.

# %%
import os
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import SelectionSlider

from calibration.camera.photon_transfer import photon_transfer
from calibration.reports.chapters.camera import camera_chapter
from calibration.reports.figures import draw_photon_transfer
from calibration.reports.page import STYLE
from photonics import DMD, presets
from photonics.analysis.speckle import contrast, exponential_distance
from photonics.patterns.encoding import half_on
from photonics.plotting import plots
from photonics.plotting.sliders import slide

plt.rcParams.update(STYLE)
SMALL = os.environ.get("OPU_SMALL") == "1"  # the size at which the tests run this notebook
SIDE, N_IN = (24, 144) if SMALL else (48, 576)

# %%
opu = presets.lab_bench(N_IN, 4 * SIDE**2, seed=1)  # 4 field samples per pixel behind a pupil
opu = opu.replace(dmd=DMD(macropixel=30), **{"imaging.numerical_aperture": 0.03})
opu.autoexpose()
figure, ax = plt.subplots(figsize=(11, 4.6))
plots.draw_bench(ax, opu)
plt.show()

# %% [markdown]
# Every number in this picture is a parameter of a part: `opu.laser`, `opu.dmd`, `opu.medium`, `opu.imaging`,
# `opu.camera`. The parts are frozen. `opu.replace(camera=replace(opu.camera, bit_depth=4))` returns a new device, and
# the short form for sweeps is `opu.replace(**{"camera.bit_depth": 4})`.
#
# ## A pattern goes in, speckle comes out
#
# Left: the light on the mirrors. A random half of the inputs is ON, and the Gaussian beam lights the centre of the chip
# more than its corners. Middle: the mean number of photons on the sensor. Right: a frame of that light, in whole
# digital numbers from 0 to 255, with all the noise of the camera.

# %%
patterns = half_on(16, N_IN, seed=0)
frames = opu.measure(patterns)
figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
plots.draw_pattern(axes[0], opu, patterns[0])
plots.draw_speckle(axes[1], opu, patterns[0])
plots.draw_frame(axes[2], frames[0], opu.camera.top, opu.frame_shape)
plt.show()
print(f"{len(frames)} frames of {frames.shape[1]:,} pixels, {frames.dtype}; {opu.clock.frames} frames on the clock")

# %% [markdown]
# The clock counts frames, because noise and drift are functions of the frame number. A device that is built again from
# the same seeds and shows the same patterns gives the same frames, bit for bit, for any split into batches.
#
# ## Is it speckle?
#
# Behind a thick random medium the field at a point is a sum of many independent contributions, so it is a complex
# Gaussian, and its intensity $I$ has the density $\exp(-I / \langle I \rangle) / \langle I \rangle$. The *contrast*,
# standard deviation over mean, is 1. This holds for one grain of speckle per pixel. A pixel with $k$ grains averages
# over them, and its contrast is $1/\sqrt{k}$. Without a pupil (`Imaging()`, the default) the model has exactly one
# grain per pixel. With a pupil, `Imaging.contrast` gives the expected contrast.

# %%
bare = presets.lab_bench(N_IN, SIDE**2, seed=1)
ticks = np.arange(len(patterns))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, device, name in zip(axes, (bare, opu), ("one grain per pixel", "a pupil of NA 0.03"), strict=True):
    photons = device.mean_photons(patterns, ticks, device.exposure_s, device.light(ticks, device.exposure_s))
    grains = device.imaging.contrast() ** -2
    plots.draw_histogram(ax, photons, grains)
    ax.set_title(name)
    print(f"{name}: contrast {contrast(photons):.3f}, law {grains**-0.5:.3f}")
    if device is bare:
        distance = exponential_distance(photons[0])
        print(f"  Kolmogorov-Smirnov distance of one frame to the exponential law: {distance:.2f} (below 1.63 in 99 %)")
plt.show()

# %% [markdown]
# Drag the aperture. With a small aperture a grain covers many pixels. With a large one each pixel has several grains,
# and the contrast falls. Few grains on the sensor also mean few independent values, so the measured contrast scatters
# more around its expected value.


# %%
def draw_aperture(figure, aperture):
    device = opu.replace(**{"imaging.numerical_aperture": aperture})
    photons = device.mean_photons(patterns, ticks, opu.exposure_s, device.light(ticks, opu.exposure_s))
    left, right = figure.subplots(1, 2)
    plots.draw_speckle(left, device, patterns[0])
    plots.draw_histogram(right, photons, device.imaging.contrast() ** -2)


apertures = [0.005, 0.01, 0.02, 0.03, 0.05, 0.09]
slide(draw_aperture, aperture=SelectionSlider(options=apertures, value=0.01, description="aperture"))

# %% [markdown]
# ## Light and codes
#
# Drag the exposure. At 1 µs a pixel gets a few photons, and the frame is mostly shot noise. At 440 µs the camera's
# range is used well. At a millisecond the bright grains saturate: if the range of the camera is $q$ times the mean, a
# share $\exp(-q)$ of the pixels has the last code. Software cannot recover saturated pixels, and the bright grains
# carry most of the signal.

# %%


def draw_exposure(figure, exposure):
    left, right = figure.subplots(1, 2)
    frames = bare.measure(patterns, exposure * 1e-6)
    photons = plots.mean_photons(bare, patterns[0]).mean() * exposure * 1e-6 / bare.exposure_s
    mean_dn = float(bare.mean(patterns, exposure * 1e-6).mean()) - bare.camera.offset
    plots.draw_frame(left, frames[0], bare.camera.top, bare.frame_shape)
    left.set_title(f"{exposure} µs, {photons:,.0f} photons per pixel")
    plots.draw_codes(right, frames, bare.camera, mean_dn)


exposures = [1, 5, 20, 100, 440, 980]
slide(draw_exposure, exposure=SelectionSlider(options=exposures, value=980, description="exposure, µs"))

# %% [markdown]
# `measure` draws the noise. `mean` and `variance` are its exact moments before saturation, so that a study of noise
# needs no averaging. The figure compares the variance of repeated frames of one pattern, pixel by pixel, with
# `variance`. `variance` includes the laser's drift over an hour (0.5 % rms), which frames within a second do not show:
# they follow the dashed line.

# %%
repeats = 50 if SMALL else 400
again = np.repeat(patterns[:1], repeats, axis=0)
seen = bare.measure(again).astype(np.float64)
steady = bare.replace(**{"laser.drift_rms": 0.0})
mean, variance, short = bare.mean(patterns[:1])[0], bare.variance(patterns[:1])[0], steady.variance(patterns[:1])[0]
order = np.argsort(mean)
figure, ax = plt.subplots(figsize=(6.2, 3.6), layout="constrained")
ax.plot(
    mean, seen.var(axis=0, ddof=1), ".", ms=3, color="#8fa3b8", label=f"each pixel, {repeats} frames of one pattern"
)
ax.plot(mean[order], variance[order], color="#c2410c", lw=1.5, label="opu.variance")
ax.plot(mean[order], short[order], color="#1f2933", lw=1.5, ls="--", label="without the laser's slow drift")
ax.set(xlabel="mean (DN)", ylabel="temporal variance (DN²)")
ax.legend()
plt.show()

# %% [markdown]
# ## Photon transfer
#
# Under uniform light of known strength, the variance grows with the mean, because the number of electrons follows a
# Poisson distribution. The slope is the gain of the camera in DN per electron, for any light level (EMVA 1288). The
# intercept is the read noise, *if* the quantiser resolves it: an 8-bit camera that spreads 10 000 electrons over 256
# codes has 40 electrons per code, and does not resolve a read noise of 2.5 electrons. The same sensor with 12 bits
# does.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, bits in zip(axes, (8, 12), strict=True):
    camera = replace(bare.camera, bit_depth=bits)
    chapter = camera_chapter(camera, photon_transfer(camera, pixels=4096 if SMALL else 65536))
    draw_photon_transfer(ax, chapter.curves["photon_transfer"])
    ax.set_title(f"{bits} bits")
    print(f"\n{bits} bits               measured ± error                data sheet")
    for line in chapter.lines:
        sheet = f"at most {line.limit:g}" if line.expected is None else f"{line.expected:.4g}"
        found = f"{line.measured:9.4g} ± {line.uncertainty:.1g} {line.unit}"
        print(f"{line.name:22}{found:30}{sheet:16}{line.verdict}")
plt.show()

# %% [markdown]
# ## What it costs on the bench
#
# `timing` and `energy` give the cost of a run on the real device: the number of frames over the frame rate, and this
# time multiplied by the electrical power.

# %%
timing, energy = bare.timing(10_000), bare.energy(10_000)
print(f"10,000 frames: {timing.seconds:.1f} s, {energy.joules:.0f} J")

# %% [markdown]
# ## What to try next
#
# - `opu.autoexpose(target=0.9)`, then look at the codes again: how much range do you gain, and what does it cost?
# - `opu.replace(**{"dmd.contrast": 50})`: mirrors that are OFF leak more light. Compare `opu.measure` of all mirrors
#   OFF before and after.
# - `opu.replace(**{"imaging.polarisations": 2})`: two polarisations are two independent speckles, and the contrast
#   falls to 0.71.
# - `presets.lighton_aurora(n_in, n_out)` is the commercial device, with the figures that are public.
# - Next notebook: [02_calibration](02_calibration.ipynb) turns these frames into a linear map.
