"""Procedural eyes, the recipe's synthetic data."""
