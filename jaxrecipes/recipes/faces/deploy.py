"""Random inputs for the face networks, to check exported files with."""

import numpy as np


def example_inputs(feat_dim: int, *, num_keypoints: int | None = None) -> dict[str, np.ndarray]:
    """Eight examples: `src`, unit embeddings; `pose`, degrees; `keypoints_3d` where they are
    wanted.
    """
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(8, feat_dim))
    inputs = {
        "src": embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True),
        "pose": rng.normal(size=(8, 3)) * 30.0,
    }
    if num_keypoints is not None:
        inputs["keypoints_3d"] = rng.normal(size=(8, num_keypoints, 3))
    return {name: array.astype(np.float32) for name, array in inputs.items()}
