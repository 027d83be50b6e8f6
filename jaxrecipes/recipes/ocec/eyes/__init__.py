"""Procedural eyes, the embedded data."""
