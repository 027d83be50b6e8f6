"""What `jaxrecipes new` writes: a recipe in one file, and its test."""
