"""Tensors of an adapter's file: those that the library reads, whatever the number format, and nothing where the file is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.forward.adapter_files import adapter_tensors

NAME = "adapter_model.safetensors"


def written(folder: Path, *dtypes: torch.dtype) -> Path:
    drawn = torch.Generator().manual_seed(1)
    save_file(
        {f"t{at}": torch.randn(3 + at, 5, generator=drawn).to(dtype) for at, dtype in enumerate(dtypes)}, folder / NAME, {"format": "pt"}
    )
    return folder / NAME


def test_they_are_those_that_the_library_reads(tmp_path: Path) -> None:
    path = written(tmp_path, torch.bfloat16, torch.float16, torch.float32, torch.float64)
    found, wanted = adapter_tensors(tmp_path), load_file(path)
    assert found.keys() == wanted.keys()
    assert all(found[name].dtype is each.dtype and torch.equal(found[name], each) for name, each in wanted.items())


def with_header(change: Callable[[dict[str, dict[str, object]]], object]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        change(header)
        told = json.dumps(header).encode()
        return len(told).to_bytes(8, "little") + told + data[8 + size :]

    return changed


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:-4],
    "a header beyond the end": lambda data: (2**62).to_bytes(8, "little") + data[8:],
    "a place beyond the end": with_header(lambda header: header["t0"].update(data_offsets=[8, 68])),
    "another shape": with_header(lambda header: header["t0"].update(shape=[3, 6])),
    "an unknown number format": with_header(lambda header: header["t0"].update(dtype="X9")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = written(tmp_path, torch.float32)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ModelInvalid) as refused:
        adapter_tensors(tmp_path)
    assert refused.value.error_code == "adapter_invalid"
