"""Where an answer begins and ends in templates that reason, name channels, refuse system turns, or mark answers themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chat_families import FAMILIES, FRAMED, write_family
from tailorbird.chat.conversations import fold_turns
from tailorbird.chat.templates import ASKED, CLOSED, render
from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.ports.trainer import Example
from tailorbird.training.batches import RowTokenizer

TALK = [Message(role="system", content="Be brief."), Message(role="user", content="Where is my card?")]
PROMPTS = {
    "reasoning that is switched": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhere is my card?<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "reasoning that is not written": "<|begin|>Be brief.<|User|>Where is my card?<|Assistant|>",
    "channels": "<|start|>system<|message|>Current date: 2024-07-26<|end|><|start|>developer<|message|>Be brief.<|end|>"
    "<|start|>user<|message|>Where is my card?<|end|><|start|>assistant<|channel|>final<|message|>",
    "turns that are not closed": "[gMASK]<|system|>\nBe brief.<|user|>\nWhere is my card?<|assistant|>\n<think></think>\n",
    "thoughts in the prompt alone": "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nWhere is my card?<turn|>\n"
    "<|turn>model\n<|channel>thought\n<channel|>",
    "no system turn": "<bos><start_of_turn>user\nBe brief.\n\nWhere is my card?<end_of_turn>\n<start_of_turn>model\n",
    "system in the last message": "<s>[INST]Be brief.\n\nWhere is my card?[/INST]",
    "marks of its own": '<|im_start|>system\nBe brief.{"<b>": "é"}<|im_end|>\n<|im_start|>user\nWhere is my card?<|im_end|>\n'
    "<|im_start|>assistant\n",
}
PROMPTS["reasoning that is begun"] = PROMPTS["reasoning that is switched"]
#: The instruction stands elsewhere in a conversation that is answered, or the prompt has something of its own.
UNLIKE = {"system in the last message", "thoughts in the prompt alone"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    families = FAMILIES | FRAMED
    return {name: write_family(family, tmp_path_factory.mktemp("family") / "base") for name, family in families.items()}


@pytest.mark.parametrize("name", FRAMED)
def test_a_prompt_ends_where_the_template_has_an_answer_begin(name: str, folders: dict[str, Path]) -> None:
    chat = ChatTokenizer(folders[name])
    assert chat.prompt_text(TALK) == PROMPTS[name]
    assert chat.prompts([TALK]) == [chat.tokenizer.encode(PROMPTS[name], add_special_tokens=False).ids]
    assert [chat.tokenizer.id_to_token(token) for token in chat.end_of_turn] == list(FRAMED[name].end)
    answered = render(chat.template, [*chat.turns(TALK), Message(role="assistant", content="On its way.")], chat.variables, CLOSED)
    assert answered.startswith(PROMPTS[name] + "On its way.") is (name not in UNLIKE)


@pytest.mark.parametrize("name", FRAMED)
def test_rows_learn_answers_and_ends_and_nothing_else(name: str, folders: dict[str, Path]) -> None:
    tokenizer = RowTokenizer(folders[name])
    turns = [*TALK, Message(role="assistant", content="On its way."), Message(role="user", content="By train?")]
    [*rows] = tokenizer.encode(PromptSpec(instruction="Be brief."), [Example(text=fold_turns(turns), target="Yes.", every_turn=True)])
    end = FRAMED[name].end[0]
    learned = [tokenizer.tokenizer.decode(row.ids[a:b], skip_special_tokens=False) for row in rows for a, b in row.spans]
    assert learned == [f"On its way.{end}", f"Yes.{end}"]
    for row in rows:
        assert tokenizer.tokenizer.decode(row.ids[: row.prompt], skip_special_tokens=False) in {
            tokenizer.prompt_text(TALK),
            tokenizer.prompt_text(turns),
        }


@pytest.mark.parametrize(
    "template",
    [
        "{{ strftime_now('%Y-%m-%d') }}",
        "{% for m in messages %}{% generation %}{% set a = m['content'] %}{{ a }}{% endgeneration %}{{ a is defined }}{% endfor %}",
        "{{ {'<b>': [1, 'é']} | tojson(indent=1) }}",
        "{%- for m in messages %}\n  {%- generation -%}\n {{ m['content'] }} \n{%- endgeneration -%}\n x\n{% endfor %}",
    ],
)
def test_tags_and_functions_do_what_they_do_in_transformers(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    class Fixed(chat_template_utils.datetime):
        @classmethod
        def now(cls, tz: object = None) -> Fixed:
            return cls(2024, 7, 26)

    monkeypatch.setattr(chat_template_utils, "datetime", Fixed)
    stock = chat_template_utils._compile_jinja_template(template)
    said = [message.model_dump() for message in TALK]
    assert render(template, TALK, {}, ASKED) == stock.render(messages=said, tools=None, documents=None, add_generation_prompt=True)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"\xff\xfe",
        b"{{ nothing.at.all }}",
        b"{{ raise_exception('no chats') }}",
    ],
)
def test_a_template_that_is_missing_or_fails_is_refused_with_what_to_do(content: bytes | None, tmp_path: Path) -> None:
    folder = write_family(FAMILIES["chatml"], tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    if content is not None:
        (folder / "chat_template.jinja").write_bytes(content)
    with pytest.raises(ModelInvalid) as caught:
        ChatTokenizer(folder)
    assert caught.value.error_code == "chat_template"
    assert caught.value.hint.startswith("use a ")
