"""Files of a base model that claim or hold too much are refused by a confined process, and this one reads none of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from support.memory import Growth
from tailorbird.base_models import ModelDigests, describe
from tailorbird.domain.errors import ModelInvalid

DIGEST = "sha256:" + "0" * 64
DIGESTS = ModelDigests(tree=DIGEST, tokenizer=DIGEST, chat_template=DIGEST)
CONFIG = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "vocab_size": 4,
    "max_position_embeddings": 8,
    "intermediate_size": 8,
    "num_attention_heads": 1,
}


def model(folder: Path, *, config: str = json.dumps(CONFIG), weights: bytes = b"") -> Path:
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def headed(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"\xff" * 8,
        headed(b"{", 2**60),
        headed(b'{"a":{"shape":[' + b"9" * 5000 + b"]}}"),
        headed(b'{"a":{"shape":[' + b"99999999999999999999," * 100_000 + b"1]}}"),
        headed(b"[" * 1_000_000),
        headed(b'{"a":' * 500_000),
        headed(b'{"a":{"shape":"' + b"x" * 100 + b'"}}'),
        headed(b"[" + b"[]," * 8_000_000 + b"[]]"),
    ],
    ids=["empty", "short", "2^60", "digits", "product", "deep list", "deep object", "no numbers", "many lists"],
)
def test_headers_that_claim_too_much(tmp_path: Path, weights: bytes) -> None:
    growth = Growth()
    with pytest.raises(ModelInvalid) as caught:
        describe(model(tmp_path, weights=weights), "m", "MIT", DIGESTS)
    assert caught.value.hint
    assert growth.bytes < 300_000_000


@pytest.mark.parametrize(
    "config",
    [
        "[" * 2_000_000,
        "[]",
        "7",
        json.dumps(CONFIG | {"hidden_size": "x"}),
        json.dumps(CONFIG | {"num_attention_heads": 0}),
        json.dumps(CONFIG | {"hidden_size": [1]}),
        '{"hidden_size": ' + "9" * 5000 + "}",
        "[" + "[]," * 8_000_000 + "[]]",
    ],
    ids=["deep", "list", "number", "text", "zero", "nested", "digits", "many lists"],
)
def test_configs_that_say_what_none_says(tmp_path: Path, config: str) -> None:
    growth = Growth()
    with pytest.raises(ModelInvalid) as caught:
        describe(model(tmp_path, config=config, weights=headed(b"{}")), "m", "MIT", DIGESTS)
    assert caught.value.hint
    assert growth.bytes < 300_000_000
