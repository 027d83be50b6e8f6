"""CLIP: both towers, the tokenizer, and published weights in and out."""
