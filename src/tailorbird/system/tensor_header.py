"""Header of a safetensors file: where each tensor's bytes stand."""

from __future__ import annotations

import json
from pathlib import Path


def tensor_spans(path: Path) -> dict[str, tuple[int, int]]:
    """First byte and end of each tensor in the file, by name. Raises ValueError where the file is none of this format.

    Source: the format's description (github.com/huggingface/safetensors): eight bytes of length, a header in JSON, the tensors.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path.name} is no safetensors file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} is no safetensors file")
    begin = 8 + length
    spans = ((name, entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__")
    return {name: (begin + start, begin + end) for name, (start, end) in spans}
