"""Trained networks as files that other programs run: ONNX and StableHLO.

Plain weights go to safetensors by `jaxrecipes.convert.safetensors`.
"""
