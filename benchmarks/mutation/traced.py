"""A plug-in of pytest: which tests execute each line below ``TRACED_SOURCE``, fastest first, written to ``TRACED_FILE`` as JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

SOURCE = Path(os.environ["TRACED_SOURCE"])
tracer = coverage.Coverage(data_file=None, source=[str(SOURCE)], config_file=False, concurrency=["thread"])
tracer.start()
seconds: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    tracer.switch_context(item.nodeid)
    started = time.monotonic()
    result = yield
    seconds[item.nodeid] = time.monotonic() - started
    tracer.switch_context("")
    return result


def pytest_sessionfinish() -> None:
    tracer.stop()
    data, lines = tracer.get_data(), {}
    for file in data.measured_files():
        tests = {line: sorted({*names} & seconds.keys(), key=seconds.__getitem__) for line, names in data.contexts_by_lineno(file).items()}
        lines[str(Path(file).relative_to(SOURCE))] = {line: names for line, names in tests.items() if names}
    Path(os.environ["TRACED_FILE"]).write_text(json.dumps(lines), encoding="utf-8")
