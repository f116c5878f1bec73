"""Checkpoints that are encrypted come back bit for bit, or are passed over for an older one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tailorbird.domain.errors import Corrupt
from tailorbird.training.checkpoints import CheckpointOrigin, Checkpoints, LoopState, read_sealed, write_sealed

KEY = bytes(range(32))
DIGEST = "sha256:" + "1" * 64


def tensors() -> dict[str, torch.Tensor]:
    return {
        "weights": torch.arange(100_000, dtype=torch.float32).reshape(100, 1000),
        "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "step.one": torch.tensor(7.0),
        "empty": torch.empty(0, 3),
        "flags": torch.tensor([True, False]),
        "number": torch.tensor([2**40]),
    }


def test_tensors_of_every_kind_come_back(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", tensors(), KEY, "step-1")
    found = read_sealed(tmp_path / "file", KEY, "step-1")
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)
    assert tensors()["weights"].numpy().tobytes()[:64] not in (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("damage", ["flipped", "cut", "another key", "another name"])
def test_a_changed_file_is_refused(tmp_path: Path, damage: str) -> None:
    write_sealed(tmp_path / "file", tensors(), KEY, "step-1")
    data = bytearray((tmp_path / "file").read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
    (tmp_path / "file").write_bytes(data[:-20] if damage == "cut" else data)
    with pytest.raises(Corrupt):
        read_sealed(tmp_path / "file", bytes(32) if damage == "another key" else KEY, "step-2" if damage == "another name" else "step-1")


def opened(folder: Path, key: bytes | None = KEY) -> Checkpoints:
    return Checkpoints(folder, CheckpointOrigin(job=DIGEST, code=DIGEST, seal_key=key.hex() if key else ""))


def test_checkpoints_go_on_and_nothing_of_them_lies_in_the_clear(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    for step in (1, 2):
        checkpoints.save_best(step, tensors())
        checkpoints.save(LoopState(step=step, best_step=step), tensors())
    found = opened(tmp_path).newest()
    assert found is not None
    assert found.state.step == 2
    assert torch.equal(found.tensors["weights"], tensors()["weights"])
    piece = tensors()["weights"].numpy().tobytes()[:64]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and piece in path.read_bytes()]
    damaged = tmp_path / "checkpoints" / "step-00000002" / "tensors.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    older = opened(tmp_path).newest()
    assert older is not None
    assert older.state.step == 1


def test_a_checkpoint_with_tensors_of_another_time_is_not_whole(tmp_path: Path) -> None:
    """Whoever can write the folder puts back what was encrypted with the same key for the same name, but for another state."""
    place = tmp_path / "checkpoints" / "step-00000001" / "tensors.safetensors"
    checkpoints = opened(tmp_path)
    checkpoints.save_best(1, tensors())
    checkpoints.save(LoopState(step=1, best_step=1), tensors())
    former = place.read_bytes()
    checkpoints.save(LoopState(step=1, best_step=1), {name: tensor + 1 for name, tensor in tensors().items()})
    place.write_bytes(former)
    assert opened(tmp_path).newest() is None
