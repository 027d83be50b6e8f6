"""The page of a learning-rate range test."""

import pathlib

from jaxrecipes.report.curves import svg_curve
from jaxrecipes.report.figures import BLUE
from jaxrecipes.report.page import Answer, Page, write_page
from jaxrecipes.tune.lr_finder import RangeTest

DIVERGED = "The loss diverged at once, so there is no suggestion: try a lower --start_rate."


def write_lr_page(test: RangeTest, folder: pathlib.Path, *, train: str) -> pathlib.Path:
    """Writes `report.html` into the folder of a test: the suggestion, the curve, how to train.

    Args:
      test: what was found.
      folder: of the test.
      train: the command that trains with the suggestion; "" for none.
    """
    rates, smoothed = test.learning_rates, test.smoothed_losses
    lowest = test.lowest_loss_rate
    best = None
    if test.suggestion is not None:
        at = int(abs(rates - test.suggestion).argmin())
        best = (test.suggestion, float(smoothed[at]))
    page = Page(
        title=f"Learning rate: {folder.resolve().name}",
        subtitle=f"{len(rates)} steps, {rates[0]:.3g} to {rates[-1]:.3g}" if len(rates) else "",
        answer=Answer(
            name="suggested learning rate: where the loss falls fastest",
            value=None if test.suggestion is None else f"{test.suggestion:.3g}",
            facts=[
                ("rate of the lowest loss", f"{lowest:.3g}"),
                ("a tenth of it, for a noisy curve", f"{lowest / 10:.3g}"),
            ],
            curve=svg_curve(
                [("loss, smoothed", BLUE, 1.8, rates.tolist(), smoothed)],
                xlabel="learning rate",
                best=best,
                best_label="suggestion",
                logarithmic=True,
            ),
        ),
        problems=[DIVERGED] if test.suggestion is None else [],
        commands=[("Train with it", train)] if train else [],
    )
    return write_page(page, folder / "report.html")
