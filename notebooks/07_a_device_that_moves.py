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
# # 07 A device that moves
#
# Media creep, chips warm up, tables are touched. You will see what each kind of motion does to the frames of one
# pattern, train a network on a medium that moves, keep a recovered matrix up to date by a few frames, and find a frame
# that was lost.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np

from calibration import check_sequence, measure_projection, recover_transmission_matrix
from calibration.reports.page import STYLE
from calibration.wavefront.focusing import focus
from dfa import DirectFeedback, OpticalFeedback, Ternary, train
from dfa.data import digits
from dfa.models import mlp
from photonics import DMD, Disturbed, Drifting, GaussianMedium, Imaging, presets

plt.rcParams.update(STYLE)

# %% [markdown]
# ## What moves, and how it looks
#
# One pattern is repeated, and each frame is compared with the first one. All motion is off by default, and a function
# of the frame's number: the same seed gives the same frames in any order. An hour of a bench takes no longer than a
# minute of it, because frames that nobody takes cost nothing.

# %%
N_IN, N_OUT = 256, 576
bench = presets.lab_bench(N_IN, N_OUT, seed=3)
inside = GaussianMedium(N_IN, N_OUT, seed=3)
TAU = 1e7  # frames; the bench takes 1000 in a second
KINDS = {
    "medium drifts": {"medium": Drifting(inside, TAU)},
    "medium drifts and warms up": {"medium": Drifting(inside, TAU, warm_up=9.0)},
    "mirrors warm up": {"dmd": DMD(macropixel=48, warm_up_waves=0.3)},
    "table touched after half an hour": {"medium": Disturbed(inside, 1_800_000, 0.8)},
    "pattern creeps, 0.3 pixels an hour": {"imaging": Imaging(throughput=2.5e-9, creep_m_per_s=4.6e-10)},
}
minutes = np.arange(0, 61, 5)
pattern = np.random.default_rng(0).random((1, N_IN)) < 0.5


def correlations(opu):
    """Correlation of the pattern's frame with the first one, each minute of the list."""
    opu.autoexpose()
    frames = []
    for minute in minutes:
        opu.clock.frames = int(minute * 60 / opu.frame_period_s)
        frames.append(opu.measure(pattern)[0].astype(float))
    return [np.corrcoef(frames[0], frame)[0, 1] for frame in frames]


figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for name, change in KINDS.items():
    values = correlations(bench.replace(medium=inside).replace(**change))
    ax.plot(minutes, values, marker="o", markersize=3, label=name)
    print(f"{name}: {values[-1]:.2f} after an hour")
ax.set(xlabel="minutes", ylabel="correlation with the first frame", ylim=(0, 1.02))
figure.legend(loc="outside lower center", ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# The frames' correlation is the square of the field's: $e^{-2t/\tau}$ for the drift, $0.8^2$ for the touched table,
# $\mathrm{sinc}^2$ of the shift for the creep. A warm-up slows down: what is lost in its first minutes is lost for
# every projection and matrix measured before.

# %% [markdown]
# ## Training on a medium that moves
#
# The field of this medium decays in 3000 frames; a training takes more. The anchor of the projection is measured once
# and goes stale: the feedback does harm. A feedback that follows its device (`refresh=True`, the default) measures the
# correlation time by the frames of its own steps. This medium is too fast for the hidden layers, so they rest and the
# last layer learns alone. On slower media they learn at their full rate.

# %%
opu = presets.lab_bench(20, 260).replace(medium=Drifting(GaussianMedium(20, 260), correlation_frames=3000))
opu.autoexpose()
warnings.simplefilter("ignore")  # the feedback that does not follow warns in every step
for follow in (False, True):
    projection = measure_projection(opu.spawn(0), n_inputs=10)
    feedback = OpticalFeedback(projection, Ternary(), refresh=follow)
    model = mlp([64, 100, 100, 10])
    learner = DirectFeedback(model, feedback=feedback)
    history = train(model, digits(), learner, epochs=3, learning_rate=3e-3, progress=False)
    last = history[-1]
    print("followed" if follow else "not followed", end=f": test accuracy {last.test:.2f}")
    print(f", correlation time {last.correlation_frames:.0f} frames" if last.correlation_frames else "")

# %% [markdown]
# ## A matrix that follows
#
# A recovered matrix goes stale, too. Frames of random patterns, without a reference, bring it up to date, and say how
# much of it was stale. The focus needs the matrix of now.

# %%
still = presets.lab_bench(48, 150, seed=1).replace(medium=GaussianMedium(48, 150, seed=1))
old = recover_transmission_matrix(still)
moving = still.replace(medium=Drifting(still.medium, correlation_frames=1e4))
rng, estimate = np.random.default_rng(0), old
for _ in range(20):
    moving.clock.advance(400)
    patterns = rng.random((100, 48)) < 0.5
    estimate = estimate.update(patterns, moving.measure(patterns))
error = np.median(estimate.relative_error)
print(f"{estimate.drift['stale']:.2f} of the power was stale before the last update, stated error {error:.2f}")
for name, each in (("updated", estimate), ("of the beginning", old)):
    found = focus(moving, each.matrix, 16, valid=each.valid)
    print(f"focus with the matrix {name}: {found.enhancement.mean():.0f} times the mean")

# %% [markdown]
# ## A frame that was lost
#
# What looks like motion may be a frame that is missing: from there on each frame belongs to the pattern before. The
# frames alone tell where it happened.

# %%
patterns = rng.random((400, 48)) < 0.5
frames = np.delete(still.measure(patterns), 250, axis=0)
print(check_sequence(patterns, frames))
