"""Loading, unloading, refusing; prompts, precision, prefixes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from safetensors.torch import load_file, save_file

from support.oracle import LABELS, MakeModel, Reference, conversation, edit_json, servable, write_adapter
from tailorbird import __version__
from tailorbird.domain.errors import InvalidInput, ModelInvalid, NotFound
from tailorbird.domain.prompt import Sampling
from tailorbird.inference import open_engine


def test_the_fingerprint_names_what_could_change_a_number() -> None:
    assert open_engine("fp32").fingerprint().startswith(f"tailorbird-{__version__} torch-")
    assert open_engine("bf16").fingerprint().split()[-3] == "bf16"
    assert open_engine("fp32").fingerprint().split()[-3] == "fp32"
    with pytest.raises(InvalidInput, match="int3"):
        open_engine(cast(Any, "int3"))


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
    "too deep": rename("layers.1.", "layers.9."),
    "cut off": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 100),
    "other kind": configure(peft_type="IA3"),
    "no directions": without_directions,
    "endless rank": configure(r=float("inf")),
    "no config": lambda folder: (folder / "adapter_config.json").unlink(),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters_that_do_not_fit_are_refused(tiny: Path, make_model: MakeModel, tmp_path: Path) -> None:
    """Damaged ones, ones that change more than linear layers, one of another base."""
    engine, whole = open_engine("fp32"), tmp_path / "whole"
    write_adapter(tiny, whole)
    folders = []
    for damage, change in ADAPTER_DAMAGE.items():
        folders.append(shutil.copytree(whole, tmp_path / damage))
        change(folders[-1])
    for settings in UNSERVABLE_SETTINGS:
        folders.append(tmp_path / next(iter(settings)))
        write_adapter(tiny, folders[-1], **settings)
    write_adapter(make_model("llama", head_dim=16), tmp_path / "other")
    for folder in (*folders, tmp_path / "other"):
        with pytest.raises(ModelInvalid) as caught:
            engine.load(servable(tiny, adapter=folder))
        assert caught.value.error_code == "adapter_invalid", folder.name
        assert engine.loaded() == ()


def test_adapters_of_parts_and_other_scalings(tiny: Path, tmp_path: Path) -> None:
    patterns: dict[str, object] = {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"q_proj": 9}}
    for settings in ({"target_modules": ["q_proj", "v_proj"]}, {"use_rslora": True}, patterns):
        name = next(iter(settings))
        reference, engine = Reference(tiny, write_adapter(tiny, tmp_path / name, **settings)), open_engine("fp32")
        engine.load(servable(tiny, adapter=tmp_path / name))
        [score] = engine.score(servable(tiny).id, [conversation("hello")], LABELS)
        assert score.log_probabilities == pytest.approx(reference.score(conversation("hello"), LABELS), abs=1e-4)


def without_a_norm(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", **changes)


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no template": (lambda folder: (folder / "chat_template.jinja").unlink(), "chat_template"),
    "turns never end": (lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content }}"), "chat_template"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), "model_unreadable"),
    "half the weights": (without_a_norm, "model_unreadable"),
    "another width": (config(intermediate_size=64), "model_unreadable"),
    "code of its own": (config(model_type="no_such_type", auto_map={"AutoModelForCausalLM": "evil.Model"}), "model_unsafe"),
    "an encoder": (config(model_type="bert", architectures=["BertForMaskedLM"]), "model_unsupported"),
    "quantised": (config(quantization_config={"quant_method": "no_such_method"}), "model_unsupported"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_are_refused(name: str, tiny: Path, tmp_path: Path) -> None:
    damage, code = BAD_FOLDERS[name]
    damage(shutil.copytree(tiny, tmp_path / "base"))
    with pytest.raises(ModelInvalid) as caught:
        open_engine("fp32").load(servable(tmp_path / "base"))
    assert caught.value.error_code == code
    assert caught.value.hint
