"""One typed settings object: what may differ between two installations."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote
from uuid import uuid4

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Forbidden, InvalidInput, NotFound
from tailorbird.domain.plan import Prices
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.system.files import OWNER_FILE, OWNER_FOLDER, can_be_made, flush, flush_path, is_open_to_others, user_cache
from tailorbird.text.words import nearest

#: The folder that ``tailorbird init`` makes where it is run.
FOLDER = ".tailorbird"

#: What a copy of a workspace does not take over.
LEFT_OUT = (
    "database",
    "artifacts",
    "checkpoints",
    "alerts",
    "webhook_secret",
    "tracking",
    "tracking_token",
    "engine_url",
    "engine_base_url",
    "engine_key",
    "model_cache",
    "credentials",
    "endpoint_keys",
    "encryption",
    "key_service_token",
    "key_service_ca",
    "compute",
    "ray_address",
)

#: What the results of a step depend on, beside the run itself: the same on every machine that does one.
_OF_RESULTS = (
    "engine",
    "engine_precision",
    "engine_kernels",
    "training_processes",
    "fetch_encoder",
    "prices",
)


def _split(given: object) -> object:
    """A list that stands in one environment variable: its parts, between commas."""
    return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given


#: A list in ``settings.yaml``; in the environment, or where there is one element, a text with commas.
Texts = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Settings(Value):
    """Settings of one workspace.

    ``database`` is an SQLAlchemy URL, ``artifacts`` an fsspec URL or path; empty means inside the workspace. ``tenant`` and ``identity``
    are who acts when a command does not say. ``engine`` runs the models: our own, or the replicas of a server at ``engine_url``, which call
    the base ``engine_model``; what the base answers without adapters is asked of the one at ``engine_base_url``. Our own computes in
    ``engine_precision`` by ``engine_kernels``, with ``engine_memory_mb`` for weights (0: half of the
    machine's) and ``engine_kv_mb`` for keys and values of each set of weights. ``keep_former_seconds`` is how long a replaced release stays
    loaded. ``checkpoints`` and ``alerts`` name who is told (``webhook_secret`` signs what is sent); ``trusted_proxies`` are
    addresses or networks; ``public_urls`` are addresses by which the server is known beside those that it listens on.
    ``training_processes`` is how many train together (0: one for each GPU), ``tracking`` where the metrics of training are shown.
    ``fetch_encoder``: the first plan that could use it fetches the catalogue's encoder; ``model_cache`` is
    where converted base models lie (empty: in the user's cache folder, for all workspaces). ``credentials`` are options of storages'
    clients, by the name that places of tenants know them by; ``endpoint_keys`` say where the key of a hosted model is found (``env:NAME``,
    ``file:PATH``), by the name that endpoints know it by. ``encryption`` names the key that wraps the data keys of tenants (empty: nothing
    is encrypted): ``file``, ``file:PATH``, ``env:NAME`` or ``vault:URL``, for which ``key_service_token`` and ``key_service_ca`` are the
    token and the authority to trust. ``compute`` does the steps of runs: this process, or the Ray cluster at ``ray_address``, each with
    ``step_cores`` cores until a plan says. Paths are relative to the workspace. ``docs/operations.md`` explains each.
    """

    workspace: Path
    database: str = ""
    artifacts: str = ""
    tenant: Name = "default"
    identity: Name = "author"
    host: str = "127.0.0.1"
    port: int = 8080
    tls_cert: str = ""
    tls_key: str = ""
    trusted_proxies: Texts = ()
    public_urls: Texts = ()
    log_format: Literal["text", "json"] = "text"
    engine: Literal["torch", "vllm"] = "torch"
    engine_url: Texts = ()
    engine_base_url: str = ""
    engine_model: str = ""
    engine_key: str = ""
    engine_precision: Literal["auto", "bf16", "fp32", "int8"] = "auto"
    engine_kernels: Literal["auto", "native", "plain"] = "auto"
    engine_memory_mb: Annotated[int, Field(ge=0)] = 0
    engine_kv_mb: Annotated[int, Field(gt=0)] = 1024
    keep_former_seconds: float = 600.0
    checkpoints: Texts = ()
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 60.0
    watch_minutes: Annotated[float, Field(ge=0)] = 15.0
    alerts: Texts = ()
    webhook_secret: str = ""
    disk_warning_mb: Annotated[int, Field(ge=0)] = 200
    training_processes: Annotated[int, Field(ge=0)] = 0
    tracking: Texts = ()
    tracking_token: str = ""
    fetch_encoder: bool = True
    model_cache: str = ""
    encryption: str = ""
    key_service_token: str = Field(default="", repr=False)
    key_service_ca: str = ""
    credentials: dict[Name, dict[str, Any]] = Field(default={}, repr=False)
    endpoint_keys: dict[Name, Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]] = Field(default={})
    prices: Prices = Prices()
    compute: Literal["local", "ray"] = "local"
    ray_address: Annotated[str, Field(pattern=r"^([^\s/:]+:\d{1,5})?$")] = ""
    step_cores: Annotated[int, Field(ge=0)] = 0

    @property
    def results_digest(self) -> Digest:
        """The digest of what results depend on; nothing in it must be kept from others."""
        return digest_of(self.model_dump(mode="json", include=set(_OF_RESULTS)))

    @property
    def database_url(self) -> str:
        """Where the ledger lies. What stands for something else in a URL is escaped in the workspace's path."""
        here = str(self.workspace).replace("%", "%25").replace("?", "%3F")
        scheme, _, path = (self.database or "sqlite:///tailorbird.db").partition(":///")
        inside = scheme.startswith("sqlite") and path and not path.startswith(("/", ":memory:"))
        return f"{scheme}:///{here}/{path}" if inside else self.database

    @property
    def record_file(self) -> Path | None:
        """The file in which the ledger lies; None where a server keeps it."""
        scheme, _, path = self.database_url.partition(":///")
        return Path(unquote(path)) if scheme.startswith("sqlite") else None

    @property
    def keys(self) -> Path:
        """Where private keys lie: ``TENANT/NAME.key`` of identities, ``log.key`` of the log."""
        return self.workspace / "keys"

    @property
    def artifacts_url(self) -> str:
        """Where artifacts lie."""
        is_url = not self.artifacts.startswith("/") and ("://" in self.artifacts or "::" in self.artifacts)
        place = self.place(self.artifacts) if self.artifacts else self.workspace / "artifacts"
        return self.artifacts if is_url else str(place)

    @property
    def key_file(self) -> Path | None:
        """The file of the key that wraps the tenants' keys, where it is one: beside the workspace, unless the setting names another."""
        kind, _, place = self.encryption.partition(":")
        if kind != "file":
            return None
        return self.place(place) if place else self.workspace.with_name(f"{self.workspace.name}.key")

    @property
    def models(self) -> Path:
        """Where converted base models lie: as the setting says, else in the user's cache folder, where that can be written to."""
        if self.model_cache:
            return self.place(self.model_cache)
        cache = user_cache()
        return cache / "models" if cache and can_be_made(cache / "models") else self.workspace / "models"

    def place(self, path: str) -> Path:
        """Where a path among the settings leads."""
        return self.workspace / Path(path).expanduser()


def named_workspace(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The workspace's folder that ``given`` or else ``TAILORBIRD_WORKSPACE`` names; None where neither does."""
    return given or (Path(environment["TAILORBIRD_WORKSPACE"]) if environment.get("TAILORBIRD_WORKSPACE") else None)


def find_workspace(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The workspace named by ``given``, by ``TAILORBIRD_WORKSPACE``, or ``.tailorbird`` here or in a folder above. Raises NotFound."""
    named = named_workspace(given, environment)
    here = named or _current_folder()
    places = [named] if named else [folder / FOLDER for folder in (here, *here.parents)]
    for place in places:
        if (place / "settings.yaml").is_file():
            return place.resolve()
    raise NotFound(f"no workspace at {here}", "make one with: tailorbird init", code="workspace_missing")


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise NotFound("the current folder is gone: it was removed or renamed", "cd to one that is there, or name --workspace") from None


def load_settings(workspace: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings of ``workspace``, with the environment on top. Raises InvalidInput, naming the setting."""
    file = workspace / "settings.yaml"
    values = read_settings(workspace) | _from_environment(environment)
    try:
        return Settings.model_validate({"workspace": workspace} | values)
    except ValidationError as error:
        raise _explained(file, error) from None


def read_settings(workspace: Path) -> dict[str, Any]:
    """What ``settings.yaml`` says, unchecked. Raises InvalidInput when it is not a mapping."""
    file = workspace / "settings.yaml"
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError):
        read = None
    if not isinstance(read, dict):
        raise InvalidInput(f"{file} is not a mapping of settings", "write one setting a line: name: value", code="settings_invalid")
    return read


def portable_settings(workspace: Path) -> bytes:
    """The settings that a copy of the workspace may have: not the places and receivers of the original, nor its secrets."""
    kept = {name: value for name, value in read_settings(workspace).items() if name not in LEFT_OUT}
    return yaml.safe_dump(kept, sort_keys=True).encode()


def save_settings(workspace: Path, values: dict[str, Any]) -> None:
    """Writes ``settings.yaml`` into ``workspace``, whole or not at all, for its owner alone: a database's password may stand in it."""
    file, unfinished = workspace / "settings.yaml", workspace / f".settings-{uuid4().hex}"
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_FILE), "w", encoding="utf-8") as written:
            written.write(yaml.safe_dump(values, sort_keys=True))
            flush(written)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    flush_path(workspace)


def check_closed(settings: Settings) -> None:
    """Closes a workspace that holds no more than settings, as one that an administrator or a volume made.

    Raises Forbidden where training data, keys or the record are open to others than their owner.
    """
    if settings.workspace.is_dir() and {path.name for path in settings.workspace.iterdir()} <= {"settings.yaml"}:
        with suppress(OSError):  # what is not ours is refused below
            settings.workspace.chmod(OWNER_FOLDER)
    artifacts = Path(settings.artifacts_url)
    places = [settings.workspace, *([artifacts] if artifacts.is_absolute() and artifacts.is_dir() else [])]
    if (record := settings.record_file) is not None and record.exists():
        places.append(record)
    opened = next((place for place in places if is_open_to_others(place)), None)
    if opened is not None:
        mode = stat.S_IMODE(opened.stat().st_mode)
        raise Forbidden(f"{opened} is open to others (mode {mode:04o})", f"close it: chmod -R go= {opened}", code="workspace_open")


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    names = {
        f"TAILORBIRD_{name.upper()}": name
        for name in Settings.model_fields
        if name not in ("workspace", "prices", "credentials", "endpoint_keys")
    }
    return {name: environment[variable] for variable, name in names.items() if environment.get(variable)}


def _explained(file: Path, error: ValidationError) -> InvalidInput:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    near = nearest(name, Settings.model_fields)
    hint = f"did you mean {near}?" if near and near != name else f"settings are: {', '.join(Settings.model_fields)}"
    return InvalidInput(f"{file}: setting {name}: {first['msg']}", hint, code="settings_invalid")
