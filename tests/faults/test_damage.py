"""Bytes that are not what was stored: truncated, flipped, gone. Each is named and refused, nothing is made or served from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.faults import Desk, Ending, adapt_here, ending_of, opened
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Dependencies, admit


def truncate(blob: Path) -> None:
    blob.write_bytes(blob.read_bytes()[:-1])


def flip(blob: Path) -> None:
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 0x20
    blob.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], None], type[TailorbirdError], str]] = {
    "truncated": (truncate, Corrupt, "artifact_corrupt"),
    "flipped": (flip, Corrupt, "artifact_corrupt"),
    "gone": (Path.unlink, NotFound, "not_found"),
}


def stored(desk: Desk, digest: Digest) -> Path:
    """Where the bytes named ``digest`` lie."""
    name = digest.removeprefix("sha256:")
    return desk.workspace / "artifacts" / name[:2] / name[2:4] / name


def spoil(file: Path, damage: str) -> Callable[[], None]:
    """Damages ``file``; the result puts it right again."""
    whole = file.read_bytes()
    file.chmod(0o644)
    DAMAGE[damage][0](file)

    def restore() -> None:
        file.unlink(missing_ok=True)
        file.write_bytes(whole)

    return restore


def stop_before_the_floor(text: str) -> None:
    if text == "step floor":
        raise KeyboardInterrupt


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_story_over_a_damaged_snapshot(desk: Desk, undisturbed: Ending, twins: None, damage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        adapt_here(desk, stop_before_the_floor)
    with opened(desk) as deps, deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        snapshot = work.steps.of(run.id)[0].result
        assert snapshot is not None
        rows = work.records.get(SnapshotManifest, snapshot).rows
    restore = spoil(stored(desk, rows), damage)
    _, kind, code = DAMAGE[damage]
    with pytest.raises(kind) as caught:
        adapt_here(desk)
    assert caught.value.error_code == code
    assert short(rows) in caught.value.message
    restore()
    adapt_here(desk)
    assert ending_of(desk).release == undisturbed.release


def weights_of(deps: Dependencies, release: Digest) -> Digest:
    """The release's largest file: its base model's weights."""
    with deps.ledger.work("acme", write=False) as work:
        content = work.releases.get(release).content
    return deps.artifacts.tree(content.base_model)["model.safetensors"]


@pytest.mark.parametrize(("place", "damage"), [("store", "gone"), ("store", "flipped"), ("copy", "flipped")])
def test_a_damaged_release_is_never_loaded(finished: Desk, undisturbed: Ending, tmp_path: Path, damage: str, place: str) -> None:
    """Neither from the store, nor from the copy that an engine reads: every byte is hashed at every load, and the refusal is an event."""
    desk = finished.copy(tmp_path / "workspace")
    request = LoadRequest(tenant="acme", release=undisturbed.release, purpose="staging")
    with opened(desk) as deps:
        assert admit(deps, request).id == request.release
        if place == "store":
            shutil.rmtree(desk.workspace / "cache")
            file = stored(desk, weights_of(deps, request.release))
        else:
            (file,) = (desk.workspace / "cache").rglob("model.safetensors")
        restore = spoil(file, damage)
        with pytest.raises((Corrupt, NotFound)) as caught:
            admit(deps, request)
        assert caught.value.hint
        with deps.ledger.system(write=False) as system:
            last = list(system.events.entries())[-1].event
        assert (last.kind, last.data["code"]) == ("release.load_refused", caught.value.error_code)
        restore()
        assert admit(deps, request).id == request.release
