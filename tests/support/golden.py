"""A job whose content is compared with golden files: how it is asked, and how two contents differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from support.e2e import Desk

CHAT = "/v1/chat/completions"


class Story:
    """A workspace with two releases in production, a classical one (``words``) and a tuned one (``desk``), and their gateway."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk, self.folder = desk, folder
        desk.promote(desk.json("adapt", str(folder / "words.yaml"))["release"])
        self.release = desk.json("adapt", str(folder / "objective.yaml"))["release"]
        newest, _ = desk.json("runs", "list")
        self.evidence = desk.json("evidence", newest["id"])
        desk.promote(self.release)
        self.key = desk.run("key", "create", "app", "--as", "admin").strip()
        self.url = ""

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """The gateway's answer; ``body`` is JSON-able, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"} | headers
        return httpx.post(self.url + path, content=content, headers=given, timeout=60)


def differences(golden: Any, found: Any, within: float, place: str = "") -> list[str]:
    """Where two JSON values differ."""
    if isinstance(golden, dict) and isinstance(found, dict):
        keys = dict.fromkeys([*golden, *found])
        return [line for key in keys for line in differences(golden.get(key), found.get(key), within, f"{place}/{key}")]
    if isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        pairs = enumerate(zip(golden, found, strict=True))
        return [line for number, pair in pairs for line in differences(*pair, within, f"{place}/{number}")]
    if isinstance(golden, float) and isinstance(found, float) and abs(golden - found) <= within:
        return []
    return [] if golden == found else [f"{place}: {golden} in the file, {found} now"]
