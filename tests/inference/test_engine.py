"""Loading, unloading, refusing; prompts, precision, prefixes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from support.oracle import LABELS, TEXTS, MakeModel, Reference, conversation, edit_json, servable, write_adapter
from tailorbird import __version__
from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import LocalRetrieval
from tailorbird.domain.errors import InvalidInput, ModelInvalid, NotFound
from tailorbird.domain.prompt import Entry, Message, Retrieval, Sampling
from tailorbird.inference import forward_factory, open_engine
from tailorbird.inference.devices import memory_budget
from tailorbird.inference.engine import TorchEngine
from tailorbird.inference.forward.model_folder import read_weights
from tailorbird.inference.forward.weights import Precision
from tailorbird.text.search_index import write_index


def test_the_fingerprint_names_what_could_change_a_number() -> None:
    assert open_engine("fp32").fingerprint().startswith(f"tailorbird-{__version__} torch-")
    assert open_engine("bf16").fingerprint().split()[-3] == "bf16"
    assert open_engine("fp32").fingerprint().split()[-3] == "fp32"
    with pytest.raises(InvalidInput, match="int3"):
        open_engine(cast(Any, "int3"))


def test_auto_is_the_same_at_every_start() -> None:
    assert open_engine().fingerprint() == open_engine().fingerprint()


def test_memory_is_bounded_as_asked() -> None:
    engine = open_engine("fp32", "plain", memory_mb=300, kv_mb=2)
    assert isinstance(engine, TorchEngine)
    assert engine.state().memory_budget == 300 * 2**20
    assert open_engine("fp32").state().memory_budget == memory_budget()


def test_a_base_is_read_once_and_freed_with_its_last_servable(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counted(folder: Path, placement: Any) -> Any:
        reads.append(folder)
        return read_weights(folder, placement)

    monkeypatch.setattr(forward_factory, "read_weights", counted)
    write_adapter(tiny, tmp_path / "adapter")
    engine = open_engine("fp32")
    one, two = servable(tiny, "one"), servable(tiny, "two", adapter=tmp_path / "adapter")
    for wanted in (one, two, one):
        engine.load(wanted)
    assert engine.loaded() == (one.id, two.id)
    assert len(reads) == 1
    engine.unload(one.id)
    engine.unload(one.id)
    engine.load(one)
    assert len(reads) == 1
    engine.unload(one.id)
    engine.unload(two.id)
    assert engine.loaded() == ()
    engine.load(two)
    assert len(reads) == 2


def test_a_servable_is_loaded_when_its_model_is_and_not_with_its_index(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_index(tmp_path, [Entry(id="own", text="a refund of its own", access=("everyone",))], None)
    spec = Retrieval(what="documents", ways=("words",), count=1, index=digest_bytes(b"index"))
    grounded = servable(tiny).model_copy(update={"retrieval": LocalRetrieval(spec=spec, index=str(tmp_path))})
    engine, seen = open_engine("fp32"), []

    def looked(folder: Path, placement: Any) -> Any:
        seen.append(engine.loaded())
        return read_weights(folder, placement)

    monkeypatch.setattr(forward_factory, "read_weights", looked)
    engine.load(grounded)
    assert seen == [()]
    assert engine.loaded() == (grounded.id,)


def test_unloading_waits_for_running_calls(tiny: Path) -> None:
    engine, wanted = open_engine("fp32"), servable(tiny)
    engine.load(wanted)
    shown: list[str] = []

    def show(_: int, text: str) -> bool:
        if not shown:
            engine.unload(wanted.id)
            with pytest.raises(NotFound):
                engine.score(wanted.id, [conversation("hello")], LABELS)
        shown.append(text)
        return True

    [answer] = engine.generate(wanted.id, [conversation("hello")], Sampling(max_tokens=8), show)
    assert "".join(shown) == answer.text
    assert answer.completion_tokens == 8
    with pytest.raises(NotFound):
        engine.generate(wanted.id, [conversation("hello")], Sampling(max_tokens=8))


def test_threads_with_different_adapters_get_their_own_answers(tiny: Path, tmp_path: Path) -> None:
    engine = open_engine("fp32")
    servables = [servable(tiny, "base")]
    for seed in range(3):
        write_adapter(tiny, tmp_path / f"adapter{seed}", seed=seed)
        servables.append(servable(tiny, f"adapter{seed}", adapter=tmp_path / f"adapter{seed}"))
    for wanted in servables:
        engine.load(wanted)
    expected = [engine.score(wanted.id, [conversation("hello")], LABELS)[0].log_probabilities for wanted in servables]
    assert len(set(expected)) == 4
    wrong: list[int] = []

    def ask(which: int) -> None:
        for text in ("hello", TEXTS[2], "hello"):
            [score] = engine.score(servables[which].id, [conversation(text)], LABELS)
            if text == "hello" and score.log_probabilities != pytest.approx(expected[which], abs=1e-5):
                wrong.append(which)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(4) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tokens_are_counted_without_a_model(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    prompts = [conversation(text) for text in TEXTS]
    reference = Reference(tiny)
    assert open_engine("fp32").count_tokens(folder, prompts) == [len(reference.prompt(prompt)) for prompt in prompts]


@pytest.mark.parametrize(
    "template", ["own", "Q: {{ messages[0].content }}\n{% if messages[1] %}A: {{ messages[1].content }}{{ eos_token }}{% endif %}"]
)
def test_answers_are_counted_as_they_are_learned(template: str, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny, folder)
    if template != "own":
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    chat = ChatTokenizer(folder)
    asked = [*(conversation(text) for text in TEXTS), *((Message(role="assistant", content=text),) for text in TEXTS)]
    wanted = [*map(len, chat.prompts(conversation(text) for text in TEXTS)), *map(len, chat.answers(TEXTS))]
    assert open_engine("fp32").count_tokens(folder, asked) == wanted


def test_an_answer_ends_with_the_end_of_its_turn(tiny: Path) -> None:
    chat, tokenizer = ChatTokenizer(tiny), Reference(tiny).tokenizer
    assert tokenizer.convert_ids_to_tokens(list(chat.end_of_turn)) == ["<|im_end|>"]
    [answer] = chat.answers(["card_lost"])
    assert answer == [*tokenizer("card_lost", add_special_tokens=False)["input_ids"], *chat.end_of_turn]
    whole = [*conversation("hello"), Message(role="assistant", content="card_lost")]
    rendered = tokenizer.apply_chat_template([message.model_dump() for message in whole], tokenize=False)
    expected = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    [prompt] = chat.prompts([conversation("hello")])
    assert expected[: len(prompt) + len(answer)] == prompt + answer


def rename(old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file({name.replace(old, new): tensor for name, tensor in load_file(path).items()}, path)

    return damage


def drop_half_a_pair(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, path)


def configure(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "adapter_config.json", **changes)


def without_directions(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: each[:0] if "lora_A" in name else each[:, :0] for name, each in tensors.items()}, folder / "adapter_model.safetensors")


UNSERVABLE_SETTINGS: list[dict[str, object]] = [{"modules_to_save": ["lm_head"]}, {"use_dora": True}, {"target_modules": ["embed_tokens"]}]
ADAPTER_DAMAGE = {
    "half a pair": drop_half_a_pair,
    "unknown layer": rename("q_proj", "w_proj"),
    "too deep": rename("layers.1.", "layers.9."),
    "cut off": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 100),
    "empty": lambda folder: save_file({}, folder / "adapter_model.safetensors"),
    "other kind": configure(peft_type="IA3"),
    "pattern": configure(alpha_pattern={"(": 1}),
    "no directions": lambda folder: without_directions(folder),
    "biases": configure(bias="all"),
    "begins at a token": configure(alora_invocation_tokens=[5]),
    "no rank": configure(r=0),
    "endless rank": configure(r=float("inf")),
    "no config": lambda folder: (folder / "adapter_config.json").unlink(),
}


def refusal(base: Path, adapter: Path) -> ModelInvalid:
    engine = open_engine("fp32")
    with pytest.raises(ModelInvalid) as caught:
        engine.load(servable(base, adapter=adapter))
    assert engine.loaded() == ()
    return caught.value


@pytest.mark.parametrize("settings", UNSERVABLE_SETTINGS, ids=lambda settings: next(iter(settings)))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters_that_change_more_than_linear_layers_are_refused(settings: dict[str, object], tiny: Path, tmp_path: Path) -> None:
    write_adapter(tiny, tmp_path / "adapter", **settings)
    assert refusal(tiny, tmp_path / "adapter").error_code == "adapter_invalid"


@pytest.mark.parametrize("damage", ADAPTER_DAMAGE)
def test_damaged_adapters_are_refused(damage: str, tiny: Path, tmp_path: Path) -> None:
    write_adapter(tiny, tmp_path / "adapter")
    ADAPTER_DAMAGE[damage](tmp_path / "adapter")
    assert refusal(tiny, tmp_path / "adapter").error_code == "adapter_invalid"


def test_an_adapter_that_is_not_there_is_refused(tiny: Path, tmp_path: Path) -> None:
    assert refusal(tiny, tmp_path / "nowhere").error_code == "adapter_invalid"


def test_an_adapter_of_another_base_is_refused(tiny: Path, make_model: MakeModel, tmp_path: Path) -> None:
    write_adapter(make_model("llama", head_dim=16), tmp_path / "adapter")
    with pytest.raises(ModelInvalid, match="another shape"):
        open_engine("fp32").load(servable(tiny, adapter=tmp_path / "adapter"))


@pytest.mark.parametrize(
    "settings", [{"target_modules": ["q_proj", "v_proj"]}, {"use_rslora": True}, {"target_modules": ["up_proj"], "r": 3}]
)
def test_adapters_of_parts_and_other_scalings(settings: dict[str, object], tiny: Path, tmp_path: Path) -> None:
    reference = Reference(tiny, write_adapter(tiny, tmp_path / "adapter", **settings))
    engine = open_engine("fp32")
    engine.load(servable(tiny, adapter=tmp_path / "adapter"))
    [score] = engine.score(servable(tiny).id, [conversation("hello")], LABELS)
    assert score.log_probabilities == pytest.approx(reference.score(conversation("hello"), LABELS), abs=1e-4)


CONFIG_DAMAGE: dict[str, dict[str, object]] = {
    "unknown type": {"model_type": "no_such_type"},
    "code of its own": {"model_type": "no_such_type", "auto_map": {"AutoModelForCausalLM": "evil.Model"}},
    "an encoder": {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
    "quantised": {"quantization_config": {"quant_method": "no_such_method"}},
    "another width": {"intermediate_size": 64},
    "fewer layers": {"num_hidden_layers": 1},
}


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("no template", "chat_template"),
        ("no tokenizer", "model_unreadable"),
        ("no weights", "model_unreadable"),
        ("half the weights", "model_unreadable"),
        ("unknown type", "model_unsupported"),
        ("code of its own", "model_unsafe"),
        ("an encoder", "model_unsupported"),
        ("quantised", "model_unsupported"),
        ("another width", "model_unreadable"),
        ("fewer layers", "model_unreadable"),
        ("fewer tokens", "model_unreadable"),
        ("turns never end", "chat_template"),
    ],
)
def test_bad_folders_are_refused(damage: str, code: str, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny, folder)
    if damage == "no template":
        (folder / "chat_template.jinja").unlink()
    elif damage == "no tokenizer":
        (folder / "tokenizer.json").write_text("{")
    elif damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "half the weights":
        tensors = load_file(folder / "model.safetensors")
        tensors.pop("model.norm.weight")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    elif damage in CONFIG_DAMAGE:
        edit_json(folder / "config.json", **CONFIG_DAMAGE[damage])
    elif damage == "fewer tokens":
        tensors = load_file(folder / "model.safetensors")
        rows = {name: tensor[:40_000].clone() if tensor.shape[0] == 49152 else tensor for name, tensor in tensors.items()}
        save_file(rows, folder / "model.safetensors", metadata={"format": "pt"})
        edit_json(folder / "config.json", vocab_size=40_000)
    else:
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ModelInvalid) as caught:
        open_engine("fp32").load(servable(folder))
    assert caught.value.error_code == code
    assert caught.value.hint


@pytest.mark.slow
def test_bf16_is_nearer_to_fp32_than_transformers_is(base_model_folder: Path) -> None:
    prompts, wanted = [conversation(text) for text in TEXTS], servable(base_model_folder)
    found: dict[str, list[tuple[float, ...]]] = {}
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        engine = open_engine(precision)
        engine.load(wanted)
        found[precision] = [score.log_probabilities for score in engine.score(wanted.id, prompts, LABELS)]
    theirs = Reference(base_model_folder, AutoModelForCausalLM.from_pretrained(base_model_folder, dtype=torch.bfloat16))
    exact = torch.tensor(found["fp32"])
    ours_off = (torch.tensor(found["bf16"]) - exact).abs().mean()
    theirs_off = (torch.tensor([theirs.score(prompt, LABELS) for prompt in prompts]) - exact).abs().mean()
    assert 0 < ours_off < theirs_off < 1
