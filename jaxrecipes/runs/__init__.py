"""Runs of recipes: finding a recipe by name, training it, opening the run again, exporting it."""
