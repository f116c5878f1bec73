"""The command line's way to a server, over a real one on loopback: same answers, same errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI, Response

from support.certificates import make_certificate
from support.control import OBJECTIVE, ROWS, NowClock, act, control_app, served, use_clock
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain import errors
from tailorbird.domain.errors import Exhausted, InvalidInput, TailorbirdError
from tailorbird.domain.identity import Role
from tailorbird.sdk.session import RemoteControl
from tailorbird.usecases import Dependencies, identities
from tailorbird.usecases.identities import NewKey, key_path
from tailorbird.usecases.registry import AnyUseCase, perform
from tailorbird.usecases.releases.release_queries import list_aliases, list_releases
from tailorbird.usecases.runs.queries import list_runs, show_run
from tailorbird.usecases.runs.submit import Submission, submit_uploaded
from tailorbird.usecases.sessions import show_session


@pytest.fixture
def clock(deps: Dependencies) -> NowClock:
    return use_clock(deps, NowClock())


@pytest.fixture
def server(deps: Dependencies, clock: NowClock) -> Iterator[str]:
    with served(control_app(deps)) as url:
        yield url


def remote(deps: Dependencies, server: str, who: str = "author", ca: str | None = None) -> RemoteControl:
    return RemoteControl(server, "acme", who, key_path(deps, "acme", who), ca)


def test_the_answer_is_the_one_that_is_given_here(deps: Dependencies, server: str) -> None:
    with remote(deps, server, "admin") as control:
        for use_case in (identities.list_identities, identities.list_api_keys, show_session, list_aliases):
            assert control.ask(use_case) == perform(deps, act(deps, "admin"), use_case)
        assert control.ask(list_releases, limit=5) == perform(deps, act(deps, "admin"), list_releases, limit=5)
        assert control.ask(list_runs, limit=3).total == 0
        made = control.ask(identities.create_api_key, NewKey(name="robot"))
        assert control.ask(identities.revoke_api_key, id=made.key.id).revoked_at is not None


def test_a_file_is_uploaded_and_an_objective_submitted(deps: Dependencies, server: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(ROWS)
    with remote(deps, server) as control:
        digest = control.upload(tmp_path / "rows.csv")
        assert digest == digest_bytes(ROWS)
        run = control.ask(submit_uploaded, Submission(objective=OBJECTIVE, files={"rows.csv": digest}, goal="plan"))
        assert control.ask(show_run, run=run.id) == perform(deps, act(deps, "author"), show_run, run=run.id)


def refusal(control: RemoteControl, use_case: AnyUseCase, /, *args: object, **fields: object) -> TailorbirdError:
    with control, pytest.raises(TailorbirdError) as refused:
        control.ask(use_case, *args, **fields)
    return refused.value


@pytest.mark.parametrize(
    ("who", "use_case", "fields"),
    [
        ("author", identities.list_api_keys, {}),
        ("viewer", show_run, {"run": "nothing"}),
        ("author", submit_uploaded, {"submission": Submission(objective="name: x\nnmae: y\n")}),
        ("admin", identities.disable, {"name": "admin"}),
        ("admin", identities.add_identity, {"name": "viewer", "roles": frozenset({Role.VIEWER}), "public_key": "A" * 43 + "="}),
    ],
)
def test_an_error_is_the_one_that_is_raised_here(
    deps: Dependencies, server: str, who: str, use_case: AnyUseCase, fields: dict[str, object]
) -> None:
    told = refusal(remote(deps, server, who), use_case, **fields)
    with pytest.raises(TailorbirdError) as here:
        perform(deps, act(deps, who), use_case, **fields)
    assert told.as_dict() == here.value.as_dict()
    assert type(told) is type(here.value) or type(told) in type(here.value).__mro__


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TailorbirdError)])
def test_every_class_of_error_is_found_again(
    deps: Dependencies, kind: type[TailorbirdError], monkeypatch: pytest.MonkeyPatch, clock: NowClock
) -> None:
    """By its own code; with a code of the occasion, as the class of its status at least."""
    raised = [kind("what", "then"), kind("what", "then", code="occasion")]

    def refuse(*_: object) -> None:
        raise raised[0]

    monkeypatch.setattr("tailorbird.api.control.perform_request", refuse)
    with served(control_app(deps)) as server:
        own = refusal(remote(deps, server), show_session)
        raised.pop(0)
        other = refusal(remote(deps, server), show_session)
    assert type(own) is kind or kind is TailorbirdError
    assert other.status == kind.status
    assert (other.error_code, other.message, other.hint) == ("occasion", "what", "then")


@pytest.mark.parametrize(
    "error", [InvalidInput("m", "h", param="name"), Exhausted("m", "h", retry_after=7.0)], ids=["param", "retry_after"]
)
def test_details_of_an_error_reach_the_client(
    deps: Dependencies, error: TailorbirdError, monkeypatch: pytest.MonkeyPatch, clock: NowClock
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("tailorbird.api.control.perform_request", refuse)
    with served(control_app(deps)) as server:
        assert refusal(remote(deps, server), show_session).as_dict() == error.as_dict()


def test_a_key_that_is_not_theirs_proves_nothing(deps: Dependencies, server: str) -> None:
    other = RemoteControl(server, "acme", "admin", key_path(deps, "acme", "author"))
    assert refusal(other, show_session).error_code == "login_refused"
    missing = RemoteControl(server, "acme", "admin", deps.workspace / "no.key")
    assert refusal(missing, show_session).error_code == "key_missing"


def test_a_session_that_ended_meanwhile_is_renewed(deps: Dependencies, server: str, clock: NowClock) -> None:
    with remote(deps, server) as control:
        control.ask(show_session)
        with deps.ledger.work("acme") as work:
            work.sessions.end(control._secret.split("_")[1], clock.now())  # type: ignore[union-attr]
        assert control.ask(show_session).name == "author"


def test_the_session_ends_with_the_command(deps: Dependencies, server: str) -> None:
    with remote(deps, server) as control:
        control.ask(show_session)
        session = control._secret.split("_")[1]  # type: ignore[union-attr]
    with deps.ledger.system(write=False) as system:
        ended = system.tenants.session(session)
    assert ended is not None
    assert ended.ended_at is not None


def test_a_clock_that_is_off_is_said_to_be(deps: Dependencies, server: str, clock: NowClock) -> None:
    clock.advance(timedelta(hours=1))
    assert refusal(remote(deps, server), show_session).error_code == "login_stale"


def test_nobody_at_the_address(deps: Dependencies) -> None:
    told = refusal(remote(deps, "http://127.0.0.1:9"), show_session)
    assert (type(told), told.error_code) == (errors.Unavailable, "server_unreachable")
    assert "tailorbird serve" in told.hint


@pytest.mark.parametrize("address", ["", "127.0.0.1:80", "ftp://host", "http://", "http://[::1", "localhost"])
def test_what_is_no_address(deps: Dependencies, address: str) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        remote(deps, address)
    assert refused.value.error_code == "invalid_input"


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>Bad gateway</html>", 502),
        Response("", 204),
        Response('{"error": "no"}', 404),
        Response(None, 307, {"location": "http://elsewhere/"}),
    ],
)
def test_a_server_that_is_something_else(deps: Dependencies, answer: Response) -> None:
    app = FastAPI()
    app.add_api_route("/{path:path}", lambda: answer, methods=["GET", "POST", "DELETE"])
    with served(app) as server:
        told = refusal(remote(deps, server), show_session)
    assert (type(told), told.error_code) == (errors.Unavailable, "server_unreachable")


def test_a_file_that_is_too_large_is_told_so(deps: Dependencies, clock: NowClock, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 5_000_000)
    with served(control_app(deps, largest_upload=1000)) as server:
        with remote(deps, server) as control, pytest.raises(errors.TooLarge) as refused:
            control.upload(tmp_path / "large")
    assert refused.value.error_code == "too_large"


def test_a_certificate_of_ones_own_is_trusted_where_it_is_named(deps: Dependencies, clock: NowClock, tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    with served(control_app(deps), key=tls.key, certificate=tls.cert) as server:
        assert server.startswith("https://")
        with remote(deps, server, ca=str(tls.cert)) as control:
            assert control.ask(show_session).name == "author"
        told = refusal(remote(deps, server), show_session)
    assert told.error_code == "server_unreachable"
    assert "--ca" in told.hint
