"""One typed settings object: what may differ between two installations.

In: ``settings.yaml`` in the workspace, and ``TAILORBIRD_*`` environment variables (which win). Out: ``Settings``.
Must not know: what is opened with them (``wiring.py``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.plan import Prices
from tailorbird.domain.value import Name, Value
from tailorbird.foundations.text import nearest

#: The folder that ``tailorbird init`` makes where it is run.
FOLDER = ".tailorbird"


class Settings(Value):
    """Settings of one workspace.

    ``database`` is an SQLAlchemy URL, ``artifacts`` an fsspec URL or path; empty means inside the workspace.
    ``tenant`` and ``identity`` are who acts
    when a command does not say. ``keep_former_seconds`` is how long a replaced release stays loaded.
    """

    workspace: Path
    database: str = ""
    artifacts: str = ""
    tenant: Name = "default"
    identity: Name = "author"
    host: str = "127.0.0.1"
    port: int = 8080
    keep_former_seconds: float = 600.0
    prices: Prices = Prices()

    @property
    def database_url(self) -> str:
        """Where the ledger lies."""
        return self.database or f"sqlite:///{self.workspace / 'tailorbird.db'}"

    @property
    def keys(self) -> Path:
        """Where private keys lie: ``TENANT/NAME.key`` of identities, ``log.key`` of the log."""
        return self.workspace / "keys"

    @property
    def artifacts_url(self) -> str:
        """Where artifacts lie."""
        return self.artifacts or str(self.workspace / "artifacts")


def find_workspace(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The workspace named by ``given``, by ``TAILORBIRD_WORKSPACE``, or ``.tailorbird`` here or in a folder above. Raises NotFound."""
    named = given or (Path(environment["TAILORBIRD_WORKSPACE"]) if environment.get("TAILORBIRD_WORKSPACE") else None)
    here = Path.cwd()
    places = [named] if named else [folder / FOLDER for folder in (here, *here.parents)]
    for place in places:
        if (place / "settings.yaml").is_file():
            return place.resolve()
    where = str(named) if named else str(here)
    raise NotFound(f"no workspace at {where}", "make one with: tailorbird init", code="workspace_missing")


def load_settings(workspace: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings of ``workspace``, with the environment on top. Raises InvalidInput, naming the setting."""
    file = workspace / "settings.yaml"
    read = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if not isinstance(read, dict):
        raise InvalidInput(f"{file} is not a mapping of settings", "write one setting a line: name: value", code="settings_invalid")
    values: dict[str, Any] = read | _from_environment(environment)
    try:
        return Settings.model_validate({"workspace": workspace} | values)
    except ValidationError as error:
        raise _explained(file, error) from None


def save_settings(workspace: Path, values: dict[str, Any]) -> None:
    """Writes ``settings.yaml`` into ``workspace``."""
    (workspace / "settings.yaml").write_text(yaml.safe_dump(values, sort_keys=True), encoding="utf-8")


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    names = {f"TAILORBIRD_{name.upper()}": name for name in Settings.model_fields if name not in ("workspace", "prices")}
    return {name: environment[variable] for variable, name in names.items() if environment.get(variable)}


def _explained(file: Path, error: ValidationError) -> InvalidInput:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    near = nearest(name, Settings.model_fields)
    hint = f"did you mean {near}?" if near and near != name else f"settings are: {', '.join(Settings.model_fields)}"
    return InvalidInput(f"{file}: setting {name}: {first['msg']}", hint, code="settings_invalid")
