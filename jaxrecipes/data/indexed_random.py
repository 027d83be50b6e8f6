"""Random numbers that are a function of (seed, index, name) alone.

With a stateful generator, an image would depend on the images drawn before it. Here every number is
a hash, so image 4711 is the same in any batch, order or process.
"""

import copy
import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK_64 = (1 << 64) - 1


def mix64(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): uint64 to well-mixed uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class IndexedRandom:
    """Named draws for a batch of image indices.

    Draws under different names are independent; the same name always gives the same numbers, so
    adding a draw does not change the others.

    Args:
      seed: any integer (taken modulo 2**64).
      indices: `[N]` non-negative integers.
    """

    def __init__(self, seed: int, indices: np.ndarray):
        self._seed = seed & _MASK_64
        self._steps = indices.astype(np.uint64) * _GOLDEN

    def rows(self, rows: np.ndarray) -> "IndexedRandom":
        """The same draws, for some of the indices."""
        some = copy.copy(self)
        some._steps = self._steps[rows]
        return some

    def bits(self, name: str) -> np.ndarray:
        """`[N]` uint64, uniform over all values."""
        key = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=8).digest()
        return mix64(self._steps + np.uint64(int.from_bytes(key, "little")))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """`[N, 1, 1]` float32, uniform in [low, high)."""
        unit = (self.bits(name) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return (np.float32(low) + np.float32(high - low) * unit)[:, None, None]

    def happens(self, name: str, probability: float) -> np.ndarray:
        """`[N, 1, 1]` bool, true with the given probability."""
        return self.uniform(name) < np.float32(probability)

    def sign(self, name: str) -> np.ndarray:
        """`[N, 1, 1]` float32, -1 or 1."""
        return np.where(self.happens(name, 0.5), np.float32(1.0), np.float32(-1.0))

    def noise(self, name: str, height: int, width: int) -> np.ndarray:
        """`[4, N, height, width]` float32 white noise: four planes of mean 0 and variance 1."""
        pixel = np.arange(1, height * width + 1, dtype=np.uint64) * _GOLDEN
        words = mix64(self.bits(name)[:, None] + pixel).reshape(-1, height, width)
        planes = np.empty((4, *words.shape), np.float32)
        for k in range(4):
            planes[k] = (words >> np.uint64(16 * k)) & np.uint64(0xFFFF)
        return planes * np.float32(12.0**0.5 / 65536.0) - np.float32(3.0**0.5)
