"""Augmentation of images inside the training step."""
