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
# # 05 Bring your own matrix
#
# A transmission matrix that you measured or computed can replace the random one, and frames that your bench recorded
# can replace the simulated ones. You will see how a medium with few open channels affects the speckle's statistics, the
# report, and a network that is trained through it, and how to write, replay and evaluate a recording.

# %%
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import SelectionSlider

from calibration import (
    RecordedDevice,
    Recorder,
    characterize,
    measure_projection,
    recover_transmission_matrix,
    write_recording,
)
from calibration.reports.html import row
from calibration.reports.page import STYLE
from calibration.storage.recording import Recording
from dfa import DirectFeedback, OpticalFeedback, Ternary, train
from dfa.data import digits
from dfa.models import mlp
from photonics import MatrixMedium, presets
from photonics.patterns.encoding import half_on
from photonics.plotting import plots
from photonics.plotting.sliders import slide

plt.rcParams.update(STYLE)
SMALL = os.environ.get("OPU_SMALL") == "1"  # the size at which the tests run this notebook
N_IN, N_OUT = (64, 144) if SMALL else (256, 1024)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A matrix from a file
#
# The example is a medium that transmits a quarter of its channels, such as a multimode fibre with fewer modes than
# inputs. This package's normalisation is $E|t_{ij}|^2 = 1/n_{in}$; `normalise=True` converts any other scale to it.
# `.npy`, `.npz`, HDF5 and MATLAB files are read, pickles are refused, and `sha256=` checks a digest.


# %%
def few_channels(n_out, n_in, channels):
    rng = np.random.default_rng(5)
    real, imaginary = (rng.standard_normal((channels, n_out + n_in)) for _ in range(2))
    normal = (real + 1j * imaginary) / np.sqrt(2)
    return normal[:, :n_out].T @ normal[:, n_out:] / np.sqrt(channels * n_in)


fibre = few_channels(N_OUT, N_IN, channels=N_IN // 4)
with h5py.File(folder / "fibre.h5", "w") as file:
    file["T"] = fibre.astype(np.complex64)

medium = MatrixMedium.load(folder / "fibre.h5", key="T")
opu = presets.lab_bench(N_IN, N_OUT, seed=1).replace(medium=medium)
opu.autoexpose()
patterns = half_on(32, N_IN, seed=3)
figure, axes = plt.subplots(1, 3, figsize=(13, 3.7), layout="constrained")
plots.draw_frame(axes[0], opu.measure(patterns[:1])[0], opu.camera.top, opu.frame_shape)
plots.draw_histogram(axes[1], np.abs(medium.propagate(patterns)) ** 2)
plots.draw_singular_values(axes[2], medium.block(slice(None), slice(None)))
plt.show()

# %% [markdown]
# A frame looks like any speckle, and its histogram follows the exponential law. The singular values differ: three
# quarters of them are zero, and the rest are spread more widely than the law of Marchenko and Pastur for independent
# entries.
#
# ## Does the report detect this?
#
# The report uses frames only. It judges the medium apart from the calibration: the matrix is recovered well, so the
# calibration passes, but the medium is not Gaussian. The next cell prints the lines that do not pass, with advice.

# %%
usual = opu.exposure_s
estimate = recover_transmission_matrix(opu, "phase-stepping")
opu.exposure_s = usual
report = characterize(opu, matrix=estimate)
passed = sum(line.verdict == "pass" for line in report.lines)
print(f"overall {report.verdict}; {passed} of {len(report.lines)} lines pass; the medium: {report.medium}\n")
for line in report.lines:
    if line.verdict not in ("pass", "not measurable"):
        group, name, _, wanted, found, verdict, advice = row(line)
        print(f"{verdict}: {group}, {name}: {found}, expected {wanted}\n    {advice}")

# %% [markdown]
# ## How does this affect training?
#
# Direct Feedback Alignment needs a fixed matrix, but not one with independent entries. With few open channels, however,
# the hidden layer receives few combinations of the ten errors. Drag the number of open channels. After 15 epochs the
# test accuracy is 45 % with one channel (all errors give the same signal, up to a sign), 78 % with two, 88 % with
# three, 91 % with five and 92 % with ten.

# %%
data, EPOCHS = digits(), 3 if SMALL else 15


def draw_channels(figure, channels):
    bench = presets.lab_bench(20, 160, seed=1).replace(medium=MatrixMedium(few_channels(160, 20, channels)))
    bench.autoexpose()
    model = mlp([data.features, 128, data.classes], seed=0)
    projection = measure_projection(bench, n_inputs=10)
    learner = DirectFeedback(model, feedback=OpticalFeedback(projection, Ternary(deviations=1.0)))
    history = train(model, data, learner, epochs=EPOCHS, batch_size=32, progress=False)
    left, right = figure.subplots(1, 2)
    epochs = [point.epoch for point in history]
    left.plot(epochs, [100 * point.test for point in history], "o-", ms=3, color="#2563a8")
    right.plot(epochs, [point.angles["0"] for point in history], "o-", ms=3, color="#2563a8")
    right.axhline(90.0, color="#9aa5b1", lw=0.8)
    left.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(0, 100), title=f"{channels} open channels")
    right.set(xlabel="epoch", ylabel="angle to the gradient (degrees)", ylim=(0, 120))


slide(draw_channels, channels=SelectionSlider(options=[1, 2, 3, 5, 10, 20], value=2, description="channels"))

# %% [markdown]
# ## Frames of a real bench
#
# Calibration needs only frames from a device, so a recording can replace the device. `Recorder` wraps a live device and
# records every frame with its pattern, exposure and reference phase. `RecordedDevice` returns these frames if the same
# patterns are shown in the same order. Here a simulated bench is recorded during a report, and the report is repeated
# from the file.

# %%
bench = presets.lab_bench(64, 100, seed=4)
bench.autoexpose()
with Recorder(bench, folder / "monday.h5") as recorder:
    live = characterize(recorder, seed=1)
with RecordedDevice(folder / "monday.h5") as device:
    again = characterize(device, seed=1)
equal = [np.array_equal(a.measured, b.measured, equal_nan=True) for a, b in zip(live.lines, again.lines, strict=True)]
size = (folder / "monday.h5").stat().st_size / 1e6
print(f"{sum(equal)} of {len(equal)} lines equal bit for bit, from a file of {size:.1f} MB")

# %% [markdown]
# For a pattern that was not recorded, it raises an error that names the first difference. It never invents a frame:

# %%
with RecordedDevice(folder / "monday.h5") as device:
    try:
        characterize(device, seed=2)
    except ValueError as error:
        print(str(error).replace(str(folder), "folder"))

# %% [markdown]
# A bench that does not run this package is measured in three steps. First, `Recorder` records the patterns that a
# simulated device of the same size shows, as above. Then the bench shows these patterns at these exposures. Finally
# `write_recording` stores its frames, plain arrays, with the patterns. The report from this file describes the bench.
# (Here another simulated device stands for the bench: a worse one, with 4 bits and a twentieth of its mirrors stuck.)

# %%
recording = Recording(folder / "monday.h5")
count, settings = len(recording), recording.columns
shown = np.unpackbits(recording.rows("patterns", 0, count), axis=1, count=recording.n_in).astype(bool)

yours = presets.lab_bench(64, 100, seed=9).replace(**{"camera.bit_depth": 4, "dmd.stuck_fraction": 0.05})
frames = np.concatenate(
    [
        yours.measure(shown[i : i + 1], settings["exposure_s"][i])
        if settings["laser_on"][i]
        else yours.dark(1, settings["exposure_s"][i])
        for i in range(count)
    ]
)
recording.close()

description = {name: asdict(getattr(yours, name)) for name in ("laser", "dmd", "imaging", "camera")}
write_recording(
    folder / "tuesday.h5", description, shown, frames, settings["exposure_s"], laser_on=settings["laser_on"]
)
with RecordedDevice(folder / "tuesday.h5") as device:
    report = characterize(device, seed=1)
print(f"overall {report.verdict}, from {count} frames")
for line in report.lines:
    if line.verdict not in ("pass", "not measurable"):
        group, name, _, wanted, found, verdict, _ = row(line)
        print(f"{verdict:9} {group:11} {name:22} {found:24} expected {wanted}")

# %% [markdown]
# Stuck mirrors do not disturb a projection: they are part of the background that it subtracts. There are no lines about
# the camera, because no frames of uniform light were given (`uniform=`).
#
# ## What to try next
#
# - `MatrixMedium.load("your.npz")` in the earlier notebooks, instead of the preset's medium.
# - Calibrate every Monday and keep the report: `opu calibrate --compare old.json new.json` lists what has degraded.
# - `Drifting(MatrixMedium(matrix), correlation_frames=1e5)`: effects can be put around any medium.
