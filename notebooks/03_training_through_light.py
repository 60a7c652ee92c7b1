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
# # 03 Training through light
#
# Direct Feedback Alignment trains a network without propagating errors backwards through it: a fixed random matrix
# projects the error of the output directly to every hidden layer. The optical device computes this product. You will
# train a network through the simulated device, follow one error through it, and compare five training methods: what
# they learn, and how their updates turn towards the true gradient. The data are the 8 × 8 digits of scikit-learn, which
# need no download. The notebook takes less than a minute.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import FloatSlider
from torch.nn.functional import cross_entropy, one_hot

from calibration import measure_projection
from calibration.reports.page import STYLE
from dfa import DirectFeedback, OpticalFeedback, Ternary, alignment
from dfa.data import load
from dfa.experiments import STANDARD_METHODS, Plan, compare_methods, draw_blocks, draw_scores, summary
from dfa.models import mlp
from photonics import presets
from photonics.plotting import plots
from photonics.plotting.sliders import slide

plt.rcParams.update(STYLE)
SMALL = os.environ.get("OPU_SMALL") == "1"  # the size at which the tests run this notebook
HIDDEN, SAMPLES, EPOCHS, SEEDS = ((64, 64), 300, 2, [0]) if SMALL else ((128, 128), None, 20, [0, 1])
data = load("digits")
images, labels = data.train
print(f"{data.name}: {len(images):,} training images of {data.features} pixels, {data.classes} classes")

# %% [markdown]
# ## A training loop of your own
#
# `learner.backward(loss, output)` replaces `loss.backward()`. Everything else, including the optimiser, is unchanged.

# %%
model = mlp([data.features, *HIDDEN, data.classes], seed=0)
opu = presets.lab_bench(n_in=2 * data.classes, n_out=int(1.1 * sum(HIDDEN)), seed=0)
opu.autoexpose()
projection = measure_projection(opu, n_inputs=data.classes)
encoder = Ternary(deviations=1.0)
learner = DirectFeedback(model, feedback=OpticalFeedback(projection, encoder=encoder))
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
steps, every = (4, 2) if SMALL else (200, 10)
angles = []
for step in range(steps):
    here = torch.arange(step * 32, (step + 1) * 32) % len(images)
    output = model(images[here])
    loss = cross_entropy(output, labels[here])
    optimiser.zero_grad()
    learner.backward(loss, output)
    optimiser.step()
    if (step + 1) % every == 0:
        angles.append(alignment(learner, cross_entropy, images[:256], labels[:256]))

figure, ax = plt.subplots(figsize=(6.2, 3.4), layout="constrained")
for layer, angle in enumerate(zip(*angles, strict=True), 1):
    ax.plot(range(every, steps + 1, every), angle, label=f"layer {layer}" if layer <= len(HIDDEN) else "output layer")
ax.axhline(90.0, color="#9aa5b1", lw=0.8)
ax.set(xlabel="step", ylabel="angle of the update to the gradient (degrees)", ylim=(0, 110))
ax.legend()
plt.show()
print(f"loss {loss.item():.2f} after {steps} steps, {opu.clock.frames:,} frames on the clock")

# %% [markdown]
# The output layer has its true gradient, 0°. The hidden layers start near 90°, like a random direction, and turn
# towards the gradient while the weights above them adapt to the fixed feedback. This is the *alignment* in the method's
# name.

# %% [markdown]
# ## One error on its way through the device
#
# The trained network classifies twelve test images. Its error is softmax minus one-hot, ten numbers per image (left).
# Mirrors are ON or OFF, so the error is *ternarised* to -1, 0, 1 (second): the smaller the error of an image, the fewer
# codes are not zero. The positive part and the negative part are shown one after the other, each alone and together
# with the anchors, and the camera records speckle (third). The result is a random projection with as many entries as
# there are hidden units (right).

# %%
shown = slice(0, 12)
output = model(data.test[0][shown])
error = (output.softmax(1) - one_hot(data.test[1][shown], data.classes)).detach()
code = encoder(error)
worst = int((code == 1).sum(1).argmax())
pattern = np.concatenate([(code[worst] == 1).numpy(), projection.anchors[0, data.classes :]])
values = projection(code.numpy())[:, projection.valid]

figure, axes = plt.subplots(1, 4, figsize=(13, 3.5), layout="constrained")
for ax, picture, name in ((axes[0], error, "error"), (axes[1], code, "ternary code")):
    drawn = ax.imshow(picture, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(xlabel="class", ylabel="image", title=name)
    ax.locator_params(integer=True)
    figure.colorbar(drawn, ax=ax, fraction=0.06)
plots.draw_frame(axes[2], opu.measure(pattern[None])[0], opu.camera.top, opu.frame_shape)
axes[2].set_title(f"frame of image {worst}, positive part")
limit = np.abs(values).max()
drawn = axes[3].imshow(values[:, : 4 * data.classes], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
axes[3].set(xlabel="hidden unit (the first 40)", ylabel="image", title="measured projection")
axes[3].locator_params(integer=True)
figure.colorbar(drawn, ax=axes[3], fraction=0.06)
plt.show()

# %% [markdown]
# How much of the error should be shown? Drag the threshold, in standard deviations of the error. At 0 the code is the
# sign of the error: it never becomes empty, even for a small error, and trains badly. At 1 mostly the large entries
# remain. At 4 no entry remains. The title shows the angle between code and error, which a random projection nearly
# preserves. The default, `Ternary()`, has no threshold: it draws the entries at random, and fits every network.

# %%


def draw_code(figure, deviations):
    codes = Ternary(deviations=deviations)(error).float()
    cosine = float((codes * error).sum() / (codes.norm() * error.norm()).clamp_min(1e-9))
    for ax, picture, name in zip(figure.subplots(1, 2), (error, codes), ("error", "code"), strict=True):
        ax.figure.colorbar(ax.imshow(picture, cmap="RdBu_r", vmin=-1, vmax=1), ax=ax)
        ax.set(xlabel="class", ylabel="image", title=name)
        ax.locator_params(integer=True)
    share, angle = float((codes != 0).float().mean()), np.degrees(np.arccos(cosine))
    ax.set_title(f"code: {share:.0%} of the entries shown, {angle:.0f}° from the error")


slide(draw_code, deviations=FloatSlider(1.0, min=0.0, max=4.0, step=0.25, description="threshold"))

# %% [markdown]
# ## Five ways to train
#
# The same network, data and order of samples: backpropagation; DFA with an exact random matrix; DFA with a ternarised
# error; the same through the simulated device with all its noise; and, as a control, training of the last layer only.
# If DFA did not train the hidden layers, it would not be better than this control.

# %%
plan = Plan(samples=SAMPLES, hidden=HIDDEN, epochs=EPOCHS, batch_size=32, learning_rate=2e-3)
runs = compare_methods(plan, data, STANDARD_METHODS, seeds=SEEDS, progress=False)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
draw_scores(axes[0], plan, runs)
draw_blocks(axes[1], [run for run in runs if run.method not in ("bp", "last-layer")], "angles", "epoch")
plt.show()

# %%
columns, rows = summary(plan, runs)
widths = [max(len(row[k]) for row in (columns, *rows)) + 2 for k in range(len(columns))]
for row in (columns, *rows):
    print("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
optical = next(run for run in runs if run.method == "optical")
print(f"\nnoise of the optical feedback: {optical.snr_db:.0f} dB below the signal")

# %% [markdown]
# All three kinds of DFA are better than training the last layer only, so they train the hidden layers. Neither the
# ternary code, here the default `Ternary()`, nor the optics cost accuracy that two seeds and 360 test images can show:
# one image is 0.28 %. The angle grows with the code and again with the optics, and moves by several degrees between
# epochs. Frames, time and energy are those of the device at its frame rate and power, not of this computer.
#
# ## What to try next
#
# - `Plan(..., encoder=Ternary(sign=True))`: the sign alone, which never becomes empty.
# - `Plan(..., device_changes={"camera.bit_depth": 3})`, or `exposure=4.0`: which flaws matter, and which do not?
#   Notebook [04_sweeping_noise](04_sweeping_noise.ipynb) tests every flaw.
# - `Plan(data="cora")` is a graph network, `Plan(data="tiny-shakespeare")` a transformer; `opu train --help` lists all
#   options.
# - `opu train --data mnist --method all` trains on all of MNIST; [docs/results.md](../docs/results.md) has four
#   networks at full size.
