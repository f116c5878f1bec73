"""Where submitted work may read: nowhere until an admin of the host says so, and with the credential that the admin named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from s3fs import S3FileSystem

from support.usecases import write_objective
from tailorbird.domain.endpoint import AllowedPlace
from tailorbird.domain.errors import Forbidden
from tailorbird.domain.run import RunState
from tailorbird.processes.worker import StepWorker
from tailorbird.usecases import Actor, Dependencies, Progress, tenants
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from usecases.test_submit import submit

SOURCE = {"origin": "written for this test", "license": "Apache-2.0"}


@pytest.fixture
def host(deps: Dependencies) -> Dependencies:
    initialise(deps, "house", FIRST_PEOPLE)
    return replace(deps, host="house", credentials={"acme-s3": {"key": "ACMEKEY", "secret": "ACMESECRET"}})


def allow(host: Dependencies, *places: AllowedPlace, tenant: str = "acme") -> None:
    tenants.set_places(host, act_as(host, "house", "admin"), tenant, places)


def at(folder: Path, address: str, **changes: object) -> Path:
    return write_objective(folder, data=[{"path": address, "source": SOURCE}], **({"base_model": "smollm2-135m"} | changes))


@pytest.mark.parametrize("address", ["s3://acme/rows.csv", "gs://acme/rows.csv", "az://acme/rows.csv", "hf://datasets/acme/desk"])
def test_nothing_at_an_address_is_read_for_a_tenant_without_places(host: Dependencies, author: Actor, tmp_path: Path, address: str) -> None:
    with pytest.raises(Forbidden) as refused:
        submit(host, author, at(tmp_path / "job", address), files={})
    assert refused.value.error_code == "forbidden"
    assert "tailorbird tenant places acme" in refused.value.hint


def test_a_neighbours_bucket_is_not_ones_own(host: Dependencies, author: Actor, tmp_path: Path) -> None:
    allow(host, AllowedPlace(prefix="s3://acme/exports", credential="worker"))
    assert submit(host, author, at(tmp_path / "own", "s3://acme/exports/rows.csv"), files={}).state is RunState.ACTIVE
    for number, address in enumerate(("s3://globex/rows.csv", "s3://acme/rows.csv", "s3://acme/exports/../rows.csv")):
        with pytest.raises(Forbidden):
            submit(host, author, at(tmp_path / f"other-{number}", address), files={})


def test_a_place_that_was_taken_back_is_not_read_by_a_run_that_waits(host: Dependencies, author: Actor, tmp_path: Path) -> None:
    allow(host, AllowedPlace(prefix="s3://acme", credential="worker"))
    run = submit(host, author, at(tmp_path / "job", "s3://acme/rows.csv"), files={})
    allow(host)
    told: list[str] = []
    StepWorker(host, Progress(), told.append, once=True).run()
    with host.ledger.work("acme") as work:
        (step,) = work.steps.of(run.id)
    assert step.error == "forbidden"


def test_only_the_host_says_so(host: Dependencies, author: Actor) -> None:
    with pytest.raises(Forbidden):
        tenants.set_places(host, act_as(host, "acme", "admin"), "acme", (AllowedPlace(prefix="s3://"),))
    allow(host, AllowedPlace(prefix="s3://acme", credential="acme-s3"))
    (view,) = tenants.list_tenants(host, act_as(host, "acme", "author")).tenants
    assert view.tenant.places == (AllowedPlace(prefix="s3://acme", credential="acme-s3"),)
    with host.ledger.system(write=False) as system:
        (told,) = [entry.event for entry in system.events.entries() if entry.event.kind == "tenant.places_set"]
    assert told.data == {"place_1": "s3://acme (acme-s3)"}


class Bucket(ThreadingHTTPServer):
    """Answers like S3 for one object, and keeps how each request was signed."""

    signed: list[str | None]

    def __init__(self) -> None:
        self.signed = []
        super().__init__(("127.0.0.1", 0), _Objects)


class _Objects(BaseHTTPRequestHandler):
    server: Bucket

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.server.signed.append(self.headers.get("authorization"))
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_HEAD


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The storage of this machine, which the worker's own credentials lead to."""
    S3FileSystem.clear_instance_cache()
    with Bucket() as served:
        thread = Thread(target=served.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{served.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "WORKERKEY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "WORKERSECRET")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield served
        served.shutdown()
        thread.join()


@pytest.mark.parametrize(("credential", "signed_with"), [("none", None), ("worker", "WORKERKEY"), ("acme-s3", "ACMEKEY")])
def test_a_place_is_read_with_its_own_credential(
    host: Dependencies, author: Actor, tmp_path: Path, bucket: Bucket, credential: str, signed_with: str | None
) -> None:
    allow(host, AllowedPlace(prefix="s3://acme", credential=credential))
    submit(host, author, at(tmp_path / "job", f"s3://acme/{credential}.csv"), files={})
    StepWorker(host, Progress(), lambda _: None, once=True).run()
    assert bucket.signed, "the storage was asked"
    if signed_with is None:
        assert set(bucket.signed) == {None}
    else:
        assert all(f"Credential={signed_with}/" in str(signature) for signature in bucket.signed)


@pytest.mark.parametrize("key", ["documents", "curation"])
def test_every_key_that_names_a_place_is_asked(host: Dependencies, author: Actor, tmp_path: Path, key: str) -> None:
    outside = {"path": "s3://globex/rows.csv", "source": SOURCE}
    changes: dict[str, object] = (
        {"documents": [outside]} if key == "documents" else {"curation": {"protected": [{"path": outside["path"]}]}}
    )
    with pytest.raises(Forbidden) as refused:
        submit(host, author, write_objective(tmp_path / "job", base_model="smollm2-135m", **changes))
    assert refused.value.error_code == "forbidden"


def test_a_base_model_of_the_hub_is_a_place_too(host: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "job", base_model="hf://globex/secret")
    with pytest.raises(Forbidden):
        submit(host, author, path)
    allow(host, AllowedPlace(prefix="hf://acme"))
    with pytest.raises(Forbidden):
        submit(host, author, path)
    assert submit(host, author, write_objective(tmp_path / "other", base_model="hf://acme/tiny")).state is RunState.ACTIVE
