"""The command line's way to a server, over a real one on loopback: same answers, same errors."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from control_kit import OBJECTIVE, ROWS, NowClock, act, control_app, served, use_clock
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fastapi import FastAPI, Response

from tailorbird.cli.remote import RemoteControl
from tailorbird.domain import errors
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import Role
from tailorbird.foundations.canonical import digest_bytes
from tailorbird.lifecycle import Parts
from tailorbird.lifecycle.control import Nothing, people, perform, releases, runs
from tailorbird.lifecycle.identities.people import key_path


@pytest.fixture
def clock(parts: Parts) -> NowClock:
    return use_clock(parts, NowClock())


@pytest.fixture
def server(parts: Parts, clock: NowClock) -> Iterator[str]:
    with served(control_app(parts)) as url:
        yield url


def remote(parts: Parts, server: str, who: str = "author", ca: str | None = None) -> RemoteControl:
    return RemoteControl(server, "acme", who, key_path(parts, "acme", who), ca)


def test_the_answer_is_the_one_that_is_given_here(parts: Parts, server: str) -> None:
    with remote(parts, server, "admin") as control:
        for operation in (people.LIST, people.KEYS, people.ME, releases.ALIASES):
            assert control.ask(operation, Nothing()) == perform(parts, act(parts, "admin"), operation, Nothing())
        page = releases.Page(limit=5)
        assert control.ask(releases.LIST, page) == perform(parts, act(parts, "admin"), releases.LIST, page)
        assert control.ask(runs.LIST, runs.Page(limit=3)).total == 0
        made = control.ask(people.CREATE_KEY, people.NewKey(name="robot"))
        assert control.ask(people.REVOKE_KEY, people.OneKey(id=made.key.id)).revoked_at is not None


def test_a_file_is_uploaded_and_an_objective_submitted(parts: Parts, server: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(ROWS)
    with remote(parts, server) as control:
        digest = control.upload(tmp_path / "rows.csv")
        assert digest == digest_bytes(ROWS)
        run = control.ask(runs.SUBMIT, runs.Submission(objective=OBJECTIVE, files={"rows.csv": digest}, goal="plan"))
        assert control.ask(runs.SHOW, runs.OneRun(run=run.id)) == perform(parts, act(parts, "author"), runs.SHOW, runs.OneRun(run=run.id))


def refusal(control: RemoteControl, operation: object, asked: object) -> TailorbirdError:
    with control, pytest.raises(TailorbirdError) as refused:
        control.ask(operation, asked)  # type: ignore[arg-type]
    return refused.value


@pytest.mark.parametrize(
    ("who", "operation", "asked"),
    [
        ("author", people.KEYS, Nothing()),
        ("viewer", runs.SHOW, runs.OneRun(run="nothing")),
        ("operator", releases.ROLL_BACK, releases.TakeBack(alias="nothing")),
        ("author", runs.SUBMIT, runs.Submission(objective="name: x\nnmae: y\n")),
        ("author", runs.SUBMIT, runs.Submission(objective=OBJECTIVE)),
        ("admin", people.ROTATE_KEY, people.RotateKey(id="0" * 12)),
        ("admin", people.DISABLE, people.OneIdentity(name="admin")),
        ("admin", people.ADD, people.NewIdentity(name="viewer", roles=frozenset({Role.VIEWER}), public_key="A" * 43 + "=")),
    ],
)
def test_an_error_is_the_one_that_is_raised_here(parts: Parts, server: str, who: str, operation: object, asked: object) -> None:
    told = refusal(remote(parts, server, who), operation, asked)
    with pytest.raises(TailorbirdError) as here:
        perform(parts, act(parts, who), operation, asked)  # type: ignore[arg-type, type-var]
    assert told.as_dict() == here.value.as_dict()
    assert type(told) is type(here.value) or type(told) in type(here.value).__mro__


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TailorbirdError)])
def test_every_class_of_error_is_found_again(
    parts: Parts, kind: type[TailorbirdError], monkeypatch: pytest.MonkeyPatch, clock: NowClock
) -> None:
    """By its own code; with a code of the occasion, as the class of its status at least."""
    raised = [kind("what", "then"), kind("what", "then", code="occasion")]

    def refuse(*_: object) -> None:
        raise raised[0]

    monkeypatch.setattr("tailorbird.api.control.perform", refuse)
    with served(control_app(parts)) as server:
        own = refusal(remote(parts, server), people.ME, Nothing())
        raised.pop(0)
        other = refusal(remote(parts, server), people.ME, Nothing())
    assert type(own) is kind or kind is TailorbirdError
    assert other.status == kind.status
    assert (other.error_code, other.message, other.hint) == ("occasion", "what", "then")


def test_a_key_that_is_not_theirs_proves_nothing(parts: Parts, server: str) -> None:
    other = RemoteControl(server, "acme", "admin", key_path(parts, "acme", "author"))
    assert refusal(other, people.ME, Nothing()).error_code == "login_refused"
    missing = RemoteControl(server, "acme", "admin", parts.workspace / "no.key")
    assert refusal(missing, people.ME, Nothing()).error_code == "key_missing"


def test_a_session_that_ended_meanwhile_is_renewed(parts: Parts, server: str, clock: NowClock) -> None:
    with remote(parts, server) as control:
        control.ask(people.ME, Nothing())
        with parts.ledger.work("acme") as work:
            work.sessions.end(control._secret.split("_")[1], clock.now())  # type: ignore[union-attr]
        assert control.ask(people.ME, Nothing()).name == "author"


def test_the_session_ends_with_the_command(parts: Parts, server: str) -> None:
    with remote(parts, server) as control:
        control.ask(people.ME, Nothing())
        session = control._secret.split("_")[1]  # type: ignore[union-attr]
    with parts.ledger.system(write=False) as system:
        ended = system.tenants.session(session)
    assert ended is not None
    assert ended.ended_at is not None


def test_a_clock_that_is_off_is_said_to_be(parts: Parts, server: str, clock: NowClock) -> None:
    clock.advance(timedelta(hours=1))
    assert refusal(remote(parts, server), people.ME, Nothing()).error_code == "login_stale"


def test_nobody_at_the_address(parts: Parts) -> None:
    told = refusal(remote(parts, "http://127.0.0.1:9"), people.ME, Nothing())
    assert (type(told), told.error_code) == (errors.Unavailable, "server_unreachable")
    assert "tailorbird serve" in told.hint


@pytest.mark.parametrize("address", ["", "127.0.0.1:80", "ftp://host", "http://", "http://[::1", "localhost"])
def test_what_is_no_address(parts: Parts, address: str) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        remote(parts, address)
    assert refused.value.error_code == "server_url"


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>Bad gateway</html>", 502),
        Response("", 204),
        Response("[1]", 200),
        Response('{"error": "no"}', 404),
        Response('{"secret": 1', 200),
        Response(None, 307, {"location": "http://elsewhere/"}),
    ],
)
def test_a_server_that_is_something_else(parts: Parts, answer: Response) -> None:
    app = FastAPI()
    app.add_api_route("/{path:path}", lambda: answer, methods=["GET", "POST", "DELETE"])
    with served(app) as server:
        told = refusal(remote(parts, server), people.ME, Nothing())
    assert (type(told), told.error_code) == (errors.Unavailable, "server_not_understood")


def test_a_missing_file_is_not_uploaded(parts: Parts, server: str) -> None:
    with remote(parts, server) as control, pytest.raises(errors.NotFound) as refused:
        control.upload(parts.workspace / "nothing.csv")
    assert refused.value.error_code == "file_unreadable"


def test_a_file_that_is_too_large_is_told_so(parts: Parts, clock: NowClock, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 5_000_000)
    with served(control_app(parts, largest_upload=1000)) as server:
        with remote(parts, server) as control, pytest.raises(errors.TooLarge) as refused:
            control.upload(tmp_path / "large")
    assert refused.value.error_code == "body_too_large"


def test_a_certificate_of_ones_own_is_trusted_where_it_is_named(parts: Parts, clock: NowClock, tmp_path: Path) -> None:
    key, certificate = make_certificate(tmp_path)
    with served(control_app(parts), key=key, certificate=certificate) as server:
        assert server.startswith("https://")
        with remote(parts, server, ca=str(certificate)) as control:
            assert control.ask(people.ME, Nothing()).name == "author"
        told = refusal(remote(parts, server), people.ME, Nothing())
    assert told.error_code == "server_unreachable"
    assert "--ca" in told.hint


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none(parts: Parts, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(errors.InvalidInput) as refused:
        remote(parts, "https://127.0.0.1:1", ca=str(file))
    assert refused.value.error_code == "ca_invalid"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tailorbird test")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    ssl.create_default_context(cafile=str(folder / "cert.pem"))
    return folder / "key.pem", folder / "cert.pem"
