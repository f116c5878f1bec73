"""Many releases in one batch: each gets its own answer, while others come and go, within a budget; the native pass agrees."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
from transformers import AutoTokenizer

from support.oracle import LABELS, TEXTS, MakeModel, conversation, servable, write_adapter
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval
from tailorbird.domain.errors import Corrupt, Exhausted, InvalidInput, ModelInvalid, NotFound, TailorbirdError
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Retrieval, Sampling
from tailorbird.inference import open_engine, worker
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.weights import Precision, place
from tailorbird.inference.forward_factory import Kernels, reader_of_adapters, reader_of_decoders
from tailorbird.inference.native import library
from tailorbird.ports.engine import Chunk, GenerateRequest, LocalEngine, Told
from tailorbird.text.search_index import write_index

DAY = "The post came late on Monday, because the road over the hill was closed after the rain, and nobody had told the driver."
GREEDY = Sampling(max_tokens=10)
#: A layer with a window that ends within the texts, and one without.
WINDOWS = {"gemma3_text": {"sliding_window": 11, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 32}}


class Heard:
    """What one request was told."""

    def __init__(self, wanted: int = 10**9) -> None:
        self.told: list[Told] = []
        self.over = threading.Event()
        self._wanted = wanted

    def __call__(self, told: Told) -> bool:
        self.told.append(told)
        if not isinstance(told, Chunk) or told.finish_reason:
            self.over.set()
        return len(self.told) < self._wanted

    @property
    def text(self) -> str:
        return "".join(told.text for told in self.told if isinstance(told, Chunk))


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


@pytest.fixture(scope="module", params=["llama", "qwen3", "gemma3_text"])
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


def test_a_request_that_is_cancelled_is_told_nothing_more(family: tuple[Path, list[Path]]) -> None:
    engine = open_engine("fp32")
    [base, *_] = loaded(family, engine)
    request = GenerateRequest(release=base, prompt=tuple(conversation("hello")), sampling=Sampling(max_tokens=400))
    heard, other = Heard(), Heard()
    cancel = engine.submit(request, heard)
    engine.submit(request.model_copy(update={"sampling": GREEDY}), other)
    cancel()
    cancel()
    assert other.over.wait(20)
    before = len(heard.told)
    assert not heard.over.is_set()
    engine.generate(base, [conversation("again")], GREEDY)
    assert len(heard.told) == before
    assert engine.state().running == 0


def test_too_many_that_wait_are_refused(family: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WAITING_EACH", 2)
    engine = open_engine("fp32")
    [base, *_] = loaded(family, engine)
    hold, entered = threading.Event(), threading.Event()

    def slow(told: Told) -> bool:
        entered.set()
        return hold.wait(20)

    request = GenerateRequest(release=base, prompt=tuple(conversation("hello")), sampling=GREEDY)
    engine.submit(request, slow)
    assert entered.wait(20)
    heard = [Heard(), Heard()]
    for each in heard:
        engine.submit(request, each)
    with pytest.raises(Exhausted) as refused:
        engine.submit(request, Heard())
    hold.set()
    assert refused.value.error_code == "engine_busy"
    assert all(each.over.wait(20) for each in heard)
    assert heard[0].text == heard[1].text


def test_one_tenant_that_waits_for_weights_leaves_room(family: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WAITING", 4)
    monkeypatch.setattr(worker, "WAITING_EACH", 2)
    engine, going = open_engine("fp32"), threading.Event()
    other = servable(family[0], "other", adapter=family[1][1]).model_copy(update={"tenant": "globex"})
    registry = engine._registry  # type: ignore[attr-defined]
    registry.budget, bring = 0, registry.bring
    for each in (servable(family[0], "one", adapter=family[1][0]), other, servable(family[0], "base")):
        engine.load(each)

    def slow(held: Any) -> None:
        assert going.wait(20)
        bring(held)

    monkeypatch.setattr(registry, "bring", slow)
    mine = GenerateRequest(release=servable(family[0], "one").id, prompt=tuple(conversation("hello")), sampling=GREEDY)
    heard = [Heard(), Heard(), Heard()]
    for each in heard[:2]:
        engine.submit(mine, each)
    with pytest.raises(Exhausted):
        engine.submit(mine, Heard())
    engine.submit(mine.model_copy(update={"release": other.id}), heard[2])
    going.set()
    assert all(each.over.wait(20) for each in heard)


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


def test_an_index_counts_in_the_budget(family: tuple[Path, list[Path]], tmp_path: Path) -> None:
    engine = open_engine("fp32")
    loaded(family, engine)
    whole = engine.state().memory_used
    engine._registry.budget = whole  # type: ignore[attr-defined]
    write_index(tmp_path, [Entry(id=str(place), text="a lost card " * 9, access=(EVERYONE,)) for place in range(200)], None)
    spec = Retrieval(what="documents", ways=("words",), count=3, index=servable(family[0], "x").id)
    finder = servable(family[0], "finder").model_copy(
        update={"task": TaskKind.RANK, "retrieval": LocalRetrieval(spec=spec, index=str(tmp_path))}
    )
    engine.load(finder)
    state = engine.state()
    (found,) = (each for each in state.releases if each.release == finder.id)
    assert found.resident
    assert state.memory_used <= whole
    assert sum(each.evictions for each in state.releases) > 0, "the index took somebody's place"
    assert engine.retrieve(finder.id, ["card"], frozenset({EVERYONE}), 1)[0][0].entry.id == "0"
    engine.unload(finder.id)
    assert finder.id not in {each.release for each in engine.state().releases}


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


def test_a_closed_engine_ends_what_is_under_way(family: tuple[Path, list[Path]]) -> None:
    engine = open_engine("fp32")
    [base, *_] = loaded(family, engine)
    heard = Heard()
    engine.submit(GenerateRequest(release=base, prompt=tuple(conversation("hello")), sampling=Sampling(max_tokens=400)), heard)
    engine.close()
    assert heard.over.wait(20)
    assert isinstance(heard.told[-1], TailorbirdError) or heard.told[-1].finish_reason  # type: ignore[union-attr]
    with pytest.raises(TailorbirdError):
        engine.generate(base, [conversation("hello")], GREEDY)


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


def test_log_probabilities_add_up(family: tuple[Path, list[Path]]) -> None:
    engine = open_engine("fp32")
    [base, *_] = loaded(family, engine)
    heard = Heard()
    engine.submit(GenerateRequest(release=base, prompt=tuple(conversation("hello")), sampling=Sampling(max_tokens=4, logprobs=3)), heard)
    assert heard.over.wait(20)
    said = [each for told in heard.told if isinstance(told, Chunk) for each in told.logprobs]
    assert len(said) == 4
    for each in said:
        assert each.logprob == max(chance.logprob for chance in each.top) <= 0
        assert len(each.top) == 3
    [likely] = engine.likelihood(base, [conversation("hello")], [heard.text])
    assert likely.nats <= 0


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


@native
def test_a_row_each_is_as_near_to_fp32_too(any_family: tuple[Path, list[Path]]) -> None:
    """One token of each adapter in a step: the way of decoding, whose products are others than those of many rows."""

    def hidden(precision: Literal["fp32", "bf16"], kernels: str) -> torch.Tensor:
        forward = reader_of_decoders(place(precision), kernels)(any_family[0])
        adapters = [reader_of_adapters(folder, forward) for folder in any_family[1]]
        batch = build_batch(Part(adapter, [100 + at], 0, [at], 0) for at, adapter in enumerate(adapters))
        return forward.hidden(batch, forward.memory(len(adapters))).float()

    exact = hidden("fp32", "plain")
    off = {kernels: (hidden("bf16", kernels) - exact).abs().sum().item() for kernels in ("native", "plain")}
    assert 0 < off["native"] < 1.1 * off["plain"]


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "gemma3_text"])
def wide(make_model: MakeModel, request: pytest.FixtureRequest) -> Path:
    """A base whose inputs are whole runs of the native pass in int8."""
    sizes = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    return make_model(request.param, seed=5, **sizes, **WINDOWS.get(request.param, {}))


def hidden_rows(base: Path, precision: Literal["fp32", "bf16", "int8"], rows: list[list[int]]) -> tuple[torch.Tensor, Any]:
    """Logits that follow each of ``rows``, all in one step, and the pass."""
    kernels = "plain" if precision == "fp32" else "native"
    forward = reader_of_decoders(place(precision), kernels)(base)
    batch = build_batch(Part(None, row, 0, list(range(3 * at, 3 * at + 3)), len(row) - 1) for at, row in enumerate(rows))
    return forward.logits(forward.hidden(batch, forward.memory(3 * len(rows)))), forward


@native
def test_eight_bits_by_the_native_pass(wide: Path) -> None:
    """Little is lost, in little more than half of the memory of its weights in bf16."""
    rows = [[3 + (7 * at + place) % 90 for place in range(1 + at)] for at in range(40)]
    (exact, _), (half, in_bf16), (eighth, in_int8) = (hidden_rows(wide, precision, rows) for precision in ("fp32", "bf16", "int8"))
    off = [float((found - exact).norm() / exact.norm()) for found in (half, eighth)]
    assert 0 < off[0] < off[1] < 3 * off[0]
    assert in_int8._shelf.nbytes <= 0.54 * in_bf16._shelf.nbytes + 2**21


@native
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_fingerprint_names_the_form_of_the_native_pass(native_form: str, precision: Precision) -> None:
    form = "native-portable" if native_form == "portable" else "native-amx" if native_form == "amx" and precision == "bf16" else "native"
    expected = f"{form}-int8-adapters"
    assert open_engine(precision, "native").fingerprint().endswith(f"{precision} cpu {expected}")
    if precision == "bf16":
        assert open_engine(precision, "plain").fingerprint().endswith("bf16 cpu plain")
        return
    with pytest.raises(InvalidInput):
        open_engine(precision, "plain")


@native
@pytest.mark.parametrize("beside", [1, 2, 5, 11, 12, 13, 25])
def test_a_row_in_eight_bits_is_the_same_beside_any_others(wide: Path, beside: int) -> None:
    """Runs are summed exactly, and rows in one order: batch sizes give the same bits."""
    row, others = [5, 17, 29, 40], [[3 + at] * 3 for at in range(beside)]
    (alone, _), (among, _) = hidden_rows(wide, "int8", [row]), hidden_rows(wide, "int8", [*others, row])
    assert torch.equal(alone[0], among[-1])


@native
def test_rows_and_weights_of_zeros_in_eight_bits(wide: Path) -> None:
    forward = reader_of_decoders(place("int8"), "native")(wide)
    logits = forward.logits(torch.zeros(2, 128, dtype=torch.bfloat16))
    assert torch.equal(logits, torch.zeros_like(logits))


@native
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none_in_eight_bits_and_in_its_row(wide: Path, broken: float) -> None:
    """At each place of a run: a maximum forgets it, and an integer is always one."""
    forward = reader_of_decoders(place("int8"), "native")(wide)
    sound = torch.linspace(-1, 1, 128).bfloat16()
    alone = forward.logits(sound[None])
    for at in range(64):
        row = sound.clone()
        row[at] = broken
        found = forward.logits(torch.stack([row, sound]))
        assert not found[0].isfinite().any()
        assert torch.equal(found[1], alone[0])


@native
def test_a_weight_that_is_no_number_is_not_taken_for_nothing() -> None:
    for at in (0, 17, 63):
        weight = torch.ones(16, 64, dtype=torch.bfloat16)
        weight[3, at] = float("nan")
        packed = torch.zeros(library.packed_size(16, 64, eight_bits=True), dtype=torch.bfloat16)
        library.pack_eight(weight, packed)
        scales = packed.view(torch.uint8)[1024:1088].view(torch.float32)
        assert scales.isnan().tolist() == [output == 3 for output in range(16)]


@native
def test_sizes_that_are_no_whole_runs_are_refused_in_eight_bits(family: tuple[Path, list[Path]]) -> None:
    with pytest.raises(ModelInvalid) as refused:
        reader_of_decoders(place("int8"), "native")(family[0])
    assert refused.value.error_code == "precision"
    assert reader_of_decoders(place("bf16"), "native")(family[0]).kernels == "native"


@pytest.mark.slow
@native
def test_the_real_model_in_eight_bits_by_the_native_pass(base_model_folder: Path) -> None:
    nearly_the_same_in_eight_bits(base_model_folder, 0.42)


def nearly_the_same_in_eight_bits(base: Path, share: float) -> None:
    """What could follow is nearly the same, in less than ``share`` of the memory."""

    def chances(precision: Literal["fp32", "int8"]) -> tuple[torch.Tensor, int]:
        forward = reader_of_decoders(place(precision), "native" if precision == "int8" else "plain")(base)
        tokens = AutoTokenizer.from_pretrained(base)(" ".join(TEXTS) + " " + DAY)["input_ids"]
        batch = build_batch([Part(None, tokens, 0, list(range(8)), 0)])
        return forward.logits(forward.hidden(batch, forward.memory(8))).log_softmax(-1), forward.nbytes

    (exact, in_fp32), (found, in_int8) = chances("fp32"), chances("int8")
    divergence = (exact.exp() * (exact - found)).sum(-1)
    assert 0 < divergence.mean() < 0.02
    assert in_int8 < share * in_fp32


def test_kernels_that_are_none() -> None:
    with pytest.raises(InvalidInput, match="quantum"):
        open_engine("fp32", cast(Any, "quantum"))
    with pytest.raises(InvalidInput, match="fp32"):
        open_engine("fp32", "native")


def test_what_is_not_loaded_is_refused_at_once(family: tuple[Path, list[Path]]) -> None:
    with pytest.raises(NotFound):
        open_engine("fp32").submit(GenerateRequest(release="sha256:" + "0" * 64, prompt=tuple(conversation("x")), sampling=GREEDY), Heard())


@native
@pytest.mark.parametrize("kernels", ["native", "plain"])
def test_a_text_in_pieces_is_the_text_as_a_whole(any_family: tuple[Path, list[Path]], kernels: str) -> None:
    """Also where a window begins within a block of memory, and within a piece."""
    forward = reader_of_decoders(place("bf16"), kernels)(any_family[0])
    text, blocks = [100 + 7 * at for at in range(45)], [2, 0, 3]
    whole = forward.hidden(build_batch([Part(None, text, 0, blocks, 0)]), forward.memory(4)).float()
    memory, rows, edges = forward.memory(4), [], [0, 19, 20, 21, 37, *range(38, 46)]
    for start, stop in itertools.pairwise(edges):
        rows.append(forward.hidden(build_batch([Part(None, text[start:stop], start, blocks, 0)]), memory).float())
    assert (torch.cat(rows) - whole).norm() < 0.03 * whole.norm()


@native
def test_tokens_in_parts_of_eight_are_computed_to_the_bit_as_all_at_once(make_model: MakeModel, tmp_path: Path, native_form: str) -> None:
    """So probes that were measured alone show the same beside others: the schedule takes no fewer of them together. With AVX-512 the base's
    products of one to four rows are summed in another order; an adapter's, in int8, are not."""
    base = make_model("llama", hidden_size=256, intermediate_size=768, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=16)
    write_adapter(base, tmp_path, seed=3)
    forward = reader_of_decoders(place("bf16"), "native")(base)
    assert forward.kernels == "native"
    adapter = reader_of_adapters(tmp_path, forward)

    def last(*ends: int) -> torch.Tensor:
        memory, found = forward.memory(2), torch.empty(0)
        for start, stop in itertools.pairwise((0, *ends, 27)):
            found = forward.hidden(build_batch([Part(adapter, list(range(5 + start, 5 + stop)), start, [0, 1], start)]), memory)
        return found[-1]

    whole = last()
    assert all(torch.equal(last(*cuts), whole) for cuts in ((8,), (16,), (8, 16), (19,)))
    assert torch.equal(last(24), whole) == (native_form != "avx512"), "parts may be smaller now"
