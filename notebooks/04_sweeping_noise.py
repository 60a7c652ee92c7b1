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
# # 04 Sweeping noise
#
# Which flaws of the hardware cost accuracy, and how much? You will train the same small network through devices that
# differ in exposure, read noise and bit depth, get the results as a labelled data set, extend the sweep without
# computing a point twice, and end with a search that finds how bad a part may be. The digits are small, so that a
# point takes about a second; the same lines with `Plan(data="mnist")` are the studies of the documentation.

# %%
import os
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
from ipywidgets import SelectionSlider

from calibration.reports.page import STYLE
from dfa import sweep, tolerance
from dfa.robustness import TrainingStudy, studies
from dfa.robustness.figures import draw
from dfa.robustness.tolerances import figure as tolerance_figure
from photonics.plotting.sliders import slide

plt.rcParams.update(STYLE)
SMALL = os.environ.get("OPU_SMALL") == "1"  # the size at which the tests run this notebook
plan = replace(studies.SMALL, epochs=2 if SMALL else 6, refresh=False)  # a moving device is not followed
warnings.filterwarnings("ignore", "frames do not fit|the medium has moved")  # which is studied here
SEEDS = range(1 if SMALL else 2)
WORKERS = 0  # compute in this process; the default is one process per core, worthwhile for sweeps of minutes

# %% [markdown]
# ## A grid
#
# Every parameter has a dotted name: `camera.…`, `dmd.…`, `laser.…`, `imaging.…`, `medium.…` of the device,
# `calibration.…`, `encoder.…`, `training.…`. The result is an `xarray.Dataset` with units and a record of its origin.
# The store is one SQLite file.

# %%
store = Path(tempfile.mkdtemp()) / "study.sqlite"
over = {
    "training.exposure": [1.0] if SMALL else [0.05, 1.0],  # relative to opu.autoexpose()
    "camera.bit_depth": [3, 8] if SMALL else [3, 5, 8],
    "camera.read_noise_e": [2.5, 250.0] if SMALL else [2.5, 25.0, 100.0, 250.0],
}
study = TrainingStudy(plan)
start = time.perf_counter()
found = sweep(study, over, seeds=SEEDS, store=store, workers=WORKERS, progress=False)
print(f"{found.accuracy.size} trainings in {time.perf_counter() - start:.0f} s\n")
print(found)

# %% [markdown]
# The figure shows accuracy against read noise, with a line for each bit depth. Drag the exposure. At the right
# exposure, 250 electrons of read noise cost a camera of 8 bits one point. With a twentieth of the light it
# loses three points at 25 electrons and eleven at 100, because noise spoils the calibration of the anchor; at 250 one
# of two seeds cannot be calibrated. A camera of 3 bits can be calibrated only if noise spreads the light over its
# codes. Training failed where a line ends. Bars are standard errors over two seeds; with 360 test images, differences
# of a point are not significant.

# %%


def draw_exposure(figure, exposure):
    ax = figure.add_subplot()
    chosen = found.accuracy.sel({"training.exposure": exposure})
    mean, error = chosen.mean("seed"), chosen.std("seed", ddof=min(1, len(SEEDS) - 1)) / len(SEEDS) ** 0.5
    for bits in found["camera.bit_depth"].values:
        one = {"camera.bit_depth": bits}
        ax.errorbar(
            found["camera.read_noise_e"],
            mean.sel(one),
            error.sel(one),
            marker="o",
            ms=4,
            capsize=2,
            label=f"{bits} bits",
        )
    ax.set_xscale("log")
    ax.set(xlabel="read noise (electrons rms)", ylabel="test accuracy (%)", ylim=(0, 100))
    ax.set_title(f"exposure {exposure:g} × opu.autoexpose()")
    ax.legend(loc="lower left")


exposures = over["training.exposure"]
slide(
    draw_exposure,
    size=(6.5, 3.8),
    exposure=SelectionSlider(options=exposures, value=exposures[-1], description="exposure"),
)

# %% [markdown]
# A failing point does not stop the sweep: it is stored with its error, and the other points continue. Here the frames
# of some points are too dark, too coarse or too noisy for a calibration.

# %%
errors = sorted(set(found.error.values.ravel()) - {""})
print(f"{int((found.error != '').sum())} of {found.error.size} points failed", *errors, sep="\n  ")

# %% [markdown]
# ## Continue and extend a sweep
#
# Each point is stored when it ends, under a key that depends on the study, the settings, the seed and the code. Run the
# sweep again with one more value: stored points are not computed again. A killed process loses only the points that it
# was computing. If `DASK_SCHEDULER_ADDRESS` is set, the same line runs on a cluster.

# %%
over["camera.read_noise_e"] = [*over["camera.read_noise_e"], 1000.0]
start = time.perf_counter()
more = sweep(study, over, seeds=SEEDS, store=store, workers=WORKERS, progress=False)
new = more.accuracy.size - found.accuracy.size
print(f"{more.accuracy.size} trainings, {new} of them new, in {time.perf_counter() - start:.0f} s")

# %% [markdown]
# ## Prepared studies
#
# Each known flaw has a prepared study, with values from no flaw to far more than on a bench, and a figure. The third
# study below is not a flaw: a device may have more inputs than the ten that the error needs. The other inputs are ON
# with the anchor. The more of them there are, the smaller is the error's share of the light, until shot noise hides its
# signal.

# %%
print("studies:", ", ".join(studies.STUDIES))
inputs = studies.prepare(
    "input_dimension", plan, values=(20, 200) if SMALL else (20, 200, 2000, 10_000), methods=["anchor"]
)
three = [studies.prepare("read_noise", plan), studies.prepare("medium_drift", plan), inputs][-1 if SMALL else 0 :]
figure, axes = plt.subplots(1, len(three), figsize=(4.2 * len(three), 3.6), layout="constrained", squeeze=False)
for ax, ready in zip(axes[0], three, strict=True):
    draw(ready.run(SEEDS, store=store, workers=WORKERS, progress=False), ax)
plt.show()

# %% [markdown]
# ## How bad may a part be?
#
# A sweep shows what a flaw costs. `dfa.tolerance` answers the other question: at which value is a point lost?
# It trains where the earlier trainings say that the point is lost, compares each with the device as it is for the same
# seed, and ends when the answer is known within a factor of two. The bars are 95 % intervals. `docs/howto/tolerance.md`
# has the tolerances of the bench for larger tasks.

# %%
lines = ["read_noise", "contrast", "everything"][: 1 if SMALL else 3]
few = {"seeds": range(2), "most": 4} if SMALL else {"most": 16}  # trainings on a line
limits = tolerance(plan, lines, **few, store=store, workers=WORKERS, progress=False)
figure, ax = plt.subplots(figsize=tolerance_figure.figure_size(limits), layout="constrained")
tolerance_figure.draw(limits, ax)
plt.show()

# %% [markdown]
# ## What to try next
#
# - `studies.prepare("read_noise").run()` is the study on MNIST; `docs/robustness.md` has the results of all studies.
# - `studies.two_parameters("read_noise", "bit_depth")`: do two flaws cost more together than separately?
# - `LatinHypercube` and `Random` in `dfa.sweeps.designs` explore many parameters at once.
# - `opu sweep study.toml --out runs/mine` does all this from a file, with a page of results.
