"""Queries, keys and values that PyTorch's attention packs in one tensor.

We compute the values alone: `packed` and `split` join and part our leaves, rules are for the packed
tree.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def split(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A packed tree with each `in_proj` parted into `query_key` and `value`."""
    parted: dict[str, Any] = {}
    for name, branch in tree.items():
        if name == "in_proj":
            at = branch["bias"].shape[-1] * 2 // 3
            parts = {"query_key": np.s_[..., :at], "value": np.s_[..., at:]}
            for part, columns in parts.items():
                parted[part] = {k: np.ascontiguousarray(a[columns]) for k, a in branch.items()}
        else:
            parted[name] = split(branch) if isinstance(branch, Mapping) else branch
    return parted


def packed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `split`."""
    joined: dict[str, Any] = {}
    for name, branch in tree.items():
        if name == "query_key":
            joined["in_proj"] = {
                k: np.concatenate([branch[k], tree["value"][k]], axis=-1) for k in branch
            }
        elif not (name == "value" and "query_key" in tree):
            joined[name] = packed(branch) if isinstance(branch, Mapping) else branch
    return joined
