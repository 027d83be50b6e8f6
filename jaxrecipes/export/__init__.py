"""Trained networks as files that other programs can run: ONNX and StableHLO.

To export only the weights, use `jaxrecipes.convert.safetensors`.
"""
