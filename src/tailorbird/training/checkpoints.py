"""Crash-safe checkpoints, with the state of the training loop.

checkpoints/step-00000040/{state.json, tensors.safetensors}
checkpoints/best-00000030.safetensors        the weights with the lowest held-out loss, written once
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tailorbird.domain.errors import Conflict, Corrupt, InvalidInput
from tailorbird.domain.run import TrainingProgress
from tailorbird.domain.value import Digest, Value
from tailorbird.system.files import digest_file, flush_path, private_folder
from tailorbird.system.threads import LOADED, ClockReading
from tailorbird.training.deferred_signals import beside
from tailorbird.training.sealed_tensors import digest_header, read_sealed, write_sealed

#: Evaluations in a row that lie above the best beyond their interval, before a run is stopped: one alone may be chance.
_PATIENCE = 2


class LoopState(Value):
    """After ``step`` optimiser steps.

    ``tokens`` counts prompt and answer tokens as if each row stood alone; losses in nats per answer token. ``seconds`` are all time of the
    loop, evaluations included, ``thread_seconds`` the processor's in the thread that runs it, ``kept_seconds`` those in which a thread was
    kept from the cores by other processes, ``process_memory_gb`` the highest resident set of any process that ran it. ``token_budget`` and
    ``recompute`` are how passes are computed since memory was short, ``halved_at`` the steps before which the budget was halved.
    ``best_row_losses`` are those of the best step, ``rises`` the evaluations in a row that lay above it for certain. ``pending`` is the
    line of the last step until it has been judged, where the step is one that is judged, and noted: a run that was interrupted meanwhile
    goes on there. ``waited`` steps were added while the run stood on its plateau
    (``Plateau``), found after the steps ``waits``; ``left_plateau`` is the step after which it was found to have left it.
    """

    step: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    thread_seconds: float = 0.0
    kept_seconds: float = 0.0
    peak_memory_gb: float = 0.0
    process_memory_gb: float = 0.0
    first_held_out_loss: float | None = None
    best_held_out_loss: float | None = None
    best_step: int = 0
    best_row_losses: tuple[float, ...] = ()
    rises: int = 0
    stopped_early: int | None = None
    token_budget: int | None = None
    recompute: bool = False
    halved_at: tuple[int, ...] = ()
    history: tuple[TrainingProgress, ...] = ()
    pending: TrainingProgress | None = None
    waited: int = 0
    waits: tuple[int, ...] = ()
    left_plateau: int | None = None
    untrained_row_losses: tuple[float, ...] = ()

    def spent(self, lap: ClockReading) -> LoopState:
        """With the time of ``lap``."""
        kept = lap.waited / lap.threads
        took = {"seconds": lap.passed, "thread_seconds": lap.thread, "kept_seconds": kept}
        return self.model_copy(update={name: getattr(self, name) + more for name, more in took.items()})

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

    @property
    def loaded(self) -> bool:
        """Whether other processes wanted the cores."""
        return self.kept_seconds > LOADED * self.seconds

    def halved(self, token_budget: int) -> LoopState:
        """With passes of at most ``token_budget`` tokens from the next step on."""
        return self.model_copy(update={"token_budget": token_budget, "halved_at": (*self.halved_at, self.step)})


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

    def at(self, step: int) -> TrainingCheckpoint:
        """The checkpoint after ``step``, which another process of the team has found whole. Raises Conflict (``checkpoint_unseen``)."""
        found = self._whole(self._folder / f"step-{step:08d}")
        if found is None:
            raise Conflict(
                f"the checkpoint after step {step} cannot be read by all processes that train together",
                "see that nothing else writes to the workspace, then start again",
                code="checkpoint_unseen",
            )
        return found

    def _whole(self, place: Path) -> TrainingCheckpoint | None:
        manifest = _read_manifest(place)
        if manifest is None:
            return None
        if manifest.job != self._origin.job:
            raise _foreign()
        if manifest.code != self._origin.code:
            raise _other_code()
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
            held, key = _held(tensors), bytes.fromhex(self._origin.seal_key)
            beside(lambda: write_sealed(path, held, key, place.name))
        else:
            write_tensors(path, tensors)

    def _digest(self, path: Path) -> Digest:
        """Names what lies at ``path``. An encrypted file is known by its header, whose salt no other has: the rest is authenticated by it,
        and is not hashed once more."""
        return digest_header(path) if self._origin.seal_key else digest_file(path)

    def _read(self, path: Path, digest: Digest, place: Path) -> dict[str, torch.Tensor] | None:
        if not self._origin.seal_key:
            return _read_tensors(path, digest)
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


def _foreign() -> Conflict:
    return Conflict(
        "the workspace holds a checkpoint of another job: its settings, prompt, data or base model differ",
        "use a new workspace, or remove the old checkpoints to start afresh",
        code="checkpoint_foreign",
    )


def _other_code() -> Conflict:
    return Conflict(
        "the training was begun by other code: tailorbird or a library that computes has changed since",
        "install the versions of then; or remove the folder of the run below runs/ in the workspace, to start afresh",
        code="checkpoint_other_code",
    )


def _read_manifest(place: Path) -> _Manifest | None:
    try:
        return _Manifest.model_validate_json((place / "state.json").read_bytes())
    except (OSError, ValidationError):
        return None


def _read_tensors(path: Path, digest: Digest) -> dict[str, torch.Tensor] | None:
    try:
        return load_file(path) if digest_file(path) == digest else None
    except (OSError, SafetensorError):
        return None


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes ``tensors`` to ``path`` and waits until they are on the disk. Raises OSError."""
    held = _held(tensors)
    beside(lambda: save_file(held, path))
    flush_path(path)


def _held(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
