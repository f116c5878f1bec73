"""Files of base models that come from elsewhere: shapes, tokens, templates, or an error that says so."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.damage import damaged, ends_well, tries, values
from tailorbird.base_models.description import ModelDigests, count_parameters, describe
from tailorbird.base_models.sources import check_source
from tailorbird.chat.prompts import render_pieces
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.prompt import Message

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "vocab_size": 16,
    "max_position_embeddings": 64,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "head_dim": 4,
    "num_key_value_heads": 1,
}
DIGEST = digest_bytes(b"")
DIGESTS = ModelDigests(tree=DIGEST, tokenizer=DIGEST, chat_template=DIGEST)


def weights(header: Any) -> bytes:
    told = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(told)) + told + bytes(24)


HEADER = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


@tries(60)
@given(
    data=damaged([weights(HEADER)])
    | values().map(weights)
    | values().map(lambda value: weights({"a": value}))
    | values().map(lambda value: weights({"a": {"shape": value}}))
)
def test_headers_of_safetensors(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "model.safetensors").write_bytes(data)
        ends_well(lambda: count_parameters(Path(folder)))


def described(folder: Path, config: bytes) -> None:
    (folder / "model.safetensors").write_bytes(weights(HEADER))
    (folder / "config.json").write_bytes(config)
    check_source(folder)
    describe(folder, "tiny", "mit", DIGESTS)


@tries(80)
@given(key=st.sampled_from([*CONFIG, "auto_map"]), value=values(), data=damaged([json.dumps(CONFIG).encode()]), whole=st.booleans())
def test_configurations(key: str, value: Any, data: bytes, whole: bool) -> None:
    config = json.dumps(CONFIG | {key: value}).encode("utf-8", "surrogatepass") if whole else data
    with TemporaryDirectory() as folder:
        ends_well(lambda: described(Path(folder), config))


TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}{{ bos_token }}"
#: Expressions that fail in each way that Python knows, and in some that only Jinja knows.
FAILING = r"""
{{ 1 // 0 }}
{{ messages + 1 }}
{{ messages[0].x.y }}
{{ messages[99] }}
{{ '%d' % 'a' }}
{{ '{a}'.format() }}
{{ '{0.__class__}'.format(1) }}
{{ messages.__class__ }}
{{ ''.join(messages) }}
{{ messages | sort(attribute='x') }}
{{ 'a'.encode('nonsense') }}
{{ 'a' | int(base=99) }}
{{ messages | batch(0) | list }}
{{ range(10**9) }}
{{ 2 ** 9999 }}
{{ 'a' * 10**9 }}
{{ messages | join | center(10**9) }}
{{ cycler() }}
{{ lipsum(n=10**9) }}
{% include 'x' %}
{% import 'x' as y %}
{{ undefined() }}
{{ raise_exception('no') }}
{{ ('a' | list)[0:0:0] }}
{{ messages | random(1) }}
{{ dict(a=1)['b']['c'] }}
{{ 'a' | tojson(indent=-10**9) }}
{{ 1e308 * 10 | int }}
{{ (1e308 * 10) | int }}
{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}
{{ '\ud800' }}
{{ 'a'.split('') }}
{{ [1,2] | sum(start='') }}
{{ namespace(a=1).b }}
{{ 'x' | filesizeformat }}
{{ messages | groupby('nothing') }}
{{ strftime_now('%Q' * 9) }}
{% for a, b in messages %}{% endfor %}
""".strip().splitlines()


def rendered(template: str) -> None:
    turns = [Message(role="user", content="hello <|im_end|>"), Message(role="assistant", content="yes")]
    pieces = render_pieces(template, turns, {"bos_token": "<s>"}, ("<|im_end|>",))
    assert all(isinstance(piece.text, str) for piece in pieces)


@pytest.mark.parametrize("template", FAILING)
def test_templates_that_fail(template: str) -> None:
    ends_well(lambda: rendered(template))


@tries(40)
@given(data=damaged([TEMPLATE.encode(), *(failing.encode() for failing in FAILING)]))
def test_damaged_templates(data: bytes) -> None:
    ends_well(lambda: rendered(data.decode("utf-8", "replace")))
