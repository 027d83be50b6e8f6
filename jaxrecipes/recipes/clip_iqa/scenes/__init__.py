"""Drawn scenes, the embedded data."""
