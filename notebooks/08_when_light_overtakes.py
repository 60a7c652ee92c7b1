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
# # 08 When does light overtake?
#
# The device shows each error to a matrix of any size in a few frames. Chips take a time that grows with the network.
# You will see from which size on a training step by light is shorter, which of the device's figures decides it, and
# what would have to be true for the device to win. All numbers are those of the model in `docs/howto/scaling.md`, which
# agrees with measured steps to 20 %.

# %%
import matplotlib.pyplot as plt

from dfa import scaling
from dfa.costs import Chips, Device, Links, Network
from dfa.costs.figure import draw_times
from photonics import presets
from photonics.plotting.style import STYLE

plt.rcParams.update(STYLE)

# %% [markdown]
# ## One chip, one device
#
# The network has 96 blocks of a transformer, without attention between tokens, and 50,000 classes. The chip is an H100
# at 40 % of its peak, the device a `lighton_aurora` at 2000 frames per second, with four frames for an error.

# %%
WIDTHS = [round(1024 * 2 ** (k / 2)) for k in range(17)]
network = Network(depth=96, matrices=12, entries=3, inputs=1024, classes=50_000, batch=2048)
device = Device.of(presets.lighton_aurora(n_in=100_000, n_out=2_000_000))
found = scaling(network, Chips(), Links(), device, over={"network.width": WIDTHS})
print(f"{'width':>8} {'parameters':>11} {'bp, s':>9} {'dfa, s':>9} {'light, s':>9} {'light / bp':>10}")
for point in found.points[::4]:
    seconds = "".join(f" {point.steps[method].seconds:9.3g}" for method in ("bp", "dfa", "optical"))
    print(f"{point.settings['network.width']:8} {point.parameters:11.2g}{seconds} {point.ratio('optical', 'bp'):10.2f}")
figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
draw_times(found, ax)
plt.show()

# %% [markdown]
# The frames take the same four seconds for every width. They are shorter than the work that they replace from 1.6e12
# parameters on, and even there light saves 6 % at most, because the forward pass, the gradients and the update stay.
#
# ## What decides: the time of a frame, and the speed of the chip
#
# Light is faster where a frame replaces more operations than the chip makes meanwhile. On one chip that is from
# `frames for an error x operations per second / (2 x frame rate x share saved)` parameters on. The share saved is 1/4
# for a transformer, of whose 12 matrices 3 read the block's input, and 1 for an MLP.


# %%
def crossing(network, chips, links, device):
    """Number of parameters from which on a step by light is shorter than by backpropagation."""
    found = scaling(
        network, chips, links, device, over={"network.width": [round(64 * 2 ** (k / 2)) for k in range(29)]}
    )
    width = found.crossing()
    if width is None:
        return "never"
    point = scaling(network, chips, links, device, over={"network.width": [round(width)]}).points[0]
    return f"{point.parameters:.1e}"


anchor, two = {"method": "anchor"}, {"method": "off-axis"}
mlp = {"depth": 96, "inputs": 1024, "classes": 50_000, "batch": 2048}
transformer = mlp | {"matrices": 12, "entries": 3}
slow = Chips(flops_per_s=1e12)
CASES = {
    "transformer": (transformer, Chips(), Links(), anchor),
    "MLP": (mlp, Chips(), Links(), anchor),
    "transformer, off-axis (2 frames)": (transformer, Chips(), Links(), two),
    "transformer, 1 of 64 errors shown": (transformer, Chips(), Links(), anchor | {"shown": 1 / 64}),
    "transformer, 100,000 frames/s": (transformer, Chips(), Links(), anchor | {"frame_rate_hz": 1e5}),
    "transformer, chip of 1e12 operations/s": (transformer, slow, Links(), anchor | {"frame_rate_hz": 1900}),
    "transformer, 8 ranks in turn": (transformer, Chips(), Links(ranks=8), anchor),
    "transformer, 8 ranks, 16 micro-batches": (transformer | {"micro_batches": 16}, Chips(), Links(ranks=8), anchor),
}
for name, (shape, chips, links, changes) in CASES.items():
    print(f"{name:40} {crossing(Network(**shape), chips, links, Device(**changes))} parameters")

# %% [markdown]
# ## What would have to be true for the device to win
#
# - **A larger network, or a slower chip.** For a GPU the crossing lies near 1e12 parameters. Summaries of
#   arXiv:2409.12965v2 have 2.7e9; the model agrees for chips of 1e12 operations per second.
# - **Fewer frames, or more of them per second.** The crossing falls in proportion to the time of an error's frames.
# - **Backpropagation that waits.** Where ranks work in turn, the device helps all of them at the same time. With
#   micro-batches, which fill the pipeline, this advantage is gone.
# - **Almost as few steps as by backpropagation.** The next cell shows how many more steps DFA may take before the gain
#   of each step is lost.

# %%
for name, shape in (("transformer", transformer), ("MLP", mlp)):
    (point,) = scaling(Network(**shape), device=Device(**two), over={"network.width": [2**20]})
    gain = 1 / point.ratio("optical", "bp")
    print(
        f"{name} of {point.parameters:.0e} parameters: light pays if DFA takes at most {gain:.2f} times as many steps"
    )

# %% [markdown]
# ## What to try next
#
# - `Network(classes=1_000_000)`: which method is fastest now, and why is it not backpropagation?
# - `Links(ranks=8)` with `Device(count=1)`: one device for all ranks. What do the links carry?
# - `print(scaling(network, device=device).terms())` shows where the time of a step goes.
# - `opu scaling --set network.width=[1024,65536]` gives the same table without Python.
