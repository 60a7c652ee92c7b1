"""Sliders: a figure is shown at once, and drawn again when a slider moves."""

import IPython.display
import pytest
from ipywidgets import IntSlider, VBox

from photonics.plotting.sliders import slide


class Shown:
    """Stand-in for the notebook: what was displayed, and what replaced it."""

    def __init__(self):
        self.things, self.updates = [], []

    def display(self, thing, display_id=False):
        self.things.append(thing)
        return self if display_id else None

    def update(self, thing):
        self.updates.append(thing)


@pytest.fixture
def page(monkeypatch):
    page = Shown()
    monkeypatch.setattr(IPython.display, "display", page.display)
    return page


def test_it_shows_a_figure_and_follows_its_sliders(page):
    """Catches: a figure inside of a widget only, which no saved notebook shows; a slider that does nothing."""
    seen, n, k = [], IntSlider(value=3, max=9), IntSlider(value=1, max=9)
    slide(lambda figure, **values: seen.append((figure.axes, values)), n=n, k=k)
    box, image = page.things
    assert isinstance(box, VBox) and box.children == (n, k)
    assert image.data.startswith(b"\x89PNG") and not page.updates
    n.value = 5
    k.value = 2
    assert [values for _, values in seen] == [{"n": 3, "k": 1}, {"n": 5, "k": 1}, {"n": 5, "k": 2}]
    assert all(axes == [] for axes, _ in seen)  # each time an empty figure
    assert [update.data.startswith(b"\x89PNG") for update in page.updates] == [True, True]


def test_it_keeps_the_size(page):
    slide(lambda figure: figure.add_subplot(), size=(4.0, 2.0))
    width, height = (int.from_bytes(page.things[1].data[i : i + 4]) for i in (16, 20))  # of the PNG's header
    assert width == 2 * height
