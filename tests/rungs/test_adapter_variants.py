"""Variants of an adapter: one kind of module taken out, and nothing else."""

from __future__ import annotations

from pathlib import Path

from support.effects import write_twin_adapter
from tailorbird.rungs import module_kinds, without_kind
from tailorbird.system.tensor_header import tensor_spans


def tensors(adapter: Path) -> dict[str, bytes]:
    content = (adapter / "adapter_model.safetensors").read_bytes()
    return {name: content[start:end] for name, (start, end) in tensor_spans(adapter / "adapter_model.safetensors").items()}


def test_one_kind_is_zero_in_the_copy_and_the_rest_is_the_same(tmp_path: Path) -> None:
    whole = write_twin_adapter(tmp_path / "a", 1)
    before = tensors(whole)
    lacking = tensors(without_kind(whole, tmp_path / "b", "v_proj"))
    changed = {name for name in before if before[name] != lacking[name]}
    assert changed == {name for name in before if ".v_proj.lora_B." in name}
    assert len(changed) == 2
    assert all(not any(lacking[name]) for name in changed)
    assert tensors(whole) == before


def test_what_is_in_no_such_format_has_no_kinds(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert module_kinds(tmp_path) == ()
    for content in (b"", b"\xff" * 64, (2).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"):
        (tmp_path / "adapter_model.safetensors").write_bytes(content)
        assert module_kinds(tmp_path) == ()
