"""``tailorbird plan --serve`` as somebody types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support.capacity import FILE, TIMINGS
from support.cli import tailorbird


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    timings = TIMINGS.model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "traffic.yaml").write_text(yaml.safe_dump(FILE | {"timings": timings}))
    return tmp_path


def test_the_plan_of_a_file(folder: Path) -> None:
    shown = tailorbird(folder, "plan", "--serve", "traffic.yaml", "--why")
    assert shown.returncode == 0, shown.stderr
    for words in (
        "hit rate",
        "each replica holds 120 adapters in memory, of 60",
        "cliff by adapters",
        "timings: the engine's timings were stated",
    ):
        assert words in shown.stdout
    told = json.loads(tailorbird(folder, "--json", "plan", "--serve", "traffic.yaml").stdout)
    assert told["reading"]["replicas"] == 1
    assert f"{told['reading']['p95_ms']:,.0f}" in shown.stdout


def test_what_goes_with_no_traffic_is_refused(folder: Path) -> None:
    for options, code in (
        (("objective.yaml",), "serve_options"),
        (("--probe",), "serve_options"),
        (("--server", "http://127.0.0.1:9"), "local_only"),
    ):
        done = tailorbird(folder, "plan", "--serve", "traffic.yaml", *options)
        assert done.returncode == 1
        assert f"error[{code}]" in done.stderr
