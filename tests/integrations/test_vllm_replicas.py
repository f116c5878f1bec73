"""Two real vLLMs behind one gateway's driver: one is killed under load and started again; what it held is answered by the other."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.drivers import KEY, adapted, answer, end_group, request, vllm_process
from tailorbird.domain.deployment import Servable
from tailorbird.integrations.vllm import open_driver
from tailorbird.ports.engine import LoadRequest
from tailorbird.processes.http_servers import free_port
from tailorbird.serving.engine_replicas import EngineReplicas

TEXTS = [f"my card {number} is lost, and nobody answers the telephone" for number in range(12)]


@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_vllm_that_is_killed_breaks_off_what_had_begun_alone_and_is_asked_again(base_model_folder: Path, tmp_path: Path) -> None:
    servables = {each.id: each for each in adapted(base_model_folder, tmp_path)[:4]}
    releases = list(servables)

    def admitted(wanted: LoadRequest) -> Servable:
        return servables[wanted.release]

    async def story(stack: ExitStack) -> None:
        ports = [free_port() for _ in range(2)]
        servers = [stack.enter_context(vllm_process(base_model_folder, tmp_path / f"log{port}", port)) for port in ports]
        drivers = {f"http://127.0.0.1:{port}": open_driver(f"http://127.0.0.1:{port}", KEY, "base", admitted) for port in ports}
        replicas = EngineReplicas(drivers)

        def asked() -> list[asyncio.Task[str]]:
            pairs = [(release, text) for text in TEXTS for release in releases]
            return [asyncio.create_task(_text(replicas, release, text)) for release, text in pairs]

        for release in releases:
            await replicas.load(request(release))
        whole = await asyncio.gather(*asked())
        assert len(set(whole)) > len(TEXTS), "adapters answer differently"

        flood = asked()
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(end_group, servers[0], 0)
        found = await asyncio.gather(*flood, return_exceptions=True)
        broken = [one for one in found if isinstance(one, BaseException)]
        assert len(broken) < len(flood), "answers that had begun break off, and no others"
        assert all(getattr(one, "error_code", "") == "engine_unavailable" for one in broken), broken
        assert [one for one in found if isinstance(one, str)] == [
            text for text, one in zip(whole, found, strict=True) if isinstance(one, str)
        ]
        assert await asyncio.gather(*asked()) == whole, "the other one answers for both"

        stack.enter_context(vllm_process(base_model_folder, tmp_path / "again", ports[0]))
        assert set((await replicas.status()).loaded) == set(releases)
        assert await asyncio.gather(*asked()) == whole
        for driver in drivers.values():
            await driver.close()

    with ExitStack() as stack:
        asyncio.run(story(stack))


async def _text(replicas: EngineReplicas, release: str, text: str) -> str:
    return (await answer(replicas, release, text))[0]
