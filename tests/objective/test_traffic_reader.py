"""``traffic.yaml`` is read with the line of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.capacity import FILE, TIMINGS, traffic
from tailorbird.domain.errors import InvalidInput
from tailorbird.objective.traffic_reader import MAX_BYTES, parse_traffic, read_traffic


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "traffic.yaml"
    path.write_text(yaml.safe_dump(FILE))
    assert read_traffic(path) == traffic()


TEXT = yaml.safe_dump(FILE, sort_keys=False)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (TEXT.replace("per_second", "per_secnd"), "traffic.yaml:4: `arrivals.per_second`: Field required", "add `per_second:` here"),
        (TEXT + "replica: 2\n", "`replica`: Extra inputs are not permitted", "did you mean `replicas`?"),
        (TEXT.replace("memory_mb: 1536", "memory_gb: 2"), "traffic.yaml:16: `engine.memory_gb`: Extra", "did you mean `memory_mb`?"),
        (TEXT.replace("replicas: 1", ""), "needs either replicas or target", "docs/planning.md"),
        (TEXT.replace("mean: 24", "values: []"), "`answer`: needs either mean or values", "docs/planning.md"),
        (TEXT.replace("count: 60", "count: many"), "`adapters.count`: Input should be a valid integer", "docs/planning.md"),
        ("", "no keys", "docs/planning.md"),
        ("a: [", "malformed YAML", "close every bracket"),
        ("a: !!python/object x", "tag", "plain values"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_traffic(text, "traffic.yaml")
    assert caught.value.error_code == "traffic_invalid"
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[1, 0.0], [64, 0.0]], "seconds must be above 0"),
        ([[64, 0.1], [1, 0.02]], "points must rise"),
        ([[1, 0.02], [1, 0.02]], "points must rise"),
        ([[1, 0.1], [64, 0.02]], "points must rise"),
    ],
)
def test_a_step_takes_time_and_more_tokens_no_less(points: list[list[float]], message: str) -> None:
    timings = TIMINGS.model_dump(mode="json", exclude_defaults=True) | {"pass_seconds": points}
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_traffic(yaml.safe_dump(FILE | {"timings": timings}), "traffic.yaml")
    assert caught.value.error_code == "traffic_invalid"
    assert caught.value.param == "timings.pass_seconds"


def with_gateway(url: str) -> str:
    return yaml.safe_dump(FILE | {"gateway": {"url": url, "key_file": "key.txt"}})


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@host",
        "https://hunter2@host/",
        "https://host/?key=hunter2",
        "https://host/#hunter2",
        "https://hunter2\\@host",
        "https://:80/hunter2",
        "http://[hunter2",
    ],
)
def test_an_address_bears_no_secret(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_traffic(with_gateway(url), "traffic.yaml")
    assert caught.value.error_code == "traffic_invalid"
    assert "gateway.url" in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://gateway.example/under/a/path/", "http://[::1]:8080"])
def test_an_address_is_read(url: str) -> None:
    gateway = parse_traffic(with_gateway(url), "traffic.yaml").gateway
    assert gateway is not None
    assert gateway.url == url


def test_what_is_no_text_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "long.yaml").write_text("#" * (MAX_BYTES + 1))
    for name in ("bytes.yaml", "long.yaml", "none.yaml"):
        with pytest.raises(InvalidInput, match=name):
            read_traffic(tmp_path / name)


@pytest.mark.parametrize("text", ["a: !!python/name:os.system\n", "a: 1\n---\nb: 2\n", f"a: {'[' * 40}{']' * 40}\n"])
def test_a_file_that_is_refused_is_not_called_an_objective(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_traffic(text, "traffic.yaml")
    assert caught.value.error_code == "traffic_invalid"
    assert "objective" not in caught.value.message + caught.value.hint
