"""Objectives that come from elsewhere, with their data uploaded before."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import Forbidden, InvalidInput, NotFound, ObjectiveInvalid
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.value import Digest
from tailorbird.processes.worker import StepWorker
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.registry import perform, validated
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.queries import show_run
from tailorbird.usecases.storage_quota import keep_upload


def upload(deps: Dependencies, author: Actor, data: bytes) -> Digest:
    with TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(data)
        return keep_upload(deps, author, Path(folder)).digest


def submit(deps: Dependencies, author: Actor, path: Path, **changes: object) -> Run:
    sent = [file for file in path.parent.rglob("*") if file.is_file() and file != path]
    files = {file.relative_to(path.parent).as_posix(): upload(deps, author, file.read_bytes()) for file in sent}
    asked = climbing.Submission.model_validate({"objective": path.read_text(), "files": files, "goal": "adapt"} | changes)
    return perform(deps, author, climbing.submit_uploaded, asked)


def test_a_submitted_run_is_worked_on_without_the_submitters_folder(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run = submit(deps, author, objective_path)
    (objective_path.parent / "rows.csv").unlink()
    StepWorker(deps, Progress(), lambda _: None, once=True).run()
    found = show_run(deps, VIEWER, run.id)
    assert found.run.state is RunState.DONE
    assert found.conclusion.release is not None


def test_what_was_not_uploaded_is_named(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    with pytest.raises(NotFound, match=r"rows\.csv was not uploaded"):
        submit(deps, author, objective_path, files={"rows.csv": "sha256:" + "0" * 64})


@pytest.mark.parametrize(
    "paths",
    [
        [f"{number}/{'a/' * 490}x.csv" for number in range(3_000)],
        [f"{number}/x.csv" for number in range(2_500)],
        [f"{'/'.join(str(number * 7 + level) for level in range(20))}/x.csv" for number in range(150)],
    ],
    ids=["deep", "many folders", "many folders in a row"],
)
def test_folders_without_end_are_refused(paths: list[str]) -> None:
    """Every folder was a string of the process that checks, and is made on the disk: four megabytes would have been a million of them."""
    with pytest.raises(InvalidInput) as refused:
        validated(climbing.Submission, {"objective": "a", "files": dict.fromkeys(paths, "sha256:" + "0" * 64)})
    assert refused.value.error_code == "field_invalid"


def test_what_another_tenant_uploaded_was_not_uploaded(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """Nor can it be told from what nobody did."""
    objective_path = write_objective(tmp_path / "job", base_model="smollm2-135m")
    initialise(deps, "globex", FIRST_PEOPLE)
    theirs = upload(deps, act_as(deps, "globex", "author"), b"text,label\nwhat only they know,refund\n")
    with pytest.raises(NotFound) as foreign:
        submit(deps, author, objective_path, files={"rows.csv": theirs})
    with pytest.raises(NotFound) as missing:
        submit(deps, author, objective_path, files={"rows.csv": "sha256:" + "0" * 64})
    assert foreign.value.as_dict() == missing.value.as_dict()
    assert upload(deps, author, b"text,label\nwhat only they know,refund\n") == theirs
    submit(deps, author, objective_path, files={"rows.csv": theirs})


@pytest.mark.parametrize("outside", ["/secret.csv", "../secret.csv", "https://127.0.0.1/rows.csv", "memory://rows.csv"])
def test_a_submission_reads_no_file_and_no_network_of_the_server(deps: Dependencies, author: Actor, tmp_path: Path, outside: str) -> None:
    path = write_objective(
        tmp_path / "job", data=[{"path": outside, "source": {"origin": "written for this test", "license": "Apache-2.0"}}]
    )
    with pytest.raises((InvalidInput, Forbidden)):
        submit(deps, author, path)


def test_a_submission_takes_no_model_from_a_path_of_the_server(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    elsewhere = write_objective(tmp_path / "elsewhere").parent / "base"
    for number, named in enumerate(({"base_model": str(elsewhere)}, {"encoder": {"model": str(elsewhere)}})):
        with pytest.raises(InvalidInput) as refused:
            submit(deps, author, write_objective(tmp_path / str(number), **named))
        assert refused.value.error_code == "invalid_input"


@pytest.mark.parametrize("name", ["/etc/form.jinja", "../form.jinja", "form.jinja"])
def test_a_submission_takes_no_template_from_the_server(name: str, deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "job", chat_template=name)
    with pytest.raises(InvalidInput) as refused:
        submit(deps, author, path)
    assert refused.value.error_code == "upload_missing"


def test_a_faulty_objective_is_named_by_its_line_and_not_by_a_folder_of_the_server(
    deps: Dependencies, author: Actor, objective_path: Path
) -> None:
    text = objective_path.read_text().replace("goal:", "gaol:")
    with pytest.raises(ObjectiveInvalid) as caught:
        climbing.submit_uploaded(deps, author, climbing.Submission(objective=text))
    assert caught.value.line > 0
    assert str(deps.workspace) not in caught.value.message
