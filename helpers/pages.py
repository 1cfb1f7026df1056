"""What a page shows beside its text: glued numbers, intervals, pictures with sliders."""

import os
from collections.abc import Callable

import numpy as np


def glue_all(**values) -> None:
    """Keep numbers and words of a run for the sentences of its page.

    A page shows them in its sentences. JupyterLab cannot, so there they are listed below the cell.

    Args:
        **values: by name; NumPy's numbers become Python's, so that a format such as :.1f works.
    """
    from myst_nb import glue

    in_jupyterlab = "JPY_SESSION_NAME" in os.environ  # its server sets it for a notebook's kernel
    for name, value in values.items():
        value = value.item() if isinstance(value, np.generic) else value
        glue(name, value, display=False)
        if in_jupyterlab:
            print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


def per_cent_interval(low: float, high: float, digits: int = 0) -> str:
    """An interval of shares as text in per cent, such as "87 – 95".

    Args:
        low: lower bound, 0 to 1.
        high: upper bound, 0 to 1.
        digits: how many follow the decimal point.
    """
    return f"{100 * low:.{digits}f} – {100 * high:.{digits}f}"


def sliders(draw: Callable, **ranges: tuple) -> None:
    """Show a picture and, in JupyterLab, sliders below it that redraw it.

    Args:
        draw: takes the sliders' values by name, and returns a matplotlib Figure.
        **ranges: by name, (value, low, high) or (value, low, high, step) in whole numbers.
    """
    from IPython.display import display
    from ipywidgets import HBox, IntSlider

    bars = {
        name: IntSlider(value, low, high, step=step[0] if step else 1, description=name)
        for name, (value, low, high, *step) in ranges.items()
    }
    picture = display(draw(**{name: bar.value for name, bar in bars.items()}), display_id=True)

    def draw_again(change) -> None:
        picture.update(draw(**{name: bar.value for name, bar in bars.items()}))

    for bar in bars.values():
        bar.observe(draw_again, "value")
    display(HBox(list(bars.values())))
