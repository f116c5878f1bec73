"""Tensors in an encrypted file: the safetensors format, streamed through authenticated encryption, never in the clear on a disk.

Crash-safe checkpoints, with the state of the training loop.

checkpoints/step-00000040/{state.json, tensors.safetensors}
checkpoints/best-00000030.safetensors        the weights with the lowest held-out loss, written once
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from uuid import uuid4

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.crypto.sealed_stream import HEADER, reader_of, sealed_pieces, unsealing
from tailorbird.domain.errors import Conflict, Corrupt, InvalidInput
from tailorbird.domain.run import TrainingProgress
from tailorbird.domain.value import Digest, Value
from tailorbird.system.files import digest_file, flush_path, private_folder

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
        raise Corrupt("an encrypted file ends within its tensors", "restore it from a backup, or train again")


#: Evaluations in a row that lie above the best beyond their interval, before a run is stopped: one alone may be chance.
_PATIENCE = 2


class LoopState(Value):
    """After ``step`` optimiser steps.

    ``tokens`` counts prompt and answer tokens as if each row stood alone; losses in nats per answer token. ``seconds`` are all time of the
    loop, evaluations included, ``process_memory_gb`` the highest resident set of any process that ran it.
    ``best_row_losses`` are those of the best step, ``rises`` the evaluations in a row that lay above it for certain.
    ``waited`` steps were added while the run stood on its plateau (``Plateau``), found after the steps ``waits``; ``left_plateau`` is the
    step after which it was found to have left it.
    """

    step: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    peak_memory_gb: float = 0.0
    process_memory_gb: float = 0.0
    first_held_out_loss: float | None = None
    best_held_out_loss: float | None = None
    best_step: int = 0
    best_row_losses: tuple[float, ...] = ()
    rises: int = 0
    stopped_early: int | None = None
    history: tuple[TrainingProgress, ...] = ()
    waited: int = 0
    waits: tuple[int, ...] = ()
    left_plateau: int | None = None
    untrained_row_losses: tuple[float, ...] = ()

    def judged(self, held_out_loss: float, row_losses: tuple[float, ...], risen: bool) -> LoopState:
        """With a held-out loss measured now; the first of equal losses stays the best.

        ``risen``: it lies above the best for certain. That it does so twice in a row ends the run.
        """
        better = self.best_held_out_loss is None or held_out_loss < self.best_held_out_loss
        rises = self.rises + 1 if risen else 0
        judged: dict[str, object] = {"rises": rises, "stopped_early": self.step if rises >= _PATIENCE else None}
        if self.first_held_out_loss is None:
            judged["first_held_out_loss"] = held_out_loss
        if better:
            judged |= {"best_held_out_loss": held_out_loss, "best_step": self.step, "best_row_losses": row_losses}
        return self.model_copy(update=judged)


_KEPT = 2
_TENSORS = "tensors.safetensors"


class CheckpointOrigin(Value):
    """What a checkpoint continues: a job, and the code that computes it. ``seal_key`` encrypts tensors (32 bytes in hexadecimal digits;
    empty: they are in the clear)."""

    job: Digest
    code: Digest
    seal_key: str = Field(default="", repr=False)


class _Manifest(Value):
    job: Digest
    code: Digest
    state: LoopState
    tensors: Digest
    best: Digest


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A moment of a run: its numbers, and the tensors to go on from."""

    state: LoopState
    tensors: dict[str, torch.Tensor]


class Checkpoints:
    """The checkpoints of ``origin`` in ``workspace``; one of the processes that train together ``clears`` what was broken off. Raises
    InvalidInput when the folder cannot be written."""

    def __init__(self, workspace: Path, origin: CheckpointOrigin, *, clears: bool = True) -> None:
        self.workspace = workspace
        self._folder = workspace / "checkpoints"
        self._origin = origin
        self._best_digests: dict[int, Digest] = {}
        try:
            private_folder(self._folder)
            for left in self._folder.glob(".new-*") if clears else ():
                _remove(left)
        except OSError as error:
            raise InvalidInput(
                f"the workspace {workspace.name} cannot be written ({type(error).__name__})",
                "give a folder that this user may write to",
                code="workspace_unwritable",
            ) from error

    def save_best(self, step: int, weights: dict[str, torch.Tensor]) -> None:
        """Keeps ``weights`` as the best so far, reached at ``step``."""
        new = self._folder / _new(f"best-{step:08d}")
        self._write(new, weights, self._best(step))
        self._best_digests[step] = self._digest(new)
        new.replace(self._best(step))
        flush_path(self._folder)

    def save(self, state: LoopState, tensors: dict[str, torch.Tensor]) -> None:
        """Keeps a moment, whose best weights were saved before. All but the newest two are dropped, before the new one is written: of all
        weights of a model each takes thrice their size."""
        new, place = self._folder / _new(f"step-{state.step:08d}"), self._folder / f"step-{state.step:08d}"
        # One of the same step is replaced, so that another one must stand beside it.
        self._drop([other for other in self._places() if other != place][: -(_KEPT - 1)], state.best_step)
        private_folder(new)
        self._write(new / _TENSORS, tensors, place)
        manifest = _Manifest(
            job=self._origin.job,
            code=self._origin.code,
            state=state,
            tensors=self._digest(new / _TENSORS),
            best=self._best_digests[state.best_step],
        )
        (new / "state.json").write_text(manifest.model_dump_json(), encoding="utf-8")
        flush_path(new / "state.json")
        _remove(place)
        new.replace(place)
        flush_path(self._folder)
        self._drop(self._places()[:-_KEPT])

    def newest(self) -> TrainingCheckpoint | None:
        """The newest whole checkpoint, or None; broken ones above it are removed. Raises Conflict when the folder holds another job's."""
        for place in reversed(self._places()):
            found = self._whole(place)
            if found is not None:
                return found
            _remove(place)
        return None

    def _whole(self, place: Path) -> TrainingCheckpoint | None:
        manifest = _read_manifest(place)
        if manifest is None:
            return None
        if manifest.job != self._origin.job:
            raise Conflict(
                "the workspace holds a checkpoint of another job: its settings, prompt, data or base model differ",
                "use a new workspace, or remove the old checkpoints to start afresh",
                code="checkpoint_foreign",
            )
        if manifest.code != self._origin.code:
            raise Conflict(
                "the training was begun by other code: tailorbird or a library that computes has changed since",
                "install the versions of then; or remove the folder of the run below runs/ in the workspace, to start afresh",
                code="checkpoint_foreign",
            )
        self._best_digests[manifest.state.best_step] = manifest.best
        tensors = self._read(place / _TENSORS, manifest.tensors, place)
        if tensors is None or self.best(manifest.state.best_step) is None:
            return None
        return TrainingCheckpoint(manifest.state, tensors)

    def best(self, step: int) -> dict[str, torch.Tensor] | None:
        """The best weights, reached at ``step``; None where they are no longer what was written."""
        return self._read(self._best(step), self._best_digests[step], self._best(step))

    def _write(self, path: Path, tensors: dict[str, torch.Tensor], place: Path) -> None:
        """Encrypted, where there is a key, for the name of the ``place`` that ``path`` is renamed to, or lies in."""
        if self._origin.seal_key:
            write_sealed(path, _held(tensors), bytes.fromhex(self._origin.seal_key), place.name)
        else:
            write_tensors(path, tensors)

    def _digest(self, path: Path) -> Digest:
        """Names what lies at ``path``. An encrypted file is known by its header, whose salt no other has: the rest is authenticated by it,
        and is not hashed once more."""
        return digest_header(path) if self._origin.seal_key else digest_file(path)

    def _read(self, path: Path, digest: Digest, place: Path) -> dict[str, torch.Tensor] | None:
        if not self._origin.seal_key:
            try:
                return load_file(path) if digest_file(path) == digest else None
            except (OSError, SafetensorError):
                return None
        try:
            known = digest == digest_header(path)
            return read_sealed(path, bytes.fromhex(self._origin.seal_key), place.name) if known else None
        except (OSError, Corrupt):
            return None

    def _drop(self, places: Sequence[Path], *bests: int) -> None:
        """Moments, and the best weights that belong to none that is left, but not those reached at the steps ``bests``."""
        for place in places:
            _remove(place)
        needed = {manifest.state.best_step for place in self._places() if (manifest := _read_manifest(place))} | set(bests)
        for best in self._folder.glob("best-*.safetensors"):
            if best not in {self._best(step) for step in needed}:
                _remove(best)

    def _places(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"))

    def _best(self, step: int) -> Path:
        return self._folder / f"best-{step:08d}.safetensors"


def _new(name: str) -> str:
    """What ``name`` is called while it is written; no two alike, since a write that was broken off may still go on."""
    return f".new-{name}-{uuid4().hex[:8]}"


def _read_manifest(place: Path) -> _Manifest | None:
    try:
        return _Manifest.model_validate_json((place / "state.json").read_bytes())
    except (OSError, ValidationError):
        return None


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes ``tensors`` to ``path`` and waits until they are on the disk. Raises OSError."""
    save_file(_held(tensors), path)
    flush_path(path)


def _held(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # processes that train together find the same broken ones
    else:
        path.unlink(missing_ok=True)
