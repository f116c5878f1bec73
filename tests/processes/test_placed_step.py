"""A step in a process that a cluster started: what it refuses, and that errors leave it in our words alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird import settings
from tailorbird.domain.errors import Internal, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.run import StepNeed
from tailorbird.processes import worker
from tailorbird.sdk.session import create_workspace
from tailorbird.usecases.runs import engine
from tailorbird.usecases.runs.placement import StepAnswer, StepTask


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StepTask:
    """A step of a run that does not exist, in a workspace that does."""
    monkeypatch.setattr(worker, "_compute_with", lambda _threads: None)
    deps, _ = create_workspace(tmp_path / "workspace", "acme")
    deps.ledger.close()
    digest = settings.load_settings(tmp_path / "workspace").results_digest
    workspace, mark = str(tmp_path / "workspace"), f"placed-{'0' * 32}"
    need = StepNeed(cores=1)
    return StepTask(workspace=workspace, settings=digest, tenant="acme", actor="author", run="r", step="snapshot", need=need, mark=mark)


def fault_of(task: StepTask | str, **changes: object) -> TailorbirdError:
    text = task if isinstance(task, str) else task.model_copy(update=changes).model_dump_json()
    fault = StepAnswer.model_validate_json(worker.perform_step(text)).fault
    assert fault is not None
    return fault.error()


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        ({}, NotFound, "run_missing"),
        ({"version": "0.0"}, InvalidInput, "node_differs"),
        ({"settings": "sha256:" + "0" * 64}, InvalidInput, "node_differs"),
        ({"workspace": "/nowhere"}, NotFound, "workspace_missing"),
        ({"actor": "nobody"}, NotFound, "identity_missing"),
    ],
)
def test_a_node_refuses_what_is_not_its_own(task: StepTask, changes: dict[str, object], kind: type[TailorbirdError], code: str) -> None:
    error = fault_of(task, **changes)
    assert (type(error), error.error_code) == (kind, code)


def test_an_error_that_is_not_ours_leaves_its_words_on_the_node(task: StepTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_settings: object, **_: object) -> None:
        raise ValueError("the text of a row")

    monkeypatch.setattr(worker.wiring, "open_dependencies", fail)
    error = fault_of(task)
    assert isinstance(error, Internal)
    assert error.message == "it broke off with ValueError"
    assert "row" not in fault_of("no task: the text of a row").message


def test_a_node_that_cannot_erase_does_nothing(task: StepTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_deps: object) -> None:
        raise Unavailable("copies cannot be removed", "h", code="erasure_copies")

    monkeypatch.setattr(engine, "follow_erasures", fail)
    monkeypatch.setattr(engine, "_perform", pytest.fail)
    assert fault_of(task).error_code == "erasure_copies"
