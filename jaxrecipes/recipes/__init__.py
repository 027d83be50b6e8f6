"""The recipes, each in a package of its own."""
