"""Every plot that a run leaves, as PNG files; see the modules that these come from."""

from jaxrecipes.report.classification import confusion_matrix, precision_recall_curve, roc_curve
from jaxrecipes.report.contact_sheet import contact_sheet, side_by_side
from jaxrecipes.report.curves import learning_rate_finder, training_curves

__all__ = [
    "confusion_matrix",
    "contact_sheet",
    "learning_rate_finder",
    "precision_recall_curve",
    "roc_curve",
    "side_by_side",
    "training_curves",
]
