"""DINOv2: the network, and reading and writing published weights."""
