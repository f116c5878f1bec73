"""Many releases in one batch: each gets its own answer, while others come and go, within a budget; the native pass agrees."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from support.oracle import LABELS, TEXTS, MakeModel, conversation, servable, write_adapter
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.prompt import Sampling
from tailorbird.inference import open_engine
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.weights import Precision, place
from tailorbird.inference.forward_factory import Kernels, reader_of_decoders
from tailorbird.inference.native import library
from tailorbird.ports.engine import LocalEngine

GREEDY = Sampling(max_tokens=10)
#: A layer with a window that ends within the texts, and one without.
WINDOWS = {"gemma3_text": {"sliding_window": 11, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 32}}


def adapted(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory, model_type: str) -> tuple[Path, list[Path]]:
    """A base whose sizes the native pass takes, and eight adapters that answer differently."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    base = make_model(model_type, seed=3, **sizes, **WINDOWS.get(model_type, {}))
    folders = []
    for seed in range(8):
        folders.append(tmp_path_factory.mktemp("adapter"))
        write_adapter(base, folders[-1], seed=seed, r=4 + seed)
    return base, folders


@pytest.fixture(scope="module")
def family(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    return adapted(make_model, tmp_path_factory, "llama")


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def any_family(request: pytest.FixtureRequest, make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    return adapted(make_model, tmp_path_factory, request.param)


def loaded(family: tuple[Path, list[Path]], engine: LocalEngine) -> list[str]:
    base, folders = family
    wanted = [servable(base, "base"), *(servable(base, f"a{place}", adapter=folder) for place, folder in enumerate(folders))]
    for each in wanted:
        engine.load(each)
    return [each.id for each in wanted]


def test_nothing_crosses_while_adapters_come_and_go(family: tuple[Path, list[Path]]) -> None:
    engine = open_engine("fp32")
    ids = loaded(family, engine)
    expected = {each: [engine.generate(each, [conversation(text)], GREEDY)[0].text for text in TEXTS] for each in ids}
    assert len({tuple(texts) for texts in expected.values()}) == 9
    stop, wrong = threading.Event(), list[str]()

    def churn() -> None:
        other = servable(family[0], "comes and goes", adapter=family[1][0])
        while not stop.is_set():
            engine.load(other)
            engine.unload(other.id)

    def ask(which: int) -> None:
        for round_ in range(3):
            each = ids[(which + round_) % len(ids)]
            answers = engine.generate(each, [conversation(text) for text in TEXTS], GREEDY)
            wrong.extend(answer.text for answer, text in zip(answers, expected[each], strict=True) if answer.text != text)

    churning = threading.Thread(target=churn)
    askers = [threading.Thread(target=ask, args=(which,)) for which in range(9)]
    churning.start()
    for thread in askers:
        thread.start()
    for thread in askers:
        thread.join()
    stop.set()
    churning.join()
    assert wrong == []
    assert engine.state().kv_tokens_used == 0


def test_two_tenants_share_no_beginning(family: tuple[Path, list[Path]]) -> None:
    engine = open_engine("fp32")
    one, two = servable(family[0], "one"), servable(family[0], "two").model_copy(update={"tenant": "beta"})
    engine.load(one)
    engine.load(two)
    prompt = conversation(TEXTS[2])
    cached = [engine.score(each.id, [prompt], LABELS)[0].cached_tokens for each in (one, one, two, two)]
    assert cached[0] == cached[2] == 0
    assert cached[1] == cached[3] >= 16


def test_adapters_stay_within_the_budget_and_come_back(family: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine("fp32")
    ids = loaded(family, engine)
    expected = [engine.generate(each, [conversation("hello")], GREEDY)[0].text for each in ids]
    whole = engine.state().memory_used
    engine._registry.budget = whole - 2 * 20_000  # type: ignore[attr-defined]
    engine.load(servable(family[0], "pinned", adapter=family[1][7]), pinned=True)
    for _ in range(2):
        assert [engine.generate(each, [conversation("hello")], GREEDY)[0].text for each in ids] == expected
    state = engine.state()
    assert state.memory_used <= whole - 2 * 20_000
    assert sum(each.evictions for each in state.releases) > 0
    assert all(each.resident for each in state.releases if each.pinned)
    assert engine.loaded()[:9] == tuple(ids)


def test_an_adapter_that_changed_on_disk_is_not_read_again(family: tuple[Path, list[Path]], tmp_path: Path) -> None:
    write_adapter(family[0], tmp_path, seed=40)
    engine = open_engine("fp32")
    [base, *_] = loaded(family, engine)
    tampered = servable(family[0], "tampered", adapter=tmp_path)
    engine.load(tampered)
    engine._registry.budget = 0  # type: ignore[attr-defined]
    engine.load(servable(family[0], "another"))
    (tmp_path / "adapter_model.safetensors").write_bytes((family[1][0] / "adapter_model.safetensors").read_bytes())
    with pytest.raises(Corrupt) as refused:
        engine.generate(tampered.id, [conversation("hello")], GREEDY)
    assert refused.value.error_code == "weights_changed"
    assert engine.generate(base, [conversation("hello")], GREEDY)[0].completion_tokens


def test_answers_that_fit_a_schema(family: tuple[Path, list[Path]]) -> None:
    import json

    engine = open_engine("fp32")
    [base, *_] = loaded(family, engine)
    schema = json.dumps({"enum": ["refund", "card lost"]})
    answers = engine.generate(base, [conversation(text) for text in TEXTS], Sampling(max_tokens=12, json_schema=schema))
    assert {json.loads(answer.text) for answer in answers} <= {"refund", "card lost"}
    with pytest.raises(InvalidInput) as refused:
        engine.generate(base, [conversation("hello")], Sampling(json_schema="[1"))
    assert refused.value.error_code == "schema_invalid"


def native(test: Any) -> Any:
    """The test, once for each form of the native pass that this processor can run."""
    able = pytest.mark.skipif(library.why_not() is not None, reason="the native pass needs AVX2 or 64-bit ARM, and g++")
    return able(pytest.mark.usefixtures("native_form")(test))


@native
def test_the_native_pass_is_as_near_to_fp32_as_torch_in_bf16(any_family: tuple[Path, list[Path]]) -> None:
    prompts, found = [conversation(text) for text in TEXTS], dict[str, list[float]]()
    ways: tuple[tuple[Precision, Kernels], ...] = (("fp32", "auto"), ("bf16", "native"), ("bf16", "plain"))
    for precision, kernels in ways:
        engine = open_engine(precision, kernels)
        assert kernels == "auto" or kernels in engine.fingerprint()
        ids = loaded(any_family, engine)
        found[kernels] = [nats for each in ids for score in engine.score(each, prompts, LABELS) for nats in score.log_probabilities]
    off = {kernels: sum(abs(a - b) for a, b in zip(found[kernels], found["auto"], strict=True)) for kernels in ("native", "plain")}
    assert 0 < off["native"] < 1.1 * off["plain"]


@pytest.fixture(scope="module", params=["qwen2", "gemma3_text"])
def wide(make_model: MakeModel, request: pytest.FixtureRequest) -> Path:
    """A base whose inputs are whole runs of the native pass in int8."""
    sizes = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    return make_model(request.param, seed=5, **sizes, **WINDOWS.get(request.param, {}))


@native
def test_what_is_no_number_stays_none_in_eight_bits_and_in_its_row(wide: Path) -> None:
    """At each place of a run: a maximum forgets it, and an integer is always one."""
    forward = reader_of_decoders(place("int8"), "native")(wide)
    sound = torch.linspace(-1, 1, 128).bfloat16()
    alone = forward.logits(sound[None])
    for at in range(64):
        row = sound.clone()
        row[at] = float("nan" if at % 2 else "inf")
        found = forward.logits(torch.stack([row, sound]))
        assert not found[0].isfinite().any()
        assert torch.equal(found[1], alone[0])


@native
def test_a_text_in_pieces_is_the_text_as_a_whole(any_family: tuple[Path, list[Path]]) -> None:
    """Also where a window begins within a block of memory, and within a piece."""
    forward = reader_of_decoders(place("bf16"), "native")(any_family[0])
    text, blocks = [100 + 7 * at for at in range(45)], [2, 0, 3]
    whole = forward.hidden(build_batch([Part(None, text, 0, blocks, 0)]), forward.memory(4)).float()
    memory, rows, edges = forward.memory(4), [], [0, 19, 20, 21, 37, *range(38, 46)]
    for start, stop in itertools.pairwise(edges):
        rows.append(forward.hidden(build_batch([Part(None, text[start:stop], start, blocks, 0)]), memory).float())
    assert (torch.cat(rows) - whole).norm() < 0.03 * whole.norm()
