"""Every copy of a person's data goes: trees that were read, uploads, working folders; what another tenant stored stays that tenant's."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.usecases import everything, write_objective
from tailorbird.domain.erasure import Certificate
from tailorbird.domain.errors import NotFound
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.value import Digest
from tailorbird.ledger import open_artifacts
from tailorbird.processes.worker import StepWorker
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure import erase, places
from tailorbird.usecases.erasure.places import follow_erasures
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.registry import perform
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.queries import show_run
from tailorbird.usecases.storage_quota import Upload, keep_upload, uploads_folder

WHO = "Ada Lovelace"
SAID = "the mill by the old bridge has lost both of its keys again"
ROWS = f"text,label,who\n{SAID},refund,{WHO}\nwhere is my parcel,delivery,Grace Hopper\n".encode()


@pytest.fixture
def admin(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "admin")


def upload(deps: Dependencies, author: Actor, data: bytes) -> Digest:
    with TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(data)
        return keep_upload(deps, author, Path(folder)).digest


def uploads_of(deps: Dependencies, tenant: str = "acme") -> set[Digest]:
    with deps.ledger.work(tenant, write=False) as work:
        return {work.records.get(Upload, digest).file for digest in work.records.digests(Upload)}


def submitted(deps: Dependencies, author: Actor, folder: Path) -> tuple[Run, Mapping[str, Digest]]:
    """A run over uploaded rows, ten of which are the person's."""
    source = {"path": "rows.csv", "subject": "who", "source": {"origin": "written for this test", "license": "Apache-2.0"}}
    path = write_objective(folder, data=[source], kpis=[{"metric": "accuracy", "target": 0.7}])
    place = folder / "rows.csv"
    header, *rows = place.read_text().splitlines()
    theirs = [f"{row},{WHO if number < 10 else f'person {number // 10}'}" for number, row in enumerate(rows)]
    place.write_text("\n".join([f"{header},who", *theirs]) + "\n")
    sent = [file for file in folder.rglob("*") if file.is_file() and file != path]
    files = {file.relative_to(folder).as_posix(): upload(deps, author, file.read_bytes()) for file in sent}
    asked = climbing.Submission.model_validate({"objective": path.read_text(), "files": files, "goal": "adapt"})
    return perform(deps, author, climbing.submit_uploaded, asked), files


def forget(deps: Dependencies, admin: Actor, who: str = WHO) -> Certificate:
    return erase.erase(deps, admin, who).certificate


def test_a_tree_that_was_read_goes_with_the_file_in_it(deps: Dependencies, author: Actor, admin: Actor, tmp_path: Path) -> None:
    run, files = submitted(deps, author, tmp_path / "job")
    StepWorker(deps, Progress(), lambda _: None, once=True).run()
    assert "w4774" in everything(deps), "a word of the first row alone"
    certificate = forget(deps, admin)
    assert files["rows.csv"] in certificate.purged
    assert WHO not in everything(deps)
    assert not list((deps.workspace / "cache").rglob("rows.csv"))
    found = show_run(deps, author, run.id)
    assert found.run.state is RunState.DONE, "what it found stays, though its rows are gone"


def parquet(who: str) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"said": ["hello", "goodbye"], "who": [who, "nobody"]}), file, compression="gzip")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        parquet("José Álvarez"),
        "a note about JOSÉ ÁLVAREZ, of no format".encode("utf-16"),
    ],
    ids=["compressed columns", "free text in UTF-16"],
)
def test_a_person_is_found_in_every_format(deps: Dependencies, author: Actor, admin: Actor, data: bytes) -> None:
    theirs = upload(deps, author, data)
    assert forget(deps, admin, "José Álvarez").uploads == (theirs,)
    assert not deps.artifacts.exists(theirs)


def test_a_file_that_cannot_be_searched_is_named_as_such(deps: Dependencies, author: Actor, admin: Actor) -> None:
    weights = upload(deps, author, bytes(range(256)) * 8)
    upload(deps, author, ROWS)
    certificate = forget(deps, admin)
    assert certificate.unread == (weights,)
    assert deps.artifacts.exists(weights)


def test_what_another_tenant_uploaded_too_stays_that_tenants(deps: Dependencies, author: Actor, admin: Actor) -> None:
    initialise(deps, "globex", FIRST_PEOPLE)
    theirs = act_as(deps, "globex", "author")
    shared, own = upload(deps, author, ROWS), upload(deps, author, ROWS + b"more,refund,nobody\n")
    assert upload(deps, theirs, ROWS) == shared
    certificate = forget(deps, admin)
    assert set(certificate.purged) == {shared, own}, "which of them another tenant holds is nobody's to learn"
    assert (uploads_of(deps), uploads_of(deps, "globex")) == (set(), {shared})
    assert (deps.artifacts.exists(shared), deps.artifacts.exists(own)) == (True, False)
    with pytest.raises(NotFound):
        climbing.require_uploaded(deps, "acme", {"rows.csv": shared})
    forget(deps, act_as(deps, "globex", "admin"))
    assert not deps.artifacts.exists(shared)


def test_what_a_run_left_on_the_disk_goes(deps: Dependencies, author: Actor, admin: Actor, tmp_path: Path) -> None:
    run, _ = submitted(deps, author, tmp_path / "job")
    StepWorker(deps, Progress(), lambda _: None, once=True).run()
    place = deps.runs / run.id / "make-lora" / "checkpoints"
    place.mkdir(parents=True)
    (place / "best.safetensors").write_bytes(b"learned")
    release = show_run(deps, author, run.id).conclusion.release  # type: ignore[union-attr]
    reference = deps.reference(str(release))
    reference.parent.mkdir(exist_ok=True)
    reference.write_text("{}")
    forget(deps, admin)
    assert not (deps.runs / run.id).exists()
    assert not reference.exists()


def test_an_upload_that_ends_during_the_search_is_found(
    deps: Dependencies, author: Actor, admin: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole files were searched first: one that became whole after that was in neither list."""
    upload(deps, author, ROWS)
    listed = places.UploadPlace.present
    place = uploads_folder(deps, "acme") / uuid4().hex
    place.mkdir(parents=True)
    (place / "file").write_bytes(ROWS + b"what is the fee,fee,Grace Hopper\n")

    def ends_meanwhile(self: places.UploadPlace, deps: Dependencies, tenant: str) -> set[Digest]:
        found = listed(self, deps, tenant)
        if place.exists():
            keep_upload(deps, author, place)
            shutil.rmtree(place)
        return found

    monkeypatch.setattr(places.UploadPlace, "present", ends_meanwhile)
    forget(deps, admin)
    assert not uploads_of(deps)


def test_another_machine_follows(deps: Dependencies, author: Actor, admin: Actor, tmp_path: Path) -> None:
    """It shares record and artifacts, and has a workspace of its own."""
    run, files = submitted(deps, author, tmp_path / "job")
    other = replace(
        deps, workspace=tmp_path / "other", artifacts=open_artifacts(str(deps.workspace / "artifacts"), tmp_path / "other" / "cache")
    )
    (other.indexes("acme") / "desk").mkdir(parents=True)
    (other.runs / run.id).mkdir(parents=True)
    with deps.ledger.work("acme", write=False) as work:
        inputs = work.runs.get(run.id).inputs
    other.artifacts.get_tree(str(inputs))
    assert follow_erasures(other) == 0
    StepWorker(deps, Progress(), lambda _: None, once=True).run()
    forget(deps, admin)
    assert list((tmp_path / "other" / "cache").rglob("rows.csv"))
    assert follow_erasures(other) == 1
    assert not list((tmp_path / "other" / "cache").rglob("rows.csv"))
    assert not other.indexes("acme").exists()
    assert not (other.runs / run.id).exists()
    assert follow_erasures(other) == 0
    assert files["rows.csv"] not in set(deps.artifacts.digests())
