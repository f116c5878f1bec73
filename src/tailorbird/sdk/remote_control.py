"""Client of a server's control plane: the same use cases, answers and errors as on this machine."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from tailorbird import auth
from tailorbird.auth.request_checks import origin_of
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain import errors
from tailorbird.domain.errors import InvalidInput, NotFound, ObjectiveInvalid, TailorbirdError, Unauthenticated, Unavailable
from tailorbird.domain.identity import Identity, Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.sdk.answers import Answer, ChatMessage
from tailorbird.system.clock import SystemClock
from tailorbird.system.outward_access import outward_client
from tailorbird.usecases import Actor
from tailorbird.usecases.registry import UseCase
from tailorbird.usecases.sessions import log_in

if TYPE_CHECKING:
    import httpx

P = ParamSpec("P")
A = TypeVar("A", bound=Value)

#: Seconds: to connect; for one answer (recomputing a long log takes a minute).
_CONNECT, _ANSWER = 10.0, 300.0


class RemoteControl:
    """The server at ``server`` for the identity ``tenant/name``, whose key is in ``key_file``.

    Logs in at the first question, and out at ``close``. ``ca`` is a file with the certificate authority to trust; without it, those that
    this machine trusts.
    """

    def __init__(self, server: str, tenant: str, name: str, key_file: Path, ca: str | None = None) -> None:
        """Raises InvalidInput (an address or a CA file that cannot be used), Unavailable (a proxy)."""
        self._server = server
        self._tenant = tenant
        self._name = name
        self._key_file = key_file
        self._client = _open_client(server, ca)
        self._secret: str | None = None

    def __enter__(self) -> RemoteControl:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session, where one was begun, and the connections. Never raises: a session ends by itself, too."""
        try:
            if self._secret is not None:
                self._send("DELETE", "/api/sessions/current")
        except TailorbirdError:
            pass
        finally:
            self._secret = None
            self._client.close()

    def ask(self, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The server's answer. Raises what the use case raises there; Unavailable when the server cannot be reached or understood."""
        fields = use_case.request_of(*args, **kwargs).model_dump(mode="json")
        path = use_case.path.format(**{name: quote(str(fields[name]), safe="") for name in use_case.in_path})
        others = {name: value for name, value in fields.items() if name not in use_case.in_path}
        given = {name: value for name, value in others.items() if value is not None}
        sent: dict[str, Any] = {"params": given} if use_case.method == "GET" else {"json": others}
        return _value(use_case.response, self._known(use_case.method, path, **sent))

    def upload(self, path: Path) -> Digest:
        """Sends the file at ``path``, part by part, and returns its digest. Raises NotFound, and as ``ask`` does."""
        try:
            with path.open("rb") as file:
                headers = {"content-type": "application/octet-stream"}
                answer = self._known("POST", "/api/artifacts", content=file, headers=headers)
        except OSError as error:
            raise NotFound(f"the file {path} cannot be read: {error.strerror}", "check the path", code="file_unreadable") from None
        digest: Digest = _answered(answer)["digest"]
        return digest

    def answer(self, model: str, messages: Sequence[ChatMessage], api_key: str) -> Answer:
        """The answer of the release behind the alias ``model``. Needs an API key, and no login. Raises as ``ask`` does."""
        body = {"model": model, "messages": [dict(message) for message in messages]}
        response = self._send("POST", "/v1/chat/completions", {"authorization": f"Bearer {api_key}"}, json=body)
        told = _answered(response)
        try:
            origin, text = told["tailorbird"], told["choices"][0]["message"]["content"]
            fields = {name: origin[name] for name in ("release", "probabilities", "referred", "out_of_scope") if name in origin}
            return Answer.model_validate({"text": text, "request": told["id"]} | fields)
        except (KeyError, IndexError, TypeError, ValidationError):
            raise _not_understood(response) from None

    def _known(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """The answer to somebody who is logged in; logs in again, once, when the session has ended meanwhile."""
        fresh = self._secret is None
        if fresh:
            self._log_in()
        try:
            return self._send(method, path, **sent)
        except Unauthenticated:
            if fresh or "content" in sent:
                raise
            self._log_in()
            return self._send(method, path, **sent)

    def _log_in(self) -> None:
        """Proves by the key who asks; the server knows what the key may do."""
        self._secret = None
        login, signature = log_in(self._actor(), origin_of(self._server), SystemClock().now())
        opened = self._send("POST", "/api/sessions", json={"login": plain_json(login), "signature": plain_json(signature)})
        self._secret = str(_answered(opened)["secret"])

    def _actor(self) -> Actor:
        """Who the key file says we are. Roles are the server's to know. Raises NotFound, Forbidden, Corrupt (the key file)."""
        key, now = auth.load_key(self._key_file), SystemClock().now()
        identity = Identity(tenant=self._tenant, name=self._name, roles=frozenset(), public_key=auth.public_key(key), created_at=now)

        def sign(purpose: str, digest: Digest) -> Signature:
            return auth.sign(key, self._name, purpose, digest, SystemClock().now())

        return Actor(identity, sign)

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None, **sent: Any) -> httpx.Response:
        """One exchange. Raises the error that the server answered with."""
        shown = {"authorization": f"Bearer {self._secret}"} if self._secret else {}
        with _reaching(self._server):
            response = self._client.request(method, path, headers=shown | (headers or {}), **sent)
        if not response.is_success:
            raise _error_of(response)
        return response


def _open_client(server: str, ca: str | None) -> httpx.Client:
    import httpx

    try:
        url = httpx.URL(server)
    except httpx.InvalidURL:
        raise _not_a_server(server) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise _not_a_server(server)
    return outward_client(server, _trusted(ca) if ca else None, base_url=url, timeout=httpx.Timeout(_ANSWER, connect=_CONNECT))


def _trusted(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise InvalidInput(
            f"the CA file {ca} cannot be used: {error.strerror or error}", "give a file of certificates in PEM form", code="ca_invalid"
        ) from None


@contextmanager
def _reaching(server: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        what = str(error) or type(error).__name__
        raise Unavailable(
            f"the server {server} cannot be reached: {what}",
            "check that it runs (tailorbird serve), its address, and --ca where its certificate is your own",
            code="server_unreachable",
        ) from None


def _value(kind: type[A], response: httpx.Response) -> A:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError:
        raise _not_understood(response) from None


def _answered(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _not_understood(response)
    return answer


def _error_of(response: httpx.Response) -> TailorbirdError:
    """The error that the server raised: of the class whose code it has, else of the class of its status."""
    told = _answered(response).get("error")
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("message", "hint", "code")):
        return _not_understood(response)
    message, hint, code = told["message"], told["hint"], told["code"]
    if isinstance(told.get("line"), int):
        return ObjectiveInvalid(message, hint, code=code, line=told["line"])
    kind = _class_of(response.status_code, code)
    if issubclass(kind, InvalidInput) and kind is not ObjectiveInvalid:
        return kind(message, hint, code=code, param=told.get("param"))
    return kind(message, hint, code=code)


def _class_of(status: int, code: str) -> type[TailorbirdError]:
    """Of the classes with this status the one with this code, else the most general one."""
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TailorbirdError)]
    fitting = [kind for kind in classes if kind is not TailorbirdError and kind.status == status]
    named = [kind for kind in fitting if kind.code == code]
    general = sorted(fitting, key=lambda kind: len(kind.__mro__))
    return (*named, *general, Unavailable)[0]


def _not_understood(response: httpx.Response) -> Unavailable:
    return Unavailable(
        f"{response.url.copy_with(query=None)} answered {response.status_code} with something else than tailorbird does",
        "check the server's address, what stands between, and that server and command are of one version",
        code="server_not_understood",
    )


def _not_a_server(server: str) -> InvalidInput:
    return InvalidInput(f"{server} is not the address of a server", "write it as https://host or http://127.0.0.1:8080", code="server_url")
