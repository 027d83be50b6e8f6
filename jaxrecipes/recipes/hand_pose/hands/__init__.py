"""Rendered hands, the embedded data."""
