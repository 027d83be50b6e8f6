"""Drawn scenes with a caption, a graded distortion and graded errors: embedded data of clip_iqa.

A scene shows one to four equal objects on a background. Its caption may name another colour, shape,
background or number, which lowers the consistency; a blur, noise, compression or loss of colour
lowers the quality. A scene is a function of (seed, index, size, held out) alone.
"""

import dataclasses
import itertools

import numpy as np

from jaxrecipes.data.indexed_random import IndexedRandom
from jaxrecipes.recipes.clip_iqa.scenes.paint import BACKGROUNDS, COLOURS, SHAPES, distort, paint

KINDS = ("blur", "noise", "compression", "faded")
_COUNTS = ("one", "two", "three", "four")
_WRONG_PROB = 0.4  # of each of the caption's four statements
_COST = np.array([0.2, 0.35, 0.25, 0.2], np.float32)  # number (the most wrong), colour, shape, back
_COMBINATIONS = np.array(
    list(
        itertools.product(*map(range, (len(_COUNTS), len(COLOURS), len(SHAPES), len(BACKGROUNDS))))
    )
)
# A fifth of what captions can say is kept for held-out scenes; each word occurs on both sides.
_HELD_OUT = _COMBINATIONS @ np.array([1, 2, 3, 1]) % 5 == 0
_OPINION_NOISE = 0.02
_FADE = 0.15  # how much of the consistency goes when nothing can be made out any more
_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Scenes in the order of their indices.

    Attributes:
      images: `[N, size, size, 3]` uint8.
      prompts: captions.
      quality, consistency: `[N]` float32, in [0, 1].
      kinds: what distorts each image.
    """

    images: np.ndarray
    prompts: list[str]
    quality: np.ndarray
    consistency: np.ndarray
    kinds: list[str]


def draw_scenes(seed: int, indices: np.ndarray, *, size: int, held_out: bool = False) -> Scenes:
    """Draws scenes by index.

    Args:
      seed: any integer; another seed is another population.
      indices: `[N]` non-negative integers.
      size: height and width in pixels, 16 or more.
      held_out: other scenes, whose captions combine the words as no other caption does.

    Raises:
      ValueError: images that are too small.
    """
    if size < 16:
        raise ValueError(f"scenes of {size} pixels; 16 is the least")
    images = np.empty((len(indices), size, size, 3), np.uint8)
    rng = IndexedRandom(seed, np.asarray(indices) * 2 + held_out)
    said = _COMBINATIONS[held_out == _HELD_OUT]
    said = said[(_flat(rng, "caption") * len(said)).astype(int)]
    shown = said.copy()
    for column, choices in enumerate(map(len, (_COUNTS, COLOURS, SHAPES, BACKGROUNDS))):
        wrong = _flat(rng, f"wrong {column}") < _WRONG_PROB
        other = 1 + (_flat(rng, f"other {column}") * (choices - 1)).astype(int)
        shown[:, column] = np.where(wrong, (said[:, column] + other) % choices, said[:, column])
    errors = (shown != said).astype(np.float32)
    errors[:, 0] = np.abs(shown[:, 0] - said[:, 0]) / (len(_COUNTS) - 1)
    severity = _flat(rng, "severity")
    kind = (_flat(rng, "kind") * len(KINDS)).astype(int)
    for start in range(0, len(images), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(images)))
        some = rng.rows(rows)
        painted = paint(some, shown[rows], size)
        images[rows] = distort(some, painted, kind[rows], severity[rows])
    quality = 0.95 - 0.9 * severity
    consistency = (0.95 - 0.9 * errors @ _COST) * (1.0 - _FADE * severity)
    return Scenes(
        images=images,
        prompts=[_caption(*words) for words in said],
        quality=_opinion(rng, "quality", quality),
        consistency=_opinion(rng, "consistency", consistency),
        kinds=[KINDS[k] for k in kind],
    )


def _caption(count: int, colour: int, shape: int, background: int) -> str:
    noun = SHAPES[shape] + ("" if count == 0 else "es" if SHAPES[shape].endswith("s") else "s")
    return f"{_COUNTS[count]} {COLOURS[colour][0]} {noun} on a {BACKGROUNDS[background][0]} ground"


def _opinion(rng: IndexedRandom, name: str, score: np.ndarray) -> np.ndarray:
    noise = sum(_flat(rng, f"{name} rater {k}") - 0.5 for k in range(4)) * (_OPINION_NOISE * 3**0.5)
    return np.clip(score + noise, 0.0, 1.0).astype(np.float32)


def _flat(rng: IndexedRandom, name: str) -> np.ndarray:
    return rng.uniform(name)[:, 0, 0]
