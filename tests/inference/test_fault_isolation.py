"""One request's failure ends that request alone, whatever raises it: those beside it in a step answer as if they were alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.oracle import TEXTS, MakeModel, conversation, servable, write_adapter
from tailorbird.domain.errors import InvalidInput, TailorbirdError
from tailorbird.domain.prompt import Sampling
from tailorbird.inference import open_engine
from tailorbird.inference.native import library
from tailorbird.inference.text.decoding import RowSampler
from tailorbird.ports.engine import Chunk, GenerateRequest, LocalEngine, Told

LONG = Sampling(max_tokens=24)
#: A grammar that is compiled, and passes the limits of its library only when tokens are asked for.
TOO_COMPLEX = json.dumps({"type": "string", "pattern": "^(.*[ab].{200})*$"})


class Heard:
    """What one request was told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.over = threading.Event()

    def __call__(self, told: Told) -> bool:
        self.told.append(told)
        if not isinstance(told, Chunk) or told.finish_reason:
            self.over.set()
        return True

    def result(self) -> str | TailorbirdError:
        """The whole answer, or why there is none."""
        assert self.over.wait(60), "a request was never told its end"
        last = self.told[-1]
        if isinstance(last, Chunk):
            return "".join(told.text for told in self.told if isinstance(told, Chunk))
        assert isinstance(last, TailorbirdError)
        return last


class House:
    """An engine with a base, a healthy adapter, and one that holds NaN; what each neighbour answers alone."""

    def __init__(self, engine: LocalEngine, base: Path, healthy: Path, broken: Path) -> None:
        self.engine = engine
        self.base, self.healthy, self.broken = (
            servable(base, "base"),
            servable(base, "healthy", adapter=healthy),
            servable(base, "broken", adapter=broken),
        )
        for each in (self.base, self.healthy, self.broken):
            engine.load(each)
        self.alone = [self.answers([each])[0] for each in self.neighbours()]

    def neighbours(self) -> list[GenerateRequest]:
        """Requests of others."""
        return [self.asks(each.id, LONG, text) for each in (self.base, self.healthy) for text in TEXTS[:2]]

    def asks(self, release: str, sampling: Sampling, text: str = "hello") -> GenerateRequest:
        """A request for text."""
        return GenerateRequest(release=release, prompt=tuple(conversation(text)), sampling=sampling)

    def answers(self, requests: list[GenerateRequest]) -> list[str | TailorbirdError]:
        """What the engine answers to all at once."""
        heard = [Heard() for _ in requests]
        for request, each in zip(requests, heard, strict=True):
            self.engine.submit(request, each)
        return [each.result() for each in heard]

    def beside(self, *odd: GenerateRequest) -> list[str | TailorbirdError]:
        """What the odd ones are answered, after the neighbours were seen to answer as they do alone."""
        found = self.answers([*odd, *self.neighbours()])
        assert found[len(odd) :] == self.alone
        return found[: len(odd)]


@pytest.fixture(scope="module", params=["plain", "native", "transformers"])
def house(request: pytest.FixtureRequest, make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    native = request.param == "native"
    if native and library.why_not() is not None:
        pytest.skip("the native pass needs AVX2 or 64-bit ARM, and g++")
    family = "gemma2" if request.param == "transformers" else "llama"
    base = make_model(family, seed=3, hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=32)
    folders = [tmp_path_factory.mktemp(name) for name in ("healthy", "broken")]
    for seed, folder in enumerate(folders):
        write_adapter(base, folder, seed=seed)
    weights = load_file(folders[1] / "adapter_model.safetensors")
    save_file({name: torch.full_like(tensor, float("nan")) for name, tensor in weights.items()}, folders[1] / "adapter_model.safetensors")
    engine = open_engine("bf16", "native") if native else open_engine("fp32", "plain")
    yield House(engine, base, *folders)
    engine.close()


def test_numbers_that_are_none_end_their_own_request_alone(house: House) -> None:
    kinds = (LONG, LONG.model_copy(update={"temperature": 1.0}), LONG.model_copy(update={"logprobs": 5}))
    for refused in house.beside(*(house.asks(house.broken.id, kind) for kind in kinds)):
        assert isinstance(refused, TailorbirdError)
        assert (refused.error_code, refused.status) == ("internal", 500)
    assert house.answers(house.neighbours()) == house.alone, "memory that held them is another's now"


def test_a_schema_that_passes_its_limits_in_the_middle_is_refused_alone(house: House) -> None:
    sampled = LONG.model_copy(update={"json_schema": TOO_COMPLEX, "max_tokens": 200, "temperature": 1.5, "seed": 1})
    [refused] = house.beside(house.asks(house.base.id, sampled))
    assert isinstance(refused, InvalidInput)
    assert refused.error_code == "schema_invalid"


class Panic(BaseException):
    """As Rust's panics arrive: no Exception."""


def test_whatever_a_draw_raises_ends_its_row_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = RowSampler.draw

    def failing(self: RowSampler, logits_V: torch.Tensor) -> Any:
        if self.sampling.seed == 13:
            raise Panic("no")
        return drawn(self, logits_V)

    monkeypatch.setattr(RowSampler, "draw", failing)
    [refused] = house.beside(house.asks(house.base.id, LONG.model_copy(update={"temperature": 1.0, "seed": 13})))
    assert isinstance(refused, TailorbirdError)
    assert refused.error_code == "engine_defect"


def test_who_cannot_be_told_does_not_end_the_engine(house: House) -> None:
    def deaf(_told: Told) -> bool:
        raise RuntimeError("gone")

    house.engine.submit(house.asks(house.base.id, LONG), deaf)
    assert house.answers(house.neighbours()) == house.alone
