"""``compose.yaml``: known commands and variables, three users of the database, nothing that runs as root or shows a secret."""

from __future__ import annotations

import re
import socket
import ssl
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.compose import FILE, Compose, image_environment
from support.deploy import DEPLOY, check_command, check_environment
from support.s3 import WEED, running_s3
from tailorbird.processes.http_servers import free_port

GIVEN = {"TAILORBIRD_IMAGE": "tailorbird@sha256:0", "POSTGRES_IMAGE": "p@sha256:0", "S3_IMAGE": "s@sha256:0", "TAILORBIRD_TENANT": "acme"}
SERVICES: dict[str, Any] = Compose(Path("/nowhere"), {}, GIVEN).services
WHOLE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
OURS = [name for name, told in SERVICES.items() if told["image"] == GIVEN["TAILORBIRD_IMAGE"]]
VERBS = [name for name in OURS if "entrypoint" not in SERVICES[name] and name != "admin"]


def test_images_have_no_default_that_could_move() -> None:
    assert {told["image"] for told in WHOLE["services"].values()} <= {
        WHOLE["x-process"]["image"],
        "${POSTGRES_IMAGE:?postgres:18 by digest}",
        "${S3_IMAGE:?chrislusf/seaweedfs by digest}",
    }
    assert all(":?" in told["image"] for told in WHOLE["services"].values())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(name: str) -> None:
    told = SERVICES[name]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert not told.get("privileged", False)
    if name != "postgres":  # its image begins as root, to hand its folder to its own user
        assert told["user"] == "10001:10001"
        assert "cap_add" not in told


@pytest.mark.parametrize("name", VERBS)
def test_its_command_is_one_of_the_product(name: str) -> None:
    check_command(SERVICES[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_its_variables_are_read_by_somebody(name: str, tmp_path: Path) -> None:
    environment = image_environment() | SERVICES[name].get("environment", {})
    check_environment({variable: value for variable, value in environment.items() if variable != "PATH"}, tmp_path)


@pytest.mark.parametrize(
    ("name", "user"), [("init", "owner"), ("migrate", "owner"), ("backup", "owner"), ("gateway", "gateway"), ("worker", "worker")]
)
def test_each_process_logs_in_as_its_own_user_by_a_file(name: str, user: str) -> None:
    login = {"owner": "tailorbird_owner", "gateway": "gateway1", "worker": "worker1"}[user]
    told = SERVICES[name]
    assert told["environment"]["TAILORBIRD_DATABASE"] == f"postgresql://{login}@postgres/tailorbird"
    assert told["environment"]["PGPASSFILE"] == f"/run/secrets/{user}_pgpass"
    assert set(told["secrets"]) == {f"{user}_pgpass", "s3_credentials"}


def test_only_one_offs_and_people_see_the_people_s_keys() -> None:
    having = {name for name, told in SERVICES.items() if any(volume.startswith("people:") for volume in told.get("volumes", ()))}
    assert having == {"init", "migrate", "gateway-keys", "worker-keys", "admin", "backup"}
    assert {"gateway", "worker"}.isdisjoint(having)


def test_the_gateway_alone_is_reached_from_outside() -> None:
    assert [name for name, told in SERVICES.items() if "ports" in told] == ["gateway"]
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:8080:8080"]
    assert WHOLE["networks"]["record"] == {"internal": True}
    assert {name for name, told in SERVICES.items() if "outside" in told.get("networks", ())} == {"gateway", "worker"}
    assert not any("engine" in name for name in SERVICES)


def test_one_process_signs_checkpoints() -> None:
    minutes = {name: told.get("environment", {}).get("TAILORBIRD_CHECKPOINT_MINUTES") for name, told in SERVICES.items()}
    assert minutes["worker"] == "0"
    assert minutes["gateway"] is None


def test_the_schema_is_there_before_who_may_not_make_it() -> None:
    def before(name: str) -> set[str]:
        own = SERVICES[name].get("depends_on", {})
        assert all(told["condition"] != "service_started" for other, told in own.items() if other in OURS)
        return set(own).union(*map(before, own)) if own else set()

    assert {"init", "migrate", "postgres", "s3"} <= before("gateway") & before("worker")


def test_secrets_are_files_that_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([DEPLOY / "compose" / "secrets.sh", tmp_path / "secrets"], check=True)
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    assert made == set(WHOLE["secrets"])
    assert {Path(told["file"]).name for told in WHOLE["secrets"].values()} == made
    assert all(set(told) == {"file"} for told in WHOLE["secrets"].values())
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()} == {0o400}
    before = {path: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run([DEPLOY / "compose" / "secrets.sh", tmp_path / "secrets"], check=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}


def test_every_secret_and_volume_that_is_used_is_declared() -> None:
    used = {secret if isinstance(secret, str) else secret["source"] for told in SERVICES.values() for secret in told.get("secrets", ())}
    assert used == set(WHOLE["secrets"])
    volumes = {volume.split(":")[0] for told in SERVICES.values() for volume in told.get("volumes", ())}
    assert volumes == set(WHOLE["volumes"])


def test_the_roles_are_those_of_the_product(tmp_path: Path) -> None:
    from tailorbird.ledger.postgresql import GATEWAY, WORKER

    subprocess.run([DEPLOY / "compose" / "secrets.sh", tmp_path], check=True)
    script = (tmp_path / "roles.sql").read_text(encoding="utf-8")
    assert f"CREATE ROLE {GATEWAY} NOLOGIN;" in script
    assert f"CREATE ROLE {WORKER} NOLOGIN;" in script
    passwords = re.findall(r"PASSWORD '([0-9a-f]{48})'", script)
    assert len(set(passwords)) == 3
    assert passwords == [(tmp_path / f"{user}_pgpass").read_text().strip().rpartition(":")[2] for user in ("owner", "gateway", "worker")]


def test_the_options_of_s3_are_those_of_its_program() -> None:
    known = subprocess.run([WEED, "server", "-h"], capture_output=True, text=True, check=False)
    options = set(re.findall(r"^\s+-([\w.]+)", known.stdout + known.stderr, flags=re.MULTILINE))
    verb, *given = SERVICES["s3"]["command"]
    assert verb == "server"
    assert {option.removeprefix("-").partition("=")[0] for option in given} <= options
    assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= set(given)
    assert "-master.telemetry=false" in given, "it tells its maker's server, unless it is told not to"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def _greeted(context: ssl.SSLContext, port: int) -> bytes:
    """The head of the first frame that a server of HTTP/2 says over TLS."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(PREFACE)
        return secured.recv(9)


def test_nobody_commands_s3_without_its_certificate(tmp_path: Path) -> None:
    """Whoever reaches gRPC may make identities: in the clear nothing answers, and TLS wants a certificate of the caller."""
    secrets = tmp_path / "secrets"
    subprocess.run([DEPLOY / "compose" / "secrets.sh", secrets], check=True)
    told, port = tmp_path / "security.toml", free_port()
    told.write_text((secrets / "s3_security.toml").read_text(encoding="utf-8").replace("/run/secrets", str(secrets)), encoding="utf-8")
    with running_s3(secrets / "s3_identities.json", told, port):
        with socket.create_connection(("127.0.0.1", port), 5) as clear:
            clear.sendall(PREFACE)
            assert clear.recv(9)[3:4] != b"\x04", "HTTP/2 answered in the clear"
        context = ssl.create_default_context(cafile=str(secrets / "s3_grpc.crt"))
        context.set_alpn_protocols(["h2"])
        with pytest.raises(ssl.SSLError):
            _greeted(context, port)
        context.load_cert_chain(secrets / "s3_grpc.crt", secrets / "s3_grpc.key")
        assert _greeted(context, port)[3:4] == b"\x04"
