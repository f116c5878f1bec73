"""Client of the use cases for one identity: in a workspace on this machine, or on a server."""

from __future__ import annotations

import atexit
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from tailorbird import auth, wiring
from tailorbird.auth.request_checks import origin_of
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain import errors
from tailorbird.domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    ObjectiveInvalid,
    TailorbirdError,
    Unauthenticated,
    Unavailable,
    rebuilt,
)
from tailorbird.domain.identity import Identity, Signature
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest, Value
from tailorbird.objective import PLACEHOLDER
from tailorbird.settings import Settings, find_workspace, load_settings, save_settings
from tailorbird.system.clock import SystemClock
from tailorbird.system.files import private_folder
from tailorbird.system.outward_access import outward_client
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.registry import UseCase, perform
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.sessions import log_in

if TYPE_CHECKING:
    import httpx

#: A message's role and text, as in OpenAI's API.
ChatMessage = Mapping[str, str]


class Answer(Value):
    """What the release ``release`` answered to the request ``request``, the id that feedback names.

    A classifying release also gives the probabilities of its labels. ``referred``: a person should look, since
    it is not sure enough or hands the conversation over.
    ``out_of_scope``: none of the labels fits, ``text`` is empty, and a person receives
    the request.
    """

    text: str
    request: str
    release: Digest
    probabilities: dict[str, float] | None = None
    referred: bool = False
    out_of_scope: bool = False


def conversation(said: str | Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages of a request: those given, or one of the user's with the text."""
    return [{"role": "user", "content": said}] if isinstance(said, str) else list(said)


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
        import httpx

        try:
            url = httpx.URL(server)
        except httpx.InvalidURL:
            raise _not_a_server(server) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise _not_a_server(server)
        self._client = outward_client(server, _trusted(ca) if ca else None, base_url=url, timeout=httpx.Timeout(_ANSWER, connect=_CONNECT))
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
        response = self._known(use_case.method, path, **sent)
        try:
            return use_case.response.model_validate_json(response.content)
        except ValidationError:
            raise _not_understood(response) from None

    def upload(self, path: Path) -> Digest:
        """Sends the file at ``path``, part by part, and returns its digest. Raises NotFound, and as ``ask`` does."""
        try:
            with path.open("rb") as file:
                headers = {"content-type": "application/octet-stream"}
                answer = self._known("POST", "/api/artifacts", content=file, headers=headers)
        except OSError as error:
            raise NotFound(f"the file {path} cannot be read: {error.strerror}", "check the path") from None
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


def _trusted(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise InvalidInput(
            f"the CA file {ca} cannot be used: {error.strerror or error}", "give a file of certificates in PEM form"
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
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TailorbirdError)]
    fitting = [kind for kind in classes if kind is not TailorbirdError and kind.status == response.status_code]
    named = [kind for kind in fitting if kind.code == told["code"]]
    general = sorted(fitting, key=lambda kind: len(kind.__mro__))
    kind = ObjectiveInvalid if isinstance(told.get("line"), int) else (*named, *general, Unavailable)[0]
    after = response.headers.get("retry-after", "")
    return rebuilt(kind, told | ({"retry_after": float(after)} if after.isdecimal() else {}))


def _not_understood(response: httpx.Response) -> Unavailable:
    return Unavailable(
        f"{response.url.copy_with(query=None)} answered {response.status_code} with something else than tailorbird does",
        "check the server's address, what stands between, and that server and command are of one version",
        code="server_unreachable",
    )


def _not_a_server(server: str) -> InvalidInput:
    return InvalidInput(f"{server} is not the address of a server", "write it as https://host or http://127.0.0.1:8080")


@dataclass(frozen=True)
class WorkspaceSession:
    """Use cases asked as one identity, which proves itself by its key file.

    ``workspace`` is the folder (None: the one here or above). ``who`` is ``NAME`` or ``TENANT/NAME`` (None: the workspace's identity, or
    the one that a call names), ``key`` its key file (None: the one among the workspace's keys). ``server`` is a URL (empty: this machine),
    ``ca`` a file with the certificate authority to trust there. ``busy_seconds``: how long it waits for another writer of the record (None:
    as long as a command does).
    """

    workspace: Path | None = None
    who: str | None = None
    key: Path | None = None
    server: str = ""
    ca: str = ""
    busy_seconds: float | None = None

    @cached_property
    def settings(self) -> Settings:
        """The workspace's settings. Raises NotFound when there is no workspace."""
        return load_settings(find_workspace(self.workspace))

    @cached_property
    def deps(self) -> Dependencies:
        """The opened ports of this machine's workspace. Raises InvalidInput with a server."""
        self.refuse_server()
        return wiring.open_dependencies(self.settings, busy_seconds=self.busy_seconds)

    def refuse_server(self) -> None:
        """Raises InvalidInput with a server: what follows works on this machine alone."""
        if self.server:
            raise InvalidInput(
                "this is done on the machine of the workspace", "run it there, without --server and TAILORBIRD_SERVER", code="local_only"
            )

    @property
    def tenant(self) -> str:
        """The tenant acted in: that of ``who``, or the workspace's."""
        return self.who.partition("/")[0] if self.who and "/" in self.who else self.settings.tenant

    def name(self, default: str | None = None) -> str:
        """Who acts: ``who``, else ``default``, else the workspace's identity."""
        return self.who.rpartition("/")[2] if self.who else (default or self.settings.identity)

    def key_file(self, default: str | None = None) -> Path:
        """The key file of who acts; ``{tenant}`` in its path is the tenant acted in."""
        if self.key:
            return Path(str(self.key).replace(PLACEHOLDER, self.tenant))
        return self.settings.keys / self.tenant / f"{self.name(default)}.key"

    def actor(self, default: str | None = None) -> Actor:
        """Who acts here, proven by their key. Raises NotFound, Forbidden."""
        return act_as(self.deps, self.tenant, self.name(default), self.key_file(default))

    def ask(self, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The answer of ``use_case``, from here or from the server."""
        return self.ask_as(None, use_case, *args, **kwargs)

    def ask_as(self, default: str | None, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The same, asked by the identity ``default`` unless ``who`` names somebody."""
        if self.server:
            return self.remote(default).ask(use_case, *args, **kwargs)
        return perform(self.deps, self.actor(default), use_case, *args, **kwargs)

    def sign(self, purpose: str, digest: Digest, default: str | None = None) -> Signature:
        """The signature of who acts, made with the key on this machine."""
        key = auth.load_key(self.key_file(default))
        return auth.sign(key, self.name(default), purpose, digest, SystemClock().now())

    def remote(self, default: str | None = None) -> RemoteControl:
        """The server, with who acts logged in."""
        from tailorbird.sdk.session import RemoteControl

        who = (self.tenant, self.name(default))
        known = self._remotes.get(who)
        if known is None:
            known = RemoteControl(self.server, *who, self.key_file(default), self.ca or None)
            self._remotes[who] = known
            atexit.register(known.close)
        return known

    def acting_as(self, name: str) -> Self:
        """The session of another identity of the tenant (``NAME``, or ``TENANT/NAME``), with its key beside this one's; shares what is open
        here. Raises InvalidInput for one of another tenant, and for what is no name."""
        tenant, _, name = name.rpartition("/")
        if tenant not in ("", self.tenant) or name in ("", ".", ".."):
            hint = f"name an identity of {self.tenant}, or open the workspace as identity=TENANT/NAME"
            raise InvalidInput(f"{tenant}/{name} is no identity of tenant {self.tenant}", hint, code="field_invalid", param="as_")
        if self.who and name == self.name():
            return self
        return self._shared_with(replace(self, who=f"{self.tenant}/{name}", key=self.key.with_name(f"{name}.key") if self.key else None))

    def in_tenant(self, tenant: str) -> Self:
        """The session of the identity of the same name in another tenant; shares what is open here."""
        return self._shared_with(replace(self, who=f"{tenant}/{self.name()}"))

    def _shared_with(self, other: Self) -> Self:
        vars(other).update({"_remotes": self._remotes} if self.server else {"deps": self.deps, "settings": self.settings})
        return other

    def alias_name(self, alias: str) -> str:
        """The alias' name without its tenant. Raises NotFound for one of another tenant."""
        tenant, _, name = alias.rpartition("/")
        if tenant not in ("", self.tenant):
            hint = f"act in that tenant, as {tenant}/NAME"
            raise NotFound(f"no alias {alias} in tenant {self.tenant}", hint, code="alias_missing")
        return name

    def close(self) -> None:
        """Logs out, and closes the ledger where it was opened."""
        for known in self._remotes.values():
            known.close()
            atexit.unregister(known.close)
        self._remotes.clear()
        if "deps" in vars(self):
            self.deps.ledger.close()

    @cached_property
    def _remotes(self) -> dict[tuple[str, str], RemoteControl]:
        return {}


def create_workspace(place: Path, tenant: str = "") -> tuple[Dependencies, tuple[Identity, ...]]:
    """Creates the workspace in the folder ``place``, with an identity and a key for each role of the tenant; one that exists is opened.

    Raises Conflict when it belongs to another tenant.
    """
    private_folder(place)
    if not (place / "settings.yaml").exists():
        save_settings(place, {"tenant": tenant or "default"})
    settings = load_settings(place.resolve())
    if tenant and settings.tenant != tenant:
        raise Conflict(f"{place} belongs to tenant {settings.tenant}", "choose another --workspace", code="workspace_exists")
    deps = wiring.open_dependencies(settings)
    return deps, initialise(deps, settings.tenant, FIRST_PEOPLE)


#: The identity that decides, where nobody is named.
APPROVER = "approver"


def decide(session: WorkspaceSession, digest: str, decision: Literal["approve", "reject"], reason: str) -> Release:
    """Asks what is to be signed, checks that it says what was meant, signs it with the key on this machine, and files it."""
    stated = session.ask_as(APPROVER, promotion.statement, digest=digest, decision=decision, reason=reason)
    name = session.name(APPROVER)
    about = stated.release.removeprefix("sha256:").startswith(digest.removeprefix("sha256:"))
    if not about or (stated.decision, stated.reason, stated.identity) != (decision, reason, name):
        raise Conflict("the server asks to sign something else than was meant", "do not sign; tell the operator", code="statement_old")
    signature = session.sign(decision, digest_of(stated), APPROVER)
    return session.ask_as(APPROVER, promotion.decide, digest=digest, statement=stated, signature=signature)
