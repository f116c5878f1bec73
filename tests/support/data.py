"""A store in memory, and objectives over any files: what the tests of the data room start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import BuiltSnapshot, SnapshotRequest, build_snapshot
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, Objective, RiskTier, Task, TaskKind
from tailorbird.ledger.artifacts import ArtifactStore

ORIGIN = DataOrigin(origin="written for a test", license="Apache-2.0", collected="2025", consent="public")


class Store:
    """Bytes by digest, in memory. Trees are not needed here."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, *deps: bytes | memoryview) -> str:
        data = b"".join(deps)
        digest = digest_bytes(data)
        self.held[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        return self.held[digest]

    def put_tree(self, folder: Path, *, public: bool = False) -> str:
        raise AssertionError("a snapshot has no trees")

    def get_tree(self, digest: str) -> Path:
        raise AssertionError("a snapshot has no trees")

    def tree(self, digest: str) -> dict[str, str]:
        raise AssertionError("a snapshot has no trees")

    def exists(self, digest: str) -> bool:
        return digest in self.held


def make_objective(
    *sources: dict[str, Any], kind: TaskKind = TaskKind.CLASSIFY, labels: Literal["one", "many"] = "one", thinking: bool = False
) -> Objective:
    return Objective(
        name="desk",
        tenant="acme",
        business=Business(goal="g", owner="o", risk=RiskTier.MINIMAL),
        task=Task(kind=kind, labels=labels, instruction="Classify.", thinking=thinking),
        data=tuple(DataSource(**{"source": ORIGIN, **source}) for source in sources),
        kpis=(Kpi(metric="accuracy", target=0.5),),
    )


def build(
    objective: Objective, folder: Path, known: dict[str, tuple[str, str]] | None = None, store: ArtifactStore | None = None
) -> BuiltSnapshot:
    return build_snapshot(SnapshotRequest(objective, folder, store or Store(), known or {}, lambda _: None))
