"""When a training run must stop: weights that are no numbers, feedback that is dead, a camera that sees only white."""

from collections.abc import Mapping

import torch
from torch import nn

from dfa.errors import Diverged

__all__ = ["Guards", "check_weights"]

PATIENCE = 100
"""Steps that it takes to stop a run: each one of them that was watched was wrong."""
SATURATED_LIMIT = 0.5
"""Share of the feedback's values that saturated pixels may make wrong. Clipping as such hardly matters, but here
a clipped pixel is the bright end of an interference: through `lab_bench`, calibrated and trained on digits at ever
longer exposures, accuracy stays as it was up to a third and falls under that of the last layer alone from a half on."""
LEARNED = 0.5
"""Share of its first loss under which a run may send nothing: the errors of learned samples give empty codes."""
RIGHT_NATS = 0.3
"""Loss under which any run may, also one that goes on from a network that has learned: the classes have 0.74 each."""


class Guards:
    """Counts what is wrong in watched steps, one after the other.

    Parameters
    ----------
    hidden : sequence of str
        Names of the blocks that learn from feedback alone.
    """

    def __init__(self, hidden: list[str]) -> None:
        self.hidden = hidden
        self.state: dict[str, float] = {}
        """First loss, and since which step something has been wrong; what a checkpoint must keep, in plain types."""

    def look(self, step: int, loss: float, seen: Mapping[str, float]) -> None:
        """Judge a watched step.

        Raises
        ------
        Diverged
            If for `PATIENCE` steps the hidden blocks have got no feedback though there was much to learn, or most of it
            came from saturated pixels.
        """
        first = self.state.setdefault("first", loss)
        dead = bool(self.hidden) and not any(seen[f"gradient/{name}"] for name in self.hidden)
        if self._lasts("dead", step, dead and loss > max(LEARNED * first, RIGHT_NATS)):
            shown = f"{seen['shown']:.0%} of the errors are sent" if "shown" in seen else "nothing comes back"
            raise Diverged(
                f"feedback must reach the hidden blocks, got none since step {self.state['dead']} at a loss of "
                f"{loss:.3g} ({shown}): is the encoder's threshold over every error, or are all units dead?"
            )
        if self._lasts("saturated", step, seen.get("saturated", 0.0) > SATURATED_LIMIT):
            raise Diverged(
                f"camera must not be saturated, got {seen['saturated']:.0%} of the feedback from saturated pixels, "
                f"over {SATURATED_LIMIT:.0%} since step {self.state['saturated']}: shorten the exposure "
                "(opu.autoexpose()) and measure the projection again"
            )

    def _lasts(self, name: str, step: int, wrong: bool) -> bool:
        if not wrong:
            self.state.pop(name, None)
            return False
        return step - self.state.setdefault(name, step) >= PATIENCE


def check_weights(model: nn.Module) -> None:
    """Raise `Diverged` if a parameter holds anything but finite numbers."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise Diverged(
                f"weights must be finite, got others in {name}: training has diverged, lower the learning rate"
            )
