"""CLIP's byte-pair tokenizer; the package includes the merges of OpenAI's vocabulary.

`merges.txt.gz` holds the 48,894 merges that OpenAI published with CLIP, under the MIT licence
in `merges.LICENSE.txt`.
"""

import functools
import gzip
import html
import importlib.resources
import itertools
import json
import math
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from jaxrecipes.errors import install_command, unknown_name
from jaxrecipes.paths import user_path

Cleaning = Literal["openai", "huggingface"]

START, END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"
_SPECIAL = re.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")
_FIXED = re.compile(rf"{_SPECIAL.pattern}|'(?:s|t|re|ve|m|ll|d)", re.IGNORECASE)
_RUNS = re.compile("L+|N|[.]+")  # over character classes: a word, a single digit, other characters


class Tokens(NamedTuple):
    """Texts as arrays.

    Attributes:
      token_ids: `[N, length]` int32.
      mask: `[N, length]` int32, 1 = a token (both specials are), 0 = padding.
    """

    token_ids: np.ndarray
    mask: np.ndarray


class ClipTokenizer:
    """Turns texts into token ids, like OpenAI's CLIP or like Hugging Face's fast tokenizer.

    The two differ in how a text is cleaned. Both collapse white space and lower-case letters.
    "openai" also repairs damaged letters and unescapes HTML entities; "huggingface" only composes
    letters (NFC). Plain texts get the same ids from both.

    The repair needs the package `ftfy`, which is optional. Without it letters are composed (NFC)
    instead, with a warning if the text is not plain ASCII: curly quotes, ligatures and full-width
    letters are then kept, and get other ids than OpenAI's.
    """

    def __init__(
        self,
        merges: Iterable[tuple[str, str]],
        *,
        vocab: Mapping[str, int] | None = None,
        cleaning: Cleaning = "openai",
    ):
        """A tokenizer with these merges, in the order of their priority.

        Args:
          merges: pairs of symbols that are merged into one.
          vocab: id of each symbol; by default the order of CLIP: bytes, bytes that end a word,
            merges, the two specials.
          cleaning: "openai" or "huggingface".

        Raises:
          ValueError: an unknown cleaning, or a vocabulary without a symbol that texts may need.
        """
        if cleaning not in get_args(Cleaning):
            raise unknown_name("cleaning", cleaning, get_args(Cleaning))
        merges = list(merges)
        letters = list(_byte_letters().values())
        symbols = [*letters, *(c + _END_OF_WORD for c in letters), *map("".join, merges)]
        symbols += [START, END]
        self.vocab = dict(zip(symbols, itertools.count())) if vocab is None else dict(vocab)
        absent = [symbol for symbol in symbols if symbol not in self.vocab]
        if absent:
            raise ValueError(f"the vocabulary lacks {len(absent)} symbols, such as {absent[:5]}")
        self.start_id, self.end_id = self.vocab[START], self.vocab[END]
        self._pieces = _pieces_openai if cleaning == "openai" else _pieces_huggingface
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._known = {START: [self.start_id], END: [self.end_id]}

    @classmethod
    def packaged(cls, *, cleaning: Cleaning = "openai") -> "ClipTokenizer":
        """The tokenizer of all published CLIP models; 49408 ids."""
        file = importlib.resources.files("jaxrecipes.models.clip") / "merges.txt.gz"
        return cls(_merges(gzip.decompress(file.read_bytes()).decode()), cleaning=cleaning)

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike[str], *, cleaning: Cleaning = "huggingface"
    ) -> "ClipTokenizer":
        """The tokenizer of a folder of Hugging Face: vocab.json and merges.txt, or tokenizer.json.

        Raises:
          FileNotFoundError: neither is there.
          ValueError: files that do not make a byte-pair tokenizer.
        """
        folder = user_path(folder)
        if (folder / "merges.txt").exists() and (folder / "vocab.json").exists():
            merges = _merges((folder / "merges.txt").read_text(encoding="utf-8"))
            vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        elif (folder / "tokenizer.json").exists():
            content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            model = content.get("model", {})
            if "merges" not in model or "vocab" not in model:
                raise ValueError(f"{folder}/tokenizer.json is not of a byte-pair tokenizer")
            pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
            merges, vocab = [(a, b) for a, b in pairs], model["vocab"]
            vocab |= {t["content"]: t["id"] for t in content.get("added_tokens", [])}
        else:
            raise FileNotFoundError(
                f"neither merges.txt with vocab.json nor tokenizer.json in {folder}; CLIP's own "
                "vocabulary is part of the package: ClipTokenizer.packaged()"
            )
        return cls(merges, vocab=vocab, cleaning=cleaning)

    def __call__(self, texts: Sequence[str], *, length: int = 77, pad_id: int = 0) -> Tokens:
        """Texts as rows of one length.

        Args:
          texts: `N` texts.
          length: of every row. A longer text is cut; its last token is the end token all the same.
          pad_id: after the end token: 0 as OpenAI and the original recipe; Hugging Face's own is
            the end token. It has no influence on CLIP's features.

        Raises:
          ValueError: a length below 2, or a text that is not a `str` (such as an empty cell of a
            table).
        """
        if length < 2:
            raise ValueError(f"length must be 2 or more, for both specials, got {length}")
        texts = [texts] if isinstance(texts, str) else texts
        token_ids = np.full((len(texts), length), pad_id, np.int32)
        mask = np.zeros_like(token_ids)
        for row, text in enumerate(texts):
            ids = self.encode(text)
            if len(ids) > length:
                ids = [*ids[: length - 1], self.end_id]
            token_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return Tokens(token_ids, mask)

    def encode(self, text: str) -> list[int]:
        """All ids of one text, the two specials around them, not cut.

        Raises:
          ValueError: not a `str`.
        """
        if not isinstance(text, str):
            raise ValueError(f"a text must be a str, got {text!r}; fill empty cells first")
        pieces = map(self._piece_ids, self._pieces(text))
        return [self.start_id, *itertools.chain.from_iterable(pieces), self.end_id]

    def decode(self, token_ids: Iterable[int]) -> str:
        """The cleaned text of ids up to the first end token, one space after each word."""
        body = itertools.takewhile(lambda i: i != self.end_id, map(int, token_ids))
        text = "".join(self._symbols[i] for i in body if i != self.start_id)
        byte_of = {letter: byte for byte, letter in _byte_letters().items()}
        words = (bytes(byte_of[c] for c in word) for word in text.split(_END_OF_WORD))
        return b" ".join(words).decode(errors="replace").strip()

    @functools.cached_property
    def _symbols(self) -> dict[int, str]:
        return {index: symbol for symbol, index in self.vocab.items()}

    def _piece_ids(self, piece: str) -> list[int]:
        if piece not in self._known:
            letters = _byte_letters()
            symbols = [letters[byte] for byte in piece.encode()]
            symbols[-1] += _END_OF_WORD
            self._known[piece] = [self.vocab[symbol] for symbol in self._merged(symbols)]
        return self._known[piece]

    def _merged(self, symbols: list[str]) -> list[str]:
        while len(symbols) > 1:
            pair = min(itertools.pairwise(symbols), key=lambda p: self._ranks.get(p, math.inf))
            if pair not in self._ranks:
                break
            joined: list[str] = []
            for symbol in symbols:
                if joined and (joined[-1], symbol) == pair:
                    joined[-1] += symbol
                else:
                    joined.append(symbol)
            symbols = joined
        return symbols


def _merges(text: str) -> list[tuple[str, str]]:
    """Pairs, one per line; a first line "#version: ..." is skipped."""
    lines = (line.split() for line in text.splitlines() if not line.startswith("#version"))
    return [(words[0], words[1]) for words in lines if len(words) == 2]


@functools.cache
def _byte_letters() -> dict[int, str]:
    """A printable letter for each byte, in the order of the vocabulary (the table of GPT-2)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + n) for n, b in enumerate(hidden)}


def _pieces(text: str) -> Iterator[str]:
    """Words, single digits and runs of other characters; merges never cross their borders."""
    kinds, at = "".join(map(_kind, text)), 0
    while at < len(text):
        found = _FIXED.match(text, at) or _RUNS.match(kinds, at)
        if found:
            yield text[at : found.end()]
        at = found.end() if found else at + 1


@functools.lru_cache(4096)
def _kind(letter: str) -> str:
    if letter.isspace():
        return " "
    group = unicodedata.category(letter)[0]
    return group if group in "LN" else "."


def _pieces_openai(text: str) -> Iterator[str]:
    text = html.unescape(html.unescape(_repair()(text)))
    return _pieces(" ".join(text.split()).lower())


def _pieces_huggingface(text: str) -> Iterator[str]:
    for part in _SPECIAL.split(text):
        composed = unicodedata.normalize("NFC", part)
        # Letter by letter, because Python lower-cases a Greek sigma differently at the end of a
        # word.
        yield from _pieces("".join(letter.lower() for letter in composed))


@functools.cache
def _repair() -> Callable[[str], str]:
    try:
        from ftfy import fix_text
    except ImportError:
        return _compose
    return fix_text


def _compose(text: str) -> str:
    if not text.isascii():
        warnings.warn(
            "ftfy is not installed: letters outside ASCII are composed but not repaired, so some "
            f"texts get other ids than from OpenAI's tokenizer; {install_command('text')}",
            stacklevel=2,
        )
    return unicodedata.normalize("NFC", text)
