"""PyTorch training recipes as pure, jitted, sharded JAX, where every hyperparameter is data."""

__version__ = "0.1.0"
