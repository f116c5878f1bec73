"""The stock OpenAI client for Node against a gateway on a socket; it is fetched from npm, once, into .cache. Without npm this fails
aloud.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import Live, live
from support.serving import House
from tailorbird.domain.objective import TaskKind

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".cache" / "node"
VERSION = "7"

SCRIPT = Path(__file__).with_name("story.mjs")


@pytest.fixture(scope="session")
def node() -> Path:
    """A folder in which ``import OpenAI from 'openai'`` works."""
    npm = shutil.which("npm")
    assert npm, "npm is needed: install Node (apt-get install nodejs npm)"
    if not (PLACE / "node_modules" / "openai" / "package.json").is_file():
        PLACE.mkdir(parents=True, exist_ok=True)
        (PLACE / "package.json").write_text('{"private": true, "type": "module"}')
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"openai@{VERSION}"]
        subprocess.run(command, cwd=PLACE, check=True, capture_output=True, timeout=300)
    return PLACE


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Live]:
    house = House(tmp_path)
    house.point("routing", house.release())
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    with live(house) as running:
        yield running
    house.ledger.close()


def test_the_node_client_works(node: Path, served: Live) -> None:
    script = shutil.copy(SCRIPT, node)  # beside the folder where it finds the client
    environment = os.environ | {"SERVER": served.url, "SECRET": served.secret}
    done = subprocess.run(["node", str(script)], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["models"] == ["acme/routing", "acme/writer"]
    assert told["label"] == "lost_card"
    assert told["headers"][0].startswith("sha256:")
    assert all(told["headers"])
    assert sum(told["probabilities"].values()) == pytest.approx(1)
    assert told["text"].endswith("ONE TWO THREE")
    assert told["usage"]["completion_tokens"] == 4
    assert told["errors"] == {
        "unknown": ["NotFoundError", 404, "model_not_found"],
        "parameter": ["BadRequestError", 400, "invalid_value"],
        "key": ["AuthenticationError", 401, "unauthenticated"],
    }
