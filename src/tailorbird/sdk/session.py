"""Session of one identity with a workspace on this machine or on a server."""

from __future__ import annotations

import atexit
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from tailorbird import auth, wiring
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound
from tailorbird.domain.identity import Identity, Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.objective import PLACEHOLDER
from tailorbird.settings import Settings, find_workspace, load_settings, save_settings
from tailorbird.system.clock import SystemClock
from tailorbird.system.files import private_folder
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.registry import UseCase, perform

if TYPE_CHECKING:
    from tailorbird.sdk.remote_control import RemoteControl

P = ParamSpec("P")
A = TypeVar("A", bound=Value)


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
        from tailorbird.sdk.remote_control import RemoteControl

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
