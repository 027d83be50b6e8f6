"""Networks, one file per network, as Flax Linen modules."""
