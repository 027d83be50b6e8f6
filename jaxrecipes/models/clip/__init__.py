"""CLIP: both towers, the tokenizer, and reading and writing published weights."""
