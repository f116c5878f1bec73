"""The checks of this folder notice what nobody reads, takes or shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.deploy import UsageError, check_command, check_environment, metrics, routes
from tailorbird.domain.errors import InvalidInput


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--prot", "8080"],
        ["serve", "--port", "eighty"],
        ["serv"],
        ["database", "migrat"],
        ["worker", "--once", "more"],
        ["backup"],
    ],
    ids=" ".join,
)
def test_a_command_line_that_the_product_refuses_is_noticed(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        check_command(arguments)


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"TAILORBIRD_DATABSE": "x"}, AssertionError),
        ({"PGPASSWRD": "x"}, AssertionError),
        ({"TAILORBIRD_COMPUTE": "cluster"}, InvalidInput),
        ({"TAILORBIRD_DATABASE": "postgresql://a:b@c/d"}, AssertionError),
    ],
)
def test_a_variable_that_nobody_reads_or_that_holds_a_secret_is_noticed(environment: dict[str, str], error: Any, tmp_path: Path) -> None:
    with pytest.raises(error):
        check_environment(environment, tmp_path)


def test_routes_and_metrics_are_the_gateway_s() -> None:
    assert routes() == {"/healthz", "/readyz", "/metrics"}
    assert {"tailorbird_engine_requests_waiting", "tailorbird_aliases_behind"} <= metrics()
    assert "tailorbird_queue_depth" not in metrics()
