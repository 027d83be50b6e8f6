"""Hands: joints, MANO and a procedural hand, rotations, cameras, alignment."""
