"""What all plots share: colours, an empty figure, and saving a file whole or not at all."""

import io
import os

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxrecipes.files import write_bytes
from jaxrecipes.report.pictures import CAPTION

# Okabe and Ito (2008): told apart by people with any kind of colour vision.
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a8f98"
INK, GRID = "#22262b", "#e3e6ea"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches.

    Made without pyplot, whose global list of figures keeps each one alive and is not thread-safe.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def style_axes(axes: Axes, *, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Thin grey grid, no box, text in ink."""
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.tick_params(which="both", labelsize=8, colors=INK, length=0)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def note(axes: Axes, text: str) -> None:
    """Writes `text` into the middle of the axes, in place of a curve that does not exist."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK, fontsize=9
    )


def save_figure(
    figure: Figure,
    path: str | os.PathLike[str],
    *,
    caption: str,
    dpi: int = 150,
    tight: bool = False,
) -> None:
    """Writes the figure as PNG, cut to what is drawn if `tight`; the folder is made if need be.

    The caption goes into the file, where `pictures.caption` finds it.
    """
    png = io.BytesIO()
    box = "tight" if tight else None
    figure.savefig(png, format="png", dpi=dpi, bbox_inches=box, metadata={CAPTION: caption})
    write_bytes(path, png.getvalue())


def svg_of(figure: Figure) -> str:
    """The figure as an SVG element for a page: transparent, its ink and grid in the page's colours,
    text as text.
    """
    text = io.StringIO()
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)")
