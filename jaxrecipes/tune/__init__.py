"""Finding good hyperparameters."""
