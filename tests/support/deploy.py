"""What files of ``deploy/`` may say: the product's own settings, verbs, routes and metrics, and variables that its libraries read."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
import yaml

from tailorbird import api
from tailorbird.cli.invocation import SERVER, SERVER_CA, begin, shared_options
from tailorbird.cli.main import app
from tailorbird.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
#: Variables of libraries and of the machine: PostgreSQL's client, S3's, Ray, vLLM, Python, the container toolkit.
OF_LIBRARIES = frozenset(
    {
        "PGPASSFILE",
        "AWS_ENDPOINT_URL",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_USAGE_STATS_ENABLED",
        "HOME",
        "PATH",
        "PYTHONUNBUFFERED",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
    }
)
#: What the command line raises for arguments that it does not take.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
#: Settings that cannot come from the environment.
_FILE_ONLY = {"workspace", "prices", "credentials", "endpoint_keys"}
#: Beginnings of values that are secrets whatever their name is.
SECRET_TEXT = re.compile(r"(-----BEGIN|://[^/@\s]+:[^/@\s]+@|AKIA[0-9A-Z]{16}|tb_[A-Za-z0-9]{20})")


def variables() -> frozenset[str]:
    """Variables of the environment that the product reads."""
    settings = {f"TAILORBIRD_{name.upper()}" for name in Settings.model_fields if name not in _FILE_ONLY}
    return frozenset(settings | {"TAILORBIRD_WORKSPACE", SERVER, SERVER_CA})


def check_environment(environment: dict[str, str], folder: Path, more: Iterable[str] = ()) -> None:
    """Asserts that every variable is known, that the product takes the values of its own, and that none of them is a secret."""
    unknown = set(environment) - variables() - OF_LIBRARIES - set(more)
    assert not unknown, f"nobody reads {sorted(unknown)}"
    (folder / "settings.yaml").write_text("tenant: acme\n", encoding="utf-8")
    load_settings(folder, environment)
    for name, value in environment.items():
        assert not SECRET_TEXT.search(value), f"{name} holds a secret"


def check_command(arguments: Sequence[str]) -> None:
    """Lets the command line read ``arguments``: verb, subcommand, options and their values. Nothing is done. Raises UsageError."""
    before = shared_options()
    try:
        command: Any = typer.main.get_command(app)
        context = command.make_context("tailorbird", list(arguments))
        with suppress(AttributeError):
            while True:  # a group leaves what it does not read to its subcommand
                name, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
                command, context = below, below.make_context(name, list(rest), parent=context)
    finally:
        begin(before)


@cache
def routes() -> frozenset[str]:
    """Paths that the gateway answers without a key."""
    missing: Any = None
    routers = (api.health_routes(missing, missing, missing), api.metrics_routes(api.Metrics(), dict))
    return frozenset(route.path for router in routers for route in router.routes)  # type: ignore[attr-defined]


@cache
def metrics() -> frozenset[str]:
    """Names of the gateway's metrics."""
    shown, missing = api.Metrics(), None
    shown.watch(missing, missing, missing, missing)  # type: ignore[arg-type]
    return frozenset(shown.registry._names_to_collectors)


def manifests(file: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]


def script(name: str) -> ModuleType:
    """A module of ``scripts/``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
