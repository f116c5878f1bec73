"""From two releases to answers over HTTP, and back: the real model, real processes, the stock client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from support.e2e import Desk, serving, support_rows, write_objective, write_rows

pytestmark = pytest.mark.slow

INTENTS = ("refund_missing", "order_status", "account_login")
QUESTION = [{"role": "user", "content": "I cannot log in to my account, the password is refused"}]
ALIAS = "acme/desk"


@pytest.fixture(scope="module")
def releases(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two releases of one objective: the prompt alone, and a small adapter; the first is in production, the second gated."""
    folder = tmp_path_factory.mktemp("job")
    write_rows(folder / "rows.csv", support_rows(INTENTS, 60))
    first = desk.json("adapt", str(write_objective(folder, ladder=["prompt"])))["release"]
    desk.promote(first)
    # A margin that seven steps of training keep to, in whatever number format this processor is fast.
    second = desk.json("adapt", str(write_objective(folder, ladder=["lora"], lora={"epochs": 1}, margin=0.5)))["release"]
    assert first
    assert second
    assert first != second
    return first, second


@pytest.fixture(scope="module")
def server(desk: Desk, releases: tuple[str, str]) -> Iterator[str]:
    with serving(desk) as url:
        yield url


@pytest.fixture(scope="module")
def secret(desk: Desk) -> str:
    return desk.run("key", "create", "tests", "--as", "admin").strip()


@pytest.fixture
def client(server: str, secret: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key=secret, max_retries=0) as client:
        yield client


def test_the_stock_client_lists_and_asks(client: openai.OpenAI, releases: tuple[str, str]) -> None:
    assert [model.id for model in client.models.list()] == [ALIAS]
    raw = client.chat.completions.with_raw_response.create(model=ALIAS, messages=QUESTION)
    assert raw.headers["x-tailorbird-release"] == releases[0]
    assert raw.parse().choices[0].message.content in INTENTS


def test_a_revoked_key_stops_working_within_two_seconds(desk: Desk, server: str) -> None:
    secret = desk.run("key", "create", "short-lived", "--as", "admin").strip()
    headers = {"authorization": f"Bearer {secret}"}
    assert httpx.get(f"{server}/v1/models", headers=headers).status_code == 200
    key = next(key["id"] for key in desk.json("key", "list", "--as", "admin") if key["name"] == "short-lived")
    desk.run("key", "revoke", key, "--as", "admin")
    deadline = time.monotonic() + 2
    while httpx.get(f"{server}/v1/models", headers=headers).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_promotion_and_rollback_under_load(desk: Desk, client: openai.OpenAI, releases: tuple[str, str]) -> None:
    """Not one request fails; every answer names the release that gave it; the rollback counts within two seconds."""
    first, second = releases
    desk.run("release", "approve", second, "--as", "approver", "--reason", "evidence read")
    desk.run("release", "stage", second, "--as", "operator")
    seen: list[tuple[float, str]] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            admitted = time.monotonic()
            try:
                raw = client.chat.completions.with_raw_response.create(model=ALIAS, messages=QUESTION)
            except openai.OpenAIError as error:
                failures.append(error)
                return
            seen.append((admitted, raw.headers["x-tailorbird-release"]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    desk.run("promote", second, "--as", "operator")
    wait_for(lambda: seen and seen[-1][1] == second)
    desk.run("rollback", ALIAS, "--as", "operator", "--reason", "test")
    rolled_back = time.monotonic()
    wait_for(lambda: seen and seen[-1][1] == first)
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {release for _, release in seen} == {first, second}
    assert max(at for at, release in seen if release == second) - rolled_back <= 2.0
    states = {release["digest"]: release["state"] for release in desk.json("release", "list")}
    assert states == {first: "production", second: "retired"}


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_request_leaves_a_row_that_can_be_explained(desk: Desk, client: openai.OpenAI, releases: tuple[str, str]) -> None:
    raw = client.chat.completions.with_raw_response.create(model=ALIAS, messages=QUESTION)
    request = raw.headers["x-tailorbird-request-id"]
    found = desk.json("explain", request)
    assert found["release"]["digest"] == releases[0]
    assert found["request"]["outcome"] == "ok"
    assert {approval["identity"] for approval in found["release"]["approvals"]} == {"approver"}
    text = desk.run("explain", request)
    assert "approver" in text
    assert QUESTION[0]["content"] not in text
