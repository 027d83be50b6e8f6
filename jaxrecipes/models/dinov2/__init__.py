"""DINOv2: the network, and published weights in and out."""
