"""What a finished run of universal_face shows, and its predictions: as of the other face recipe."""

from jaxrecipes.recipes.faces.report import prediction_columns, write_report, write_samples

__all__ = ["prediction_columns", "write_report", "write_samples"]
