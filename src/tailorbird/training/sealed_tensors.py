"""Tensors in an encrypted file: the safetensors format, streamed through authenticated encryption, never in the clear on a disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, cast

import torch

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.crypto.sealed_stream import HEADER, reader_of, sealed_pieces, unsealing
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.value import Digest

#: Names of types in the safetensors format.
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_NAMED = {name: kind for kind, name in _TYPES.items()}
#: The header is padded to a multiple of this; it comes after its length in so many bytes.
_ALIGNED = 8
#: What is read ahead of parts smaller than this; larger ones go straight to where they are wanted.
_PIECE = 1 << 16


def write_sealed(path: Path, tensors: Mapping[str, torch.Tensor], key: bytes, name: str) -> None:
    """Writes contiguous ``tensors`` of the CPU to ``path``, encrypted for ``name``; on the disk when this returns. Raises OSError."""
    source = reader_of(_parts(tensors), _PIECE)
    with path.open("wb") as file:
        for piece in sealed_pieces(source, key, name.encode()):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def read_sealed(path: Path, key: bytes, name: str) -> dict[str, torch.Tensor]:
    """The tensors in the file at ``path``, which was encrypted for ``name``. Raises OSError, Corrupt."""
    with path.open("rb") as file:
        stream = unsealing(file, key, name.encode())
        header = json.loads(stream.read(int.from_bytes(stream.read(_ALIGNED), "little")))
        read = {tensor: torch.empty(said["shape"], dtype=_NAMED[said["dtype"]]) for tensor, said in header.items()}
        for tensor in sorted(header, key=lambda tensor: header[tensor]["data_offsets"]):
            _fill(stream, read[tensor])
        stream.read(1)  # the end is authenticated, too
    return read


def digest_header(path: Path) -> Digest:
    """Digest of the header of an encrypted file, which has a salt of its own. Raises OSError."""
    with path.open("rb") as file:
        return digest_bytes(file.read(HEADER))


def _parts(tensors: Mapping[str, torch.Tensor]) -> Iterator[memoryview]:
    header, end = dict[str, object](), 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    yield memoryview(len(text).to_bytes(_ALIGNED, "little") + text)
    for tensor in tensors.values():
        yield _bytes_of(tensor)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return memoryview(cast(bytes, tensor.reshape(-1).view(torch.uint8).numpy()))


def _fill(stream: IO[bytes], tensor: torch.Tensor) -> None:
    left = _bytes_of(tensor)
    while left and (count := stream.readinto(left)):  # type: ignore[attr-defined]
        left = left[count:]
    if left:
        raise Corrupt("an encrypted file ends within its tensors", "restore it from a backup, or train again", code="sealed_truncated")
