"""Objectives and a store for the benchmarks.

In: sources, a policy. Out: an objective over them; a place for artifacts. Must not know: what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.curation import CurationPolicy
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, Objective, RiskTier, Task, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.ledger.artifacts import ArtifactStore

ORIGIN = DataOrigin(origin="a benchmark", license="CC-BY-4.0")


def objective_of(
    sources: Sequence[dict[str, Any]],
    curation: CurationPolicy | None = None,
    kind: TaskKind = TaskKind.CLASSIFY,
    labels: Literal["one", "many"] = "one",
) -> Objective:
    return Objective(
        name="bench",
        tenant="bench",
        business=Business(goal="g", owner="o", risk=RiskTier.MINIMAL),
        task=Task(kind=kind, labels=labels, instruction="Classify."),
        data=tuple(DataSource(**{"source": ORIGIN, **source}) for source in sources),
        kpis=(Kpi(metric="accuracy", target=0.5),),
        curation=curation or CurationPolicy(),
    )


class Folder:
    """Bytes by digest in a folder: nothing stays in memory. No trees, which a snapshot does not have."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, *deps: bytes | memoryview) -> Digest:
        digest = digest_bytes(*deps)
        if not self.exists(digest):
            with (self._folder / digest).open("wb") as file:
                file.writelines(deps)
        return digest

    def get(self, digest: Digest) -> bytes:
        data = (self._folder / digest).read_bytes()
        assert digest_bytes(data) == digest
        return data

    def exists(self, digest: Digest) -> bool:
        return (self._folder / digest).exists()

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        raise NotImplementedError(str(folder))

    def get_tree(self, digest: Digest) -> Path:
        raise NotImplementedError(digest)

    def tree(self, digest: Digest) -> dict[str, Digest]:
        raise NotImplementedError(digest)

    def digests(self) -> Iterator[Digest]:
        return (path.name for path in self._folder.iterdir())

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        raise NotImplementedError(digest)

    def remove(self, digest: Digest) -> bool:
        raise NotImplementedError(digest)


def store() -> ArtifactStore:
    """A store that forgets everything at the end."""
    import tempfile

    return Folder(Path(tempfile.mkdtemp(prefix="tailorbird-bench-")))
