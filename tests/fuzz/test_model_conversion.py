"""Weights and tokenizers of base models that come from elsewhere: a model that can be used, or an error that says why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.damage import damaged, ends_well, tries, values
from support.tiny_models import TOKENIZERS, write_gguf, write_model
from tailorbird.chat.tokenizer import declared_ends, read_tokenizer, special_tokens
from tailorbird.inference import open_model_reader

TEXTS = ("", " ", "The 12 quick\n\tfoxes' tails, naïve 漢字 \U0001f600", "<s>the</s>", "the " * 300, "\ufffd\u0300" * 50)


pytestmark = pytest.mark.usefixtures("warm_converter")


def used(source: Path, target: Path) -> None:
    """Converts a model, and reads texts with its tokenizer as whoever trains or serves does."""
    target.mkdir()
    open_model_reader().convert(source, target)
    tokenizer = read_tokenizer(target)
    for text in TEXTS:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.decode(tokens, skip_special_tokens=False)
    special_tokens(target)
    declared_ends(target)


@cache
def gguf_bytes() -> bytes:
    with TemporaryDirectory() as folder:
        return write_gguf(Path(folder) / "m.gguf").read_bytes()


def gguf_is_used(data: bytes) -> bool:
    with TemporaryDirectory() as folder:
        (Path(folder) / "m.gguf").write_bytes(data)
        return ends_well(lambda: used(Path(folder) / "m.gguf", Path(folder) / "target"))


@tries(6)
@given(data=st.data())
def test_damaged_gguf_files(data: st.DataObject) -> None:
    gguf_is_used(data.draw(damaged([gguf_bytes()])))


def _places(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Each place of a JSON value; of long lists only the beginning."""
    yield path
    inside = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, inner in inside[:6]:
        yield from _places(inner, (*path, key))


def _with(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = _with(tree[path[0]], path[1:], value)
    return copy


#: Values that a tokenizer could hold in the place of others.
ODD: tuple[Any, ...] = (
    {"Regex": "(a|a)*b"},
    {"String": ""},
    {"type": "Prepend", "prepend": "x" * 1000},
    {"type": "ByteFallback"},
    {"type": "FixedLength", "length": 0},
    {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
    "",
    2**32,
    {},
    None,
)


@cache
def model_files(kind: str) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in write_model(Path(folder) / "m", kind).iterdir()}


def model_is_used(kind: str, **changed: bytes) -> bool:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "m"
        source.mkdir()
        for name, data in (model_files(kind) | {name.replace("__", "."): data for name, data in changed.items()}).items():
            (source / name).write_bytes(data)
        return ends_well(lambda: used(source, Path(folder) / "target"))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers_with_other_values(kind: str) -> None:
    whole = json.loads(model_files(kind)["tokenizer.json"])
    places = list(_places(whole))

    @tries(4)
    @given(place=st.sampled_from(places), value=st.sampled_from(ODD) | values())
    def story(place: tuple[str | int, ...], value: Any) -> None:
        model_is_used(kind, tokenizer__json=json.dumps(_with(whole, place, value)).encode("utf-8", "surrogatepass"))

    story()


@tries(5)
@given(data=st.data(), kind=st.sampled_from(sorted(TOKENIZERS)), name=st.sampled_from(("tokenizer.json", "tokenizer_config.json")))
def test_damaged_tokenizers(data: st.DataObject, kind: str, name: str) -> None:
    model_is_used(kind, **{name.replace(".", "__"): data.draw(damaged([model_files(kind)[name]]))})
