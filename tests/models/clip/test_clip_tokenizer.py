"""CLIP's tokenizer: the ids of the originals, exactly."""

import json
import sys
import types
import warnings

import numpy as np
import pytest

from jaxrecipes.models.clip import tokenizer as clip_tokenizer
from jaxrecipes.models.clip.tokenizer import ClipTokenizer

pytestmark = pytest.mark.filterwarnings("ignore:ftfy is not installed")


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("clip_iqa/tokenizer")


@pytest.fixture(scope="module")
def prompts(arrays):
    return [str(prompt) for prompt in arrays["prompts"]]


@pytest.fixture(scope="module")
def openai():
    return ClipTokenizer.packaged()


@pytest.fixture(scope="module")
def huggingface():
    return ClipTokenizer.packaged(cleaning="huggingface")


@pytest.fixture
def without_ftfy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    clip_tokenizer._repair.cache_clear()
    yield
    clip_tokenizer._repair.cache_clear()


@pytest.fixture
def with_repair(monkeypatch):
    """Stands in for ftfy, whose effect on the prompts is that quotes become straight."""
    straight = str.maketrans(dict.fromkeys("\u201c\u201d", '"') | {"\u2019": "'"})
    module = types.SimpleNamespace(fix_text=lambda text: text.translate(straight))
    monkeypatch.setitem(sys.modules, "ftfy", module)
    clip_tokenizer._repair.cache_clear()
    yield
    clip_tokenizer._repair.cache_clear()


def test_the_packaged_vocabulary_is_clips(openai, arrays):
    assert len(openai.vocab) == arrays["vocab_size"] == 49408
    assert openai.start_id == arrays["sot"]
    assert openai.end_id == arrays["eot"]
    assert openai.vocab["!"] == 0


def test_ids_equal_hugging_faces_fast_tokenizer(huggingface, prompts, arrays):
    tokens = huggingface(prompts)
    np.testing.assert_array_equal(tokens.token_ids, arrays["hf_fast_ids_pad0"])
    np.testing.assert_array_equal(tokens.mask, arrays["hf_fast_mask"])
    padded = huggingface(prompts, pad_id=huggingface.end_id).token_ids
    np.testing.assert_array_equal(padded, arrays["hf_fast_ids_pad_eot"])


@pytest.mark.usefixtures("with_repair")
def test_ids_equal_openais_where_texts_are_repaired(openai, prompts, arrays):
    np.testing.assert_array_equal(openai(prompts).token_ids, arrays["openai_ids"])


@pytest.mark.usefixtures("without_ftfy")
def test_without_ftfy_only_curly_quotes_get_other_ids(openai, prompts, arrays):
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        same = (openai(prompts).token_ids == arrays["openai_ids"]).all(1)
    others = [prompt for prompt, equal in zip(prompts, same, strict=True) if not equal]
    assert others == ["\u201cquoted\u201d titan\u2019s throne"]


@pytest.mark.usefixtures("without_ftfy")
def test_without_ftfy_texts_beyond_ascii_warn_and_others_do_not(openai):
    with pytest.warns(UserWarning, match=r"pip install .*\[text\]"):
        openai.encode("café")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        openai.encode("coffee")


def test_ids_equal_openais_with_the_real_ftfy(prompts, arrays):
    pytest.importorskip("ftfy")
    token_ids = ClipTokenizer.packaged()(prompts).token_ids
    np.testing.assert_array_equal(token_ids, arrays["openai_ids"])


def test_a_long_text_is_cut_and_still_ends(openai):
    tokens = openai(["fox " * 100, "fox"], length=8)
    fox = openai.vocab["fox</w>"]
    assert tokens.token_ids[0].tolist() == [openai.start_id, *[fox] * 6, openai.end_id]
    assert tokens.token_ids[1].tolist() == [openai.start_id, fox, openai.end_id, 0, 0, 0, 0, 0]
    assert tokens.mask.sum(1).tolist() == [8, 3]


def test_entities_white_space_and_capitals_are_cleaned(openai):
    assert openai.encode("Salt &amp;amp; Pepper\n\t ") == openai.encode("salt & pepper")


def test_digits_stand_alone_and_contractions_are_split_off(openai, huggingface):
    for tokenizer in (openai, huggingface):
        assert tokenizer.decode(tokenizer.encode("It's 2024²!!")) == "it 's 2 0 2 4 ² !!"


def test_specials_within_a_text_are_specials(openai, huggingface):
    text = "a <|endoftext|> b"
    assert openai.encode(text) == huggingface.encode(text)
    assert openai.encode(text).count(openai.end_id) == 2
    assert huggingface.encode("...<|endoftext|>").count(huggingface.end_id) == 2


def test_greek_final_sigma_differs_as_between_the_originals(openai, huggingface):
    assert openai.decode(openai.encode("ΟΔΟΣ")) == "οδος"
    assert huggingface.decode(huggingface.encode("ΟΔΟΣ")) == "οδοσ"


def test_decoding_gives_the_cleaned_words(openai, prompts):
    assert openai.decode(openai([prompts[0]]).token_ids[0]) == prompts[0]
    assert openai.decode(openai.encode("dragon 🐉 浮世絵")) == "dragon 🐉 浮世絵"


def small_files(folder, *, joined: bool):
    letters = list(clip_tokenizer._byte_letters().values())
    symbols = [*letters, *(letter + "</w>" for letter in letters), "fo", "fox</w>"]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {symbol: 7 + i for i, symbol in enumerate(symbols)}
    if joined:
        merges = [["f", "o"], "fo x</w>"]  # both spellings occur
        added = [{"content": symbol, "id": vocab.pop(symbol)} for symbol in symbols[-2:]]
        content = {"model": {"vocab": vocab, "merges": merges}, "added_tokens": added}
        (folder / "tokenizer.json").write_text(json.dumps(content))
    else:
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "merges.txt").write_text("#version: 0.2\nf o\nfo x</w>\n")
    return 7 + len(symbols) - 4


@pytest.mark.parametrize("joined", [True, False])
def test_a_folder_of_hugging_face_brings_its_own_vocabulary(joined, tmp_path):
    first = small_files(tmp_path, joined=joined)
    tokenizer = ClipTokenizer.from_folder(tmp_path)
    assert tokenizer.encode("Fox") == [first + 2, first + 1, first + 3]


def test_wrong_use_is_answered(openai, tmp_path):
    with pytest.raises(ValueError, match="a text must be a str, got nan"):
        openai([float("nan")])
    with pytest.raises(ValueError, match="length must be 2 or more"):
        openai(["a"], length=1)
    with pytest.raises(ValueError, match="unknown cleaning 'hf'"):
        ClipTokenizer([], cleaning="hf")
    with pytest.raises(ValueError, match="the vocabulary lacks"):
        ClipTokenizer([], vocab={"a": 0})
    with pytest.raises(FileNotFoundError, match=r"ClipTokenizer\.packaged"):
        ClipTokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not of a byte-pair tokenizer"):
        ClipTokenizer.from_folder(tmp_path)
