"""A base model is described from its config and the header of its weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tailorbird.base_models import ModelDigests, describe, pull, register_base
from tailorbird.base_models.description import count_parameters
from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.domain.base_model import EncoderDescription
from tailorbird.domain.errors import Corrupt, ModelInvalid
from tailorbird.domain.value import Digest

DIGESTS = ModelDigests(tree=digest_bytes(b"a"), tokenizer=digest_bytes(b"b"), chat_template=digest_bytes(b"c"))
CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "vocab_size": 10,
    "max_position_embeddings": 64,
    "intermediate_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def model_folder(folder: Path, config: object = CONFIG) -> Path:
    folder.mkdir()
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [10, 8], "data_offsets": [0, 320]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(320))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


class DictStore:
    """Just enough of an artifact store."""

    def __init__(self) -> None:
        self.trees: dict[Digest, dict[str, Digest]] = {}

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        manifest = {path.name: digest_bytes(path.read_bytes()) for path in folder.iterdir()}
        self.trees[digest_of(manifest)] = manifest
        return digest_of(manifest)

    def tree(self, digest: Digest) -> dict[str, Digest]:
        return self.trees[digest]

    def put(self, *parts: bytes | memoryview) -> Digest:
        raise NotImplementedError

    def get(self, digest: Digest) -> bytes:
        raise NotImplementedError

    def get_tree(self, digest: Digest) -> Path:
        raise NotImplementedError

    def exists(self, digest: Digest) -> bool:
        return digest in self.trees


def test_shapes_follow_from_the_config(tmp_path: Path) -> None:
    ref = describe(model_folder(tmp_path / "m"), "m", "MIT", DIGESTS)
    assert (ref.parameters, ref.hidden, ref.layers, ref.vocabulary, ref.context, ref.intermediate) == (80, 8, 2, 10, 64, 16)
    assert ref.linear_shapes == {
        "q_proj": (8, 8),
        "k_proj": (8, 4),
        "v_proj": (8, 4),
        "o_proj": (8, 8),
        "gate_proj": (8, 16),
        "up_proj": (8, 16),
        "down_proj": (16, 8),
    }
    assert (ref.digest, ref.tokenizer_digest, ref.chat_template_digest) == (DIGESTS.tree, DIGESTS.tokenizer, DIGESTS.chat_template)


@pytest.mark.parametrize(
    "shape",
    [
        "NaN",
        "[-1]",
        "[1.5]",
        "null",
    ],
)
def test_a_tensor_without_a_shape_is_refused(shape: str, tmp_path: Path) -> None:
    """JSON as Python reads it knows numbers that are none."""
    header = f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 4]}}}}'.encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ModelInvalid) as refused:
        count_parameters(tmp_path)
    assert refused.value.error_code == "model_unreadable"


def test_register_names_tree_tokenizer_and_template(tmp_path: Path) -> None:
    folder, store = model_folder(tmp_path / "m"), DictStore()
    ref = register_base(folder, "smollm2-135m", store)
    assert store.exists(ref.digest)
    assert ref.license == "Apache-2.0"
    assert ref.chat_template_digest == digest_bytes(b"{{ messages }}")
    assert ref.tokenizer_digest == digest_of({"tokenizer.json": digest_bytes(b"{}")})


def test_register_notices_a_file_that_was_changed(tmp_path: Path) -> None:
    class Reader:
        def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
            for path in source.iterdir():
                (target / path.name).write_bytes(path.read_bytes())

    folder = pull(str(model_folder(tmp_path / "m")), tmp_path / "cache", Reader)
    register_base(folder, "m", DictStore())
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(Corrupt) as caught:
        register_base(folder, "m", DictStore())
    assert "tokenizer.json" in caught.value.message
