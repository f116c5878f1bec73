"""llama.cpp reads texts as the tokenizer does, or the export is refused."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import pytest

from support.gguf_models import job, metadata, sentence_pieces, write_exportable, write_with_tokenizer
from support.model_families import write_family
from support.oracle import edit_json
from tailorbird.domain.errors import InvalidInput
from tailorbird.inference import open_model_reader
from tailorbird.inference.gguf_export.sentence_pieces import scores_of


def vocabulary(source: Path, target: Path) -> dict[str, Any]:
    open_model_reader().write_gguf(job(source, target))
    return {name.removeprefix("tokenizer."): value for name, value in metadata(target).items() if name.startswith("tokenizer.")}


def edit_tokenizer(source: Path, **changes: Any) -> None:
    edit_json(source / "tokenizer.json", **changes)


def test_tokens_merges_and_special_tokens_are_written(tmp_path: Path) -> None:
    source = write_exportable(tmp_path / "model", rules="llama-bpe")
    content = json.loads((source / "tokenizer.json").read_text())
    found = vocabulary(source, tmp_path / "model.gguf")
    assert (found["ggml.model"], found["ggml.pre"]) == ("gpt2", "llama-bpe")
    assert len(found["ggml.tokens"]) == len(found["ggml.token_type"]) == 320
    assert found["ggml.tokens"][content["model"]["vocab"]["the"]] == "the"
    assert found["ggml.merges"] == ["t h", "th e"]
    kinds = found["ggml.token_type"]
    assert kinds[:2] == [gguf.TokenType.CONTROL] * 2
    assert kinds[2] == gguf.TokenType.NORMAL
    assert (found["ggml.tokens"][-1], kinds[-1]) == ("[PAD319]", gguf.TokenType.UNUSED)
    assert (found["ggml.bos_token_id"], found["ggml.eos_token_id"], found["ggml.padding_token_id"]) == (0, 1, 1)
    assert found["chat_template"] == (source / "chat_template.jinja").read_text()


@pytest.mark.parametrize("begins", [True, False])
def test_a_prompt_begins_with_the_first_token_where_the_template_writes_it(begins: bool, tmp_path: Path) -> None:
    source = write_exportable(tmp_path / "model")
    template = (source / "chat_template.jinja").read_text()
    (source / "chat_template.jinja").write_text(template if begins else template.replace("<s>", "["))
    assert vocabulary(source, tmp_path / "model.gguf")["ggml.add_bos_token"] is begins


def write_with_ends(folder: Path, *ends: str) -> Path:
    """A model whose answers end with token 1, or with one of these, which are the tokens from 300 on; the first is special."""
    source = write_exportable(folder)
    content = json.loads((source / "tokenizer.json").read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    fill = [{"id": number, "content": f"<{number}>", "special": False, **flags} for number in range(260, 300)]
    added = [{"id": 300 + place, "content": end, "special": place == 0, **flags} for place, end in enumerate(ends)]
    edit_tokenizer(source, added_tokens=[*content["added_tokens"], *fill, *added])
    edit_json(source / "config.json", eos_token_id=[1, *(token["id"] for token in added)])
    return source


def test_every_token_that_ends_an_answer_is_named(tmp_path: Path) -> None:
    found = vocabulary(write_with_ends(tmp_path / "model", "<end>", "<call>"), tmp_path / "model.gguf")
    assert found["ggml.eos_token_id"] == 1
    assert {found["ggml.eot_token_id"], found["ggml.eom_token_id"]} == {300, 301}
    assert found["ggml.token_type"][300:302] == [gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED]


def test_more_ends_than_a_file_names_are_refused(tmp_path: Path) -> None:
    """An answer would go on past the fourth."""
    with pytest.raises(InvalidInput, match="more than three tokens end an answer") as caught:
        vocabulary(write_with_ends(tmp_path / "model", "<end>", "<call>", "<stop>"), tmp_path / "model.gguf")
    assert caught.value.error_code == "gguf_tokenizer"


@pytest.mark.parametrize("damage", ["unigram", "wordpiece", "bpe", "byte_fallback", "lower case", "swallowing"])
def test_a_tokenizer_that_llama_cpp_cannot_follow_is_refused(damage: str, tmp_path: Path) -> None:
    if damage in ("unigram", "wordpiece", "bpe"):  # the last one cuts as nothing in llama.cpp does
        source = write_family(tmp_path / "model", "llama", damage)
    else:
        source = write_exportable(tmp_path / "model")
        content = json.loads((source / "tokenizer.json").read_text())
        if damage == "byte_fallback":
            edit_tokenizer(source, model=content["model"] | {"byte_fallback": True})
        elif damage == "lower case":
            edit_tokenizer(source, normalizer={"type": "Lowercase"})
        else:
            edit_tokenizer(source, added_tokens=[token | {"rstrip": True} for token in content["added_tokens"]])
    with pytest.raises(InvalidInput) as caught:
        vocabulary(source, tmp_path / "model.gguf")
    assert caught.value.error_code == "gguf_tokenizer"
    assert "safetensors" in caught.value.hint


def test_sentence_pieces_have_scores_and_bytes(tmp_path: Path) -> None:
    tokenizer = sentence_pieces()
    found = vocabulary(write_with_tokenizer(tmp_path / "model", tokenizer), tmp_path / "model.gguf")
    assert (found["ggml.model"], found["ggml.pre"], found["ggml.add_space_prefix"]) == ("llama", "default", True)
    assert "ggml.merges" not in found
    assert [found["ggml.token_type"][number] for number in (0, 1, 3, 259)] == [
        gguf.TokenType.UNKNOWN,
        gguf.TokenType.CONTROL,
        gguf.TokenType.BYTE,
        gguf.TokenType.NORMAL,
    ]
    scores = dict(zip(found["ggml.tokens"], found["ggml.scores"], strict=True))
    made = ["".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    assert [scores[token] for token in made] == sorted((scores[token] for token in made), reverse=True)
    assert scores[made[0]] == 0.0 > scores[made[-1]]


def without_a_split(merges: list[list[str]]) -> list[list[str]]:
    """As a tokenizer has that was trained: a token of three characters is made in one way."""
    place = next(place for place, pair in enumerate(merges) if ["".join(each) for each in merges].count("".join(pair)) > 1)
    return merges[:place] + merges[place + 1 :]


def out_of_order(merges: list[list[str]]) -> list[list[str]]:
    """The merges of one token stand apart."""
    place = next(place for place, pair in enumerate(merges) if ["".join(each) for each in merges].count("".join(pair)) > 1)
    return merges[:place] + merges[place + 1 :] + [merges[place]]


@pytest.mark.parametrize("change", [without_a_split, out_of_order])
def test_merges_that_no_scores_give_are_refused(change: Any, tmp_path: Path) -> None:
    source = write_with_tokenizer(tmp_path / "model", sentence_pieces())
    model = json.loads((source / "tokenizer.json").read_text())["model"]
    edit_tokenizer(source, model=model | {"merges": change(model["merges"])})
    with pytest.raises(InvalidInput, match="scores"):
        vocabulary(source, tmp_path / "model.gguf")


def test_splits_of_a_token_are_not_held_together() -> None:
    tracemalloc.start()
    scores = scores_of({"model": {"vocab": {"a" * 1_000: 0}, "merges": []}, "added_tokens": []})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert scores == {}
    assert peak < 200_000


def test_a_sentence_piece_without_end_is_refused(tmp_path: Path) -> None:
    source = write_with_tokenizer(tmp_path / "model", sentence_pieces())
    model = json.loads((source / "tokenizer.json").read_text())["model"]
    number = model["vocab"].pop("<0xFF>")
    edit_tokenizer(source, model=model | {"vocab": model["vocab"] | {"a" * 1_001: number}})
    with pytest.raises(InvalidInput, match="1,000 characters") as caught:
        vocabulary(source, tmp_path / "model.gguf")
    assert caught.value.error_code == "gguf_tokenizer"


def test_two_tokens_of_one_number_are_refused(tmp_path: Path) -> None:
    """A tokenizer keeps either of the two, by chance, where it gives numbers back as text."""
    source = write_with_tokenizer(tmp_path / "model", sentence_pieces())
    model = json.loads((source / "tokenizer.json").read_text())["model"]
    edit_tokenizer(source, model=model | {"vocab": model["vocab"] | {"twin": max(model["vocab"].values())}})
    with pytest.raises(InvalidInput, match="two of its tokens") as caught:
        vocabulary(source, tmp_path / "model.gguf")
    assert caught.value.error_code == "gguf_tokenizer"


@pytest.mark.parametrize(("scheme", "space"), [("never", False), ("first", False), ("always", None)])
def test_spaces_before_texts(scheme: str, space: bool | None, tmp_path: Path) -> None:
    """``first`` is the first text of a prompt, and every prompt begins with a special token; ``always`` leaves the space out before a
    space, which llama.cpp does not."""
    source = write_with_tokenizer(tmp_path / "model", sentence_pieces())
    edit_tokenizer(
        source, normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    )
    if space is None:
        with pytest.raises(InvalidInput, match="spaces"):
            vocabulary(source, tmp_path / "model.gguf")
    else:
        assert vocabulary(source, tmp_path / "model.gguf")["ggml.add_space_prefix"] is space
