"""Foreign tokenizers and GGUF files: what could hang or fill the process that trains or serves is refused when the model is converted."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference import model_converter, open_model_reader
from tailorbird.inference.text.tokenizer_check import may_run_away

pytestmark = pytest.mark.usefixtures("warm_converter")

#: Patterns of tokenizers in use.
IN_USE = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+",
    "flags": r"(?i)'s|'t|(?-i:re)|\p{L}+",
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "kimi": r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}&&[^\p{Han}]]+(?i:'s|'t)?",
    "possessive": r"(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|\s+$",
}


def test_patterns_in_use_are_taken() -> None:
    assert [name for name, pattern in IN_USE.items() if may_run_away(pattern)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+\s?)*!",
        r"(a|a)+$",
        r"(a+){2,}b",
        r"(a)\1",
        r"(?<n>a\g<n>?)",
        "(((",
        "a" * 5000,
        r"(?:z{1,30}){1,30}q",
        "(z|z)" * 40 + "q",
        "z?" * 40 + "q",
        r"(?:(?:z|zz)(?:z|zz)){9}q",
        r"(?~z)",
        "(" * 400 + ")" * 400,
    ],
)
def test_patterns_that_go_back_without_end_are_refused(pattern: str) -> None:
    assert may_run_away(pattern)


def refused(source: Path, target: Path) -> ModelInvalid:
    target.mkdir()
    with pytest.raises(ModelInvalid) as caught:
        open_model_reader().convert(source, target)
    assert caught.value.hint
    return caught.value


def changed(tiny: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(tiny, folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return folder


def test_a_tokenizer_that_is_slow_on_a_letter_of_its_own_is_refused(tiny: Path, tmp_path: Path) -> None:
    """Each place of a text is tried from its own, and no text of usual letters shows it."""
    slow = {"type": "Split", "pattern": {"Regex": "ᚠ*ᚠ*ᚢ"}, "behavior": "Isolated", "invert": False}
    error = refused(changed(tiny, tmp_path / "m", pre_tokenizer=slow), tmp_path / "t")
    assert error.error_code in ("model_unreadable", "parser_processor")


@pytest.fixture
def less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the memory that a conversion may take, which an honest model does not need either: a bomb has less to fill."""
    usual = model_converter._limits
    monkeypatch.setattr(model_converter, "_limits", lambda source: replace(usual(source), memory=3 << 30))


@pytest.mark.usefixtures("less_memory")
def test_a_tokenizer_that_grows_what_it_reads_is_refused(tiny: Path, tmp_path: Path) -> None:
    """Each of forty steps makes ten letters of one."""
    steps = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 40
    error = refused(changed(tiny, tmp_path / "m", normalizer={"type": "Sequence", "normalizers": steps}), tmp_path / "t")
    assert error.error_code in ("parser_memory", "parser_crashed", "parser_processor")


@pytest.mark.usefixtures("less_memory")
def test_a_template_that_joins_without_end_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "m")
    bomb = "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
    (tmp_path / "m" / "chat_template.jinja").write_text(bomb)
    assert refused(tmp_path / "m", tmp_path / "t").error_code in ("parser_memory", "chat_template")


@pytest.mark.parametrize(
    ("tensors", "pairs"),
    [
        (2**60, 1),
    ],
)
def test_a_gguf_file_that_claims_too_much_is_refused(tmp_path: Path, tensors: int, pairs: int) -> None:
    named = struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama"
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + named)
    assert refused(tmp_path / "m.gguf", tmp_path / "t").error_code in ("model_unreadable", "parser_memory", "parser_processor")


@pytest.mark.usefixtures("less_memory")
@pytest.mark.parametrize(("layers", "codes"), [(1_000_000, {"model_config"}), (200, {"model_unreadable", "parser_memory"})])
def test_a_config_that_asks_for_more_weights_than_there_are_is_refused(tiny: Path, tmp_path: Path, layers: int, codes: set[str]) -> None:
    shutil.copytree(tiny, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"num_hidden_layers": layers, "hidden_size": 65536}))
    assert refused(tmp_path / "m", tmp_path / "t").error_code in codes
