"""Checks that stop a training run: weights that are not finite, feedback that is always zero, a saturated camera."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from dfa.errors import Diverged

__all__ = ["Guards", "check_weights"]

PATIENCE = 100
"""Steps over which every watched step must fail before the run is stopped."""
MAX_SATURATED = 0.5
"""Maximum share of the feedback's values that saturated pixels may make wrong.

Clipping alone hardly matters, but here a clipped pixel is the bright end of an interference pattern. In training on
digits through `lab_bench`, calibrated at longer and longer exposures, the accuracy is unchanged up to a share of one
third, and from one half on it is lower than that of training the last layer only."""
LEARNED_SHARE = 0.5
"""Share of its first loss below which a run may send no errors: learned samples have empty codes."""
LEARNED_NATS = 0.3
"""Loss below which any run may send no errors, including one that starts from a trained network. A loss of 0.3 nats is
a mean probability of 0.74 for the right class."""


class Guards:
    """Checks of the watched steps of a run, in order.

    Parameters
    ----------
    hidden : sequence of str
        Names of the blocks that learn from feedback only.
    """

    def __init__(self, hidden: Sequence[str]) -> None:
        self.hidden = hidden
        self.state: dict[str, float] = {}
        """First loss, and for each fault the step at which it began; a checkpoint must keep it."""

    def check(self, step: int, loss: float, values: Mapping[str, float]) -> None:
        """Check a watched step with the measured values of `dfa.training.diagnostics.Watcher`.

        Raises
        ------
        Diverged
            If for `PATIENCE` steps the hidden blocks received no feedback although the loss was high, or most of the
            feedback came from saturated pixels.
        """
        first = self.state.setdefault("first", loss)
        rests = values.get("hidden_rate") == 0.0  # the device moves too fast: the last block learns alone
        dead = bool(self.hidden) and not rests and not any(values[f"gradient/{name}"] for name in self.hidden)
        if self._persists("dead", step, dead and loss > max(LEARNED_SHARE * first, LEARNED_NATS)):
            sent = f"{values['shown']:.0%} of the errors are sent" if "shown" in values else "all signals are zero"
            raise Diverged(
                f"feedback must reach the hidden blocks, got none since step {self.state['dead']} at a loss of "
                f"{loss:.3g} ({sent}): check that the encoder's threshold is below the errors and that the units are "
                "active"
            )
        if self._persists("saturated", step, values.get("saturated", 0.0) > MAX_SATURATED):
            raise Diverged(
                f"camera must not be saturated, got {values['saturated']:.0%} of the feedback from saturated pixels, "
                f"more than {MAX_SATURATED:.0%} since step {self.state['saturated']}: shorten the exposure "
                "(opu.exposure_s) and measure the projection again"
            )

    def _persists(self, name: str, step: int, fault: bool) -> bool:
        if not fault:
            self.state.pop(name, None)
            return False
        return step - self.state.setdefault(name, step) >= PATIENCE


def check_weights(model: nn.Module) -> None:
    """Raise `Diverged` if a parameter contains NaN or infinity."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise Diverged(
                f"weights must be finite, got NaN or infinity in {name}: training has diverged, lower the learning rate"
            )
