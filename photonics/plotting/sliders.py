"""A figure controlled by sliders in a notebook; a saved notebook shows the figure for their first values."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["slide"]


def slide(draw: Callable[..., object], size: tuple[float, float] = (9.0, 3.4), **widgets: Any) -> None:
    """Show sliders and a figure that is redrawn when a slider moves.

    The figure is a separate PNG output, so that a saved notebook keeps it, drawn for the sliders' first values. Needs
    ipywidgets (the extra ``notebooks``).

    Parameters
    ----------
    draw : callable
        ``draw(figure, **values)`` draws into an empty matplotlib figure; values have the names of `widgets`.
    size : tuple of float
        Width and height of the figure, inches.
    **widgets
        An ipywidgets slider (or another widget with a value) for each value.

    Examples
    --------
    >>> from ipywidgets import IntSlider
    >>> slide(lambda figure, n: figure.add_subplot().plot(range(n)), n=IntSlider(3))  # doctest: +SKIP
    """
    from IPython.display import Image, display
    from ipywidgets import VBox

    def png() -> Image:
        figure = Figure(figsize=size, layout="constrained", dpi=mpl.rcParams["figure.dpi"])
        draw(figure, **{name: widget.value for name, widget in widgets.items()})
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return Image(data=buffer.getvalue(), format="png")

    display(VBox(list(widgets.values())))
    shown = display(png(), display_id=True)
    assert shown is not None  # None only without display_id
    for widget in widgets.values():
        widget.observe(lambda _: shown.update(png()), names="value")
