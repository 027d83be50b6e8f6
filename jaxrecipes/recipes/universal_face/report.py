"""The report and the predictions of universal_face, the same for both face recipes."""

from jaxrecipes.recipes.faces.report import prediction_columns, write_report, write_samples

__all__ = ["prediction_columns", "write_report", "write_samples"]
