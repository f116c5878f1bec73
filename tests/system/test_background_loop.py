"""Background loops go on whatever becomes of a round, and tell how rounds end."""

from __future__ import annotations

import asyncio

import pytest

from support.serving import until
from tailorbird.domain.errors import Unavailable
from tailorbird.system import background_loop
from tailorbird.system.background_loop import BackgroundLoop


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_loop, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(background_loop, "_LONGEST_PAUSE", 0.01)


@pytest.mark.parametrize("error", [KeyError("a customer's words"), Unavailable("away", "wait", code="database_unreachable")])
def test_a_loop_outlives_any_failure(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    failing, done = True, 0

    async def work() -> None:
        nonlocal done
        if failing:
            raise error
        done += 1

    async def story() -> None:
        nonlocal failing
        loop = BackgroundLoop("a watch", work, every=0.001)
        loop.start()
        await until(lambda: loop.failures >= 3)
        assert loop.is_failing
        failing = False
        await until(lambda: done >= 2)
        assert not loop.is_failing
        assert loop.pause == 0.0
        await loop.stop()
        seen = done
        await asyncio.sleep(0.02)
        assert done == seen

    asyncio.run(story())
    assert "a watch" in caplog.text
    assert "customer" not in caplog.text
