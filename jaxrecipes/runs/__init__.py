"""A run of a recipe: found by its name, trained, opened again, exported."""
