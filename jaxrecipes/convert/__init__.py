"""Weights and training state to and from PyTorch."""
