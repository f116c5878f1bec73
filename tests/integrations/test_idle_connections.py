"""Connections to engines are given up before the engine closes them: a call sent in that moment would be lost."""

from __future__ import annotations

import asyncio

import uvicorn

from tailorbird.integrations import openai_compatible
from tailorbird.processes.http_servers import LimitedConfig


def test_an_idle_connection_is_left_well_before_the_server_closes_it() -> None:
    closed_after = min(uvicorn.Config("none").timeout_keep_alive, LimitedConfig("none").timeout_keep_alive)
    client = openai_compatible.client_for("http://127.0.0.1:9", "s")
    assert client._transport._pool._keepalive_expiry <= closed_after / 2  # type: ignore[attr-defined]
    asyncio.run(client.aclose())
