"""The commands of ``compose.yaml`` in their order, with their environments, as plain processes: from nothing to an answer over HTTP."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from support.compose import Compose
from support.deploy import DEPLOY
from support.e2e import free_port, support_rows, wait_ready, write_objective, write_rows
from support.postgresql import running_server
from support.s3 import running_s3

pytestmark = pytest.mark.slow

IMAGES = {"TAILORBIRD_IMAGE": "x", "POSTGRES_IMAGE": "x", "S3_IMAGE": "x", "TAILORBIRD_TENANT": "acme"}
INTENTS = ("account_login", "order_status", "refund_missing")


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """The file's services on a real PostgreSQL, whose users need their passwords, and a real S3, which knows one pair of keys."""
    subprocess.run([DEPLOY / "compose" / "secrets.sh", tmp_path / "secrets"], check=True)
    security = (tmp_path / "secrets" / "s3_security.toml").read_text(encoding="utf-8").replace("/run/secrets", str(tmp_path / "secrets"))
    (tmp_path / "security.toml").write_text(security, encoding="utf-8")
    with (
        running_server() as postgres,
        running_s3(identities=tmp_path / "secrets" / "s3_identities.json", security=tmp_path / "security.toml") as s3,
    ):
        folder = postgres.command("SHOW unix_socket_directories")[0]
        postgres.command("CREATE DATABASE tailorbird")
        with psycopg.connect(user="postgres", host=folder, dbname="tailorbird", autocommit=True) as administrator:
            administrator.execute((tmp_path / "secrets" / "roles.sql").read_bytes())
        access = Path(postgres.command("SHOW hba_file")[0])
        access.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        postgres.command("SELECT pg_reload_conf()")
        server = f"http://127.0.0.1:{free_port()}"
        hosts = {
            "@postgres/tailorbird": f"@/tailorbird?host={folder}",
            "http://s3:8333": s3,
            "http://gateway:8080": server,
            "0.0.0.0": "127.0.0.1",
        }
        yield Compose(tmp_path, hosts, IMAGES)


def test_from_nothing_to_an_answer_and_a_backup(compose: Compose, tmp_path: Path) -> None:
    server = compose.hosts["http://gateway:8080"]
    for service in ("init", "migrate", "gateway-keys", "worker-keys"):
        compose.run(service)
    first = (compose.volume("people") / "keys" / "log.key").read_bytes()
    compose.run("init")  # `up` runs it again
    assert (compose.volume("people") / "keys" / "log.key").read_bytes() == first
    kept = {name: keys_in(compose.volume(name)) for name in ("gateway", "worker")}
    assert kept == {"gateway": {"log.key": 0o600}, "worker": {"log.key": 0o600, "acme/worker.key": 0o600}}
    gateway = compose.start("gateway", *compose.services["gateway"]["command"], "--port", server.rpartition(":")[2])
    worker = compose.start("worker")
    try:
        wait_ready(gateway, int(server.rpartition(":")[2]))
        release = adapted(compose, tmp_path)
        compose.run("admin", "release", "approve", release, "--as", "approver", "--reason", "evidence read")
        compose.run("admin", "release", "stage", release, "--as", "operator")
        compose.run("admin", "promote", release, "--as", "operator")
        secret = compose.run("admin", "key", "create", "shop", "--as", "admin").strip()
        answer = asked(server, secret)
        assert answer.headers["x-tailorbird-release"] == release
        assert answer.json()["choices"][0]["message"]["content"] in INTENTS
        assert "backed up" in compose.run("backup")
    finally:
        for process in (worker, gateway):
            process.send_signal(signal.SIGTERM)
        ended = [process.wait(60) for process in (worker, gateway)]
    assert ended == [0, 0]
    assert not (compose.volume("gateway") / "tailorbird.db").exists()
    assert not (compose.volume("worker") / "artifacts").exists()


def keys_in(workspace: Path) -> dict[str, int]:
    """Private keys of a workspace with their modes."""
    keys = workspace / "keys"
    return {str(path.relative_to(keys)): stat.S_IMODE(path.stat().st_mode) for path in keys.rglob("*.key")}


def adapted(compose: Compose, folder: Path) -> str:
    """The release of a floor, submitted over HTTP and made by the worker."""
    place = folder / "desk"
    place.mkdir()
    write_rows(place / "rows.csv", support_rows(INTENTS, 70))
    objective = write_objective(place, kpis=[{"metric": "accuracy", "target": 0.5}], ladder=["floor"])
    return str(json.loads(compose.run("admin", "adapt", str(objective), "--json"))["release"])


def asked(server: str, secret: str) -> httpx.Response:
    """The first answer after the promotion: the alias loads within seconds."""
    body = {"model": "acme/desk", "messages": [{"role": "user", "content": "The money for my refund has not come back."}]}
    deadline = time.monotonic() + 60
    while True:
        response = httpx.post(f"{server}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {secret}"}, timeout=30)
        if response.status_code == 200 or time.monotonic() > deadline:
            assert response.status_code == 200, response.text
            return response
        time.sleep(0.2)
