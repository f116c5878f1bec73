"""Objectives that come from elsewhere, with their data uploaded before."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from lifecycle_kit import write_objective

from tailorbird.app import Worker
from tailorbird.domain.errors import Forbidden, InvalidInput, NotFound, ObjectiveInvalid
from tailorbird.domain.place import Place
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.value import Digest
from tailorbird.lifecycle import Actor, Parts, Progress
from tailorbird.lifecycle.control import perform, runs
from tailorbird.lifecycle.explaining.reports import report
from tailorbird.lifecycle.identities.people import FIRST_PEOPLE, act_as, initialise
from tailorbird.lifecycle.running import adapt as climbing
from tailorbird.lifecycle.running.uploads import keep_upload


def upload(parts: Parts, author: Actor, data: bytes) -> Digest:
    with TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(data)
        return keep_upload(parts, author, Path(folder)).digest


def submit(parts: Parts, author: Actor, path: Path, **changes: object) -> Run:
    sent = [file for file in path.parent.rglob("*") if file.is_file() and file != path]
    files = {file.relative_to(path.parent).as_posix(): upload(parts, author, file.read_bytes()) for file in sent}
    asked = runs.Submission.model_validate({"objective": path.read_text(), "files": files, "goal": "adapt"} | changes)
    return perform(parts, author, runs.SUBMIT, asked)


def test_a_submitted_run_is_worked_on_without_the_submitters_folder(parts: Parts, author: Actor, objective_path: Path) -> None:
    run = submit(parts, author, objective_path)
    (objective_path.parent / "rows.csv").unlink()
    Worker(parts, Progress(), lambda _: None, once=True).run()
    found = report(parts, "acme", run.id)
    assert found.run.state is RunState.DONE
    assert found.conclusion is not None
    assert found.conclusion.release is not None


def test_the_same_submission_is_the_same_run(parts: Parts, author: Actor, objective_path: Path) -> None:
    assert submit(parts, author, objective_path).id == submit(parts, author, objective_path).id


def test_what_was_not_uploaded_is_named(parts: Parts, author: Actor, objective_path: Path) -> None:
    with pytest.raises(NotFound, match=r"rows\.csv was not uploaded"):
        submit(parts, author, objective_path, files={"rows.csv": "sha256:" + "0" * 64})


def test_what_another_tenant_uploaded_was_not_uploaded(parts: Parts, author: Actor, tmp_path: Path) -> None:
    """Nor can it be told from what nobody did."""
    objective_path = write_objective(tmp_path / "job", base_model="smollm2-135m")
    initialise(parts, "globex", FIRST_PEOPLE)
    theirs = upload(parts, act_as(parts, "globex", "author"), b"text,label\nwhat only they know,refund\n")
    with pytest.raises(NotFound) as foreign:
        submit(parts, author, objective_path, files={"rows.csv": theirs})
    with pytest.raises(NotFound) as missing:
        submit(parts, author, objective_path, files={"rows.csv": "sha256:" + "0" * 64})
    assert foreign.value.as_dict() == missing.value.as_dict()
    assert upload(parts, author, b"text,label\nwhat only they know,refund\n") == theirs
    submit(parts, author, objective_path, files={"rows.csv": theirs})


def at_an_address(folder: Path) -> Path:
    """An objective whose data nobody can reach."""
    source = {"origin": "written for this test", "license": "Apache-2.0"}
    return write_objective(folder, data=[{"path": "s3://nowhere/rows.csv", "source": source}], base_model="smollm2-135m")


def test_data_at_an_address_are_read_by_a_step_and_not_while_the_caller_waits(parts: Parts, author: Actor, tmp_path: Path) -> None:
    path = at_an_address(tmp_path / "job")
    with parts.ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update={"places": (Place(prefix="s3://nowhere"),)}))
    run = submit(parts, author, path, files={})
    assert run.state is RunState.ACTIVE
    assert submit(parts, author, path, files={}).id == run.id, "a repeated submission finds the run that is under way"
    with parts.ledger.work("acme") as work:
        work.runs.set_state(run.id, RunState.DONE)
    after = submit(parts, author, path, files={})
    assert after.id != run.id, "what lies there may have changed"
    assert submit(parts, author, path, files={}).id == after.id


def test_a_data_author_must_be_somebody(parts: Parts, author: Actor, tmp_path: Path) -> None:
    source = {"origin": "written for this test", "license": "Apache-2.0"}
    path = write_objective(tmp_path / "job", data=[{"path": "rows.csv", "source": source | {"authors": ["data-author"]}}])
    assert submit(parts, author, path).state is RunState.ACTIVE
    other = write_objective(tmp_path / "other", data=[{"path": "rows.csv", "source": source | {"authors": ["nobody"]}}])
    with pytest.raises(InvalidInput, match="data author nobody"):
        submit(parts, author, other)


@pytest.mark.parametrize("outside", ["/secret.csv", "../secret.csv", "https://127.0.0.1/rows.csv", "memory://rows.csv"])
def test_a_submission_reads_no_file_and_no_network_of_the_server(parts: Parts, author: Actor, tmp_path: Path, outside: str) -> None:
    path = write_objective(
        tmp_path / "job", data=[{"path": outside, "source": {"origin": "written for this test", "license": "Apache-2.0"}}]
    )
    with pytest.raises((InvalidInput, Forbidden)):
        submit(parts, author, path)


def test_a_submission_takes_no_model_from_a_path_of_the_server(parts: Parts, author: Actor, tmp_path: Path) -> None:
    elsewhere = write_objective(tmp_path / "elsewhere").parent / "base"
    path = write_objective(tmp_path / "job", base_model=str(elsewhere))
    with pytest.raises(InvalidInput, match="did not come with the objective"):
        submit(parts, author, path)


def test_a_submission_brings_no_tasks_of_the_harness_whose_templates_would_run(parts: Parts, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "job", limits={"retention": {"max_drop": 0.5, "tasks": ["towns.yaml"]}})
    (path.parent / "towns.yaml").write_text("task: towns")
    with pytest.raises(InvalidInput) as refused:
        submit(parts, author, path)
    assert refused.value.error_code == "harness_outside"


def test_a_faulty_objective_is_named_by_its_line_and_not_by_a_folder_of_the_server(
    parts: Parts, author: Actor, objective_path: Path
) -> None:
    text = objective_path.read_text().replace("goal:", "gaol:")
    with pytest.raises(ObjectiveInvalid) as caught:
        climbing.submit_uploaded(parts, author, text, {}, RunState.ACTIVE)
    assert caught.value.line > 0
    assert str(parts.workspace) not in caught.value.message
