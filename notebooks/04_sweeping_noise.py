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
# Which flaw of the hardware costs accuracy, and how much? You will train the same small network through devices that
# differ in light, read noise and bit depth, get the answers as a labelled data set, stop and go on without computing a
# point twice, and end with a budget that ranks the flaws of the bench. The digits here are small so that a point takes
# about a second; the same lines with `Plan(data="mnist")` are the studies of the documentation.

# %%
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
from ipywidgets import SelectionSlider

from calibration.reports.page import STYLE
from dfa import sweep
from dfa.robustness import TrainingStudy, studies
from dfa.robustness.figures import draw
from photonics.plotting.sliders import slide

plt.rcParams.update(STYLE)
SMALL = os.environ.get("OPU_SMALL") == "1"  # the size at which the tests run this notebook
plan = replace(studies.SMALL, epochs=2 if SMALL else 6)
SEEDS = range(1 if SMALL else 2)
WORKERS = 0  # in this process; the default is a process for each core, which pays from some minutes on

# %% [markdown]
# ## A grid
#
# Any parameter goes by its dotted name: `camera.…`, `dmd.…`, `laser.…`, `imaging.…`, `medium.…` of the device,
# `calibration.…`, `encoder.…`, `training.…`. What comes back is an `xarray.Dataset` that knows its units and where it
# came from. The store is one SQLite file.

# %%
store = Path(tempfile.mkdtemp()) / "study.sqlite"
over = {
    "training.exposure": [1.0] if SMALL else [0.05, 1.0],  # in multiples of what a person would set
    "camera.bit_depth": [3, 8] if SMALL else [3, 5, 8],
    "camera.read_noise_e": [2.5, 250.0] if SMALL else [2.5, 25.0, 100.0, 250.0],
}
study = TrainingStudy(plan)
start = time.perf_counter()
found = sweep(study, over, seeds=SEEDS, store=store, workers=WORKERS, progress=False)
print(f"{found.accuracy.size} trainings in {time.perf_counter() - start:.0f} s\n")
print(found)

# %% [markdown]
# Accuracy along the read noise, a line for each bit depth. Drag the exposure. At the right one, 250 electrons of read
# noise cost a camera of 8 bits nothing that can be seen here; with a twentieth of the light it loses seven points at 25
# electrons already, and more cannot be calibrated. A camera of 3 bits can be calibrated only where noise spreads the
# light over its codes. Where a line ends, the training failed. Bars are standard errors over two seeds; with 360 test
# images, a difference of a point is nothing.

# %%


def at_exposure(figure, exposure):
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
    ax.set_title(f"exposure {exposure:g} × what a person would set")
    ax.legend(loc="lower left")


exposures = over["training.exposure"]
slide(
    at_exposure,
    size=(6.5, 3.8),
    exposure=SelectionSlider(options=exposures, value=exposures[-1], description="exposure"),
)

# %% [markdown]
# A point that cannot be is no accident of the sweep: it is stored with its error, and the others go on. Here, frames
# too dark, too coarse or too noisy to calibrate with.

# %%
errors = sorted(set(found.error.values.ravel()) - {""})
print(f"{int((found.error != '').sum())} of {found.error.size} points failed", *errors, sep="\n  ")

# %% [markdown]
# ## Stop, go on, ask for more
#
# Each point is stored as soon as it is done, under a key made of the study, the settings, the seed and the code. Run
# the sweep again with one more value: what is there is not computed twice. A process that is killed loses the points
# that it was at, and no others. With `DASK_SCHEDULER_ADDRESS` set, the same line runs on a cluster.

# %%
over["camera.read_noise_e"] = [*over["camera.read_noise_e"], 1000.0]
start = time.perf_counter()
more = sweep(study, over, seeds=SEEDS, store=store, workers=WORKERS, progress=False)
new = more.accuracy.size - found.accuracy.size
print(f"{more.accuracy.size} trainings, {new} of them new, in {time.perf_counter() - start:.0f} s")

# %% [markdown]
# ## Studies that are ready
#
# Each of the known flaws is one function, with values from none of it to far too much, and a picture. The third below
# is no flaw: a device may have more inputs than the ten that the error needs. The others are ON beside it as the
# anchor's, the more of them the less of the light is the error's, and in the end its signal is lost in shot noise.

# %%
print("ready:", ", ".join(studies.STUDIES))
inputs = studies.prepare(
    "input_dimension", plan, values=(20, 200) if SMALL else (20, 200, 2000, 10_000), methods=["anchor"]
)
three = [studies.prepare("read_noise", plan), studies.prepare("medium_drift", plan), inputs][-1 if SMALL else 0 :]
figure, axes = plt.subplots(1, len(three), figsize=(4.2 * len(three), 3.6), layout="constrained", squeeze=False)
for ax, ready in zip(axes[0], three, strict=True):
    draw(ready.run(SEEDS, store=store, workers=WORKERS, progress=False), ax)
plt.show()

# %% [markdown]
# ## The budget
#
# Take each flaw of the bench away alone, and make each as bad as on a bad bench, alone. The bars are differences to the
# bench as it is, seed by seed; pale ones are not told from nothing, as two seeds hardly can. Drift of the medium and a
# coarse camera lead here; for a table to be cited take `docs/robustness.md`.

# %%
flaws = ["read_noise", "bit_depth", "contrast", "stuck_mirrors", "medium_drift", "rin", "prnu"]
flaws = flaws[:1] if SMALL else flaws  # without any, all that there are
ready = studies.budget(plan, flaws)
budget = ready.run(SEEDS, store=store, workers=WORKERS, progress=False)
figure, ax = plt.subplots(figsize=(6.5, 5.2), layout="constrained")
draw(budget, ax)
plt.show()

# %% [markdown]
# ## What to try next
#
# - `studies.prepare("read_noise").run()` is the study on MNIST; `docs/robustness.md` has what came out of them all.
# - `studies.two_parameters("read_noise", "bit_depth")`: do two flaws cost more together than each alone?
# - `LatinHypercube` and `Random` in `dfa.sweeps.designs` explore many parameters at once.
# - `opu sweep study.toml --out runs/mine` does all this from a file, with a page of results.
