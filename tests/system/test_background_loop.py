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


def test_one_failure_alone_is_not_failing() -> None:
    async def story() -> None:
        loop = BackgroundLoop("a watch", work)
        assert await loop.round() is None
        assert (loop.failures, loop.is_failing) == (1, False)
        assert loop.pause > 0

    async def work() -> None:
        raise ValueError

    asyncio.run(story())


def test_pauses_grow_up_to_the_longest() -> None:
    loop, pauses = background_loop.Rounds("a watch"), list[float]()
    for _ in range(100):
        loop.failed(ValueError())
        pauses.append(loop.pause)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.001, 0.01)


def test_a_loop_may_end_by_itself_when_it_is_stopped() -> None:
    left = [3]

    async def work() -> bool:
        await asyncio.sleep(0)
        left[0] -= 1
        return left[0] > 0

    async def story() -> None:
        loop = BackgroundLoop("rows", work)
        loop.start()
        await loop.stop(within=30)

    asyncio.run(story())
    assert left == [0]
