"""In-memory model reader, which writes the smallest valid model folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from tailorbird.base_models.encoder_vectors import ENCODER_FILE, encoder_json
from tailorbird.domain.base_model import EncoderDescription, EncoderFile, LinearGroup, ModelAnatomy, ModelShape
from tailorbird.domain.errors import ModelInvalid
from tailorbird.ports.model_reader import GgufFile, GgufJob

_CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 32,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def toy_encoder(stated: EncoderDescription | None = None) -> EncoderFile:
    """What describes the toy model as an encoder."""
    described = stated or EncoderDescription(max_tokens=128, width=64)
    sizes = {"hidden": 8, "layers": 2, "vocabulary": 32, "context": 128, "intermediate": 16}
    return EncoderFile(description=described, linear_shapes={"attention.query": (8, 8)}, **sizes)


class MemoryModelReader:
    """A ``ModelReader`` that reads no weights: every source becomes the same toy model, of its own width; an encoder where one is
    ``stated``, or where it has the modules of one."""

    def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
        """Writes the toy model into ``target``. Raises ModelInvalid when ``source`` is not there."""
        if not source.exists():
            raise ModelInvalid(f"there is no model at {source.name}", "give the path of a model", code="model_missing")
        config = _CONFIG | _width(source / "config.json")
        (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (target / "tokenizer.json").write_text(
            json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {}}}), encoding="utf-8"
        )
        (target / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 128}), encoding="utf-8")
        if stated or (source / "modules.json").is_file():
            (target / ENCODER_FILE).write_text(encoder_json(toy_encoder(stated)), encoding="utf-8")
        else:
            (target / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")
        (target / "model.safetensors").write_bytes(_zeros("model.embed_tokens.weight", 32, int(str(config["hidden_size"]))))

    def describe(self, source: Path) -> ModelShape:
        """One linear layer in each block, of the config's width."""
        config = json.loads((source if source.is_file() else source / "config.json").read_text(encoding="utf-8"))
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        group = LinearGroup(name="in_proj", inputs=hidden, outputs=hidden, count=layers)
        return ModelShape(
            hidden=hidden,
            layers=layers,
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            intermediate=hidden,
            linear_shapes={"in_proj": (hidden, hidden)},
            anatomy=ModelAnatomy(
                model_type=config["model_type"], heads=0, key_heads=0, head_width=0, linear_groups=(group,), recurrent=True
            ),
            parameters=layers * hidden * hidden + config["vocab_size"] * hidden,
        )

    def write_gguf(self, job: GgufJob) -> GgufFile:
        """Writes what would be written, as JSON, and finds no difference."""
        sources = {"source": sorted(path.name for path in job.source.iterdir()), "facts": job.facts}
        job.target.write_text(json.dumps(sources, sort_keys=True), encoding="utf-8")
        size = job.target.stat().st_size
        given = {
            "architecture": "llama",
            "precision": job.precision,
            "tensors": 1,
            "positions": len(job.probes),
            "mean_kl": 0.0,
            "max_kl": 0.0,
        }
        return GgufFile.model_validate({"name": job.target.name, "size": size, **given})


def _width(config: Path) -> dict[str, object]:
    if not config.is_file():
        return {}
    return {name: size for name, size in json.loads(config.read_text(encoding="utf-8")).items() if name == "hidden_size"}


def _zeros(name: str, rows: int, columns: int) -> bytes:
    """A safetensors file with one fp32 matrix of zeros: little-endian header length, JSON header, data."""
    size = 4 * rows * columns
    header = json.dumps({name: {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)
