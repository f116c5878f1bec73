"""Vocabulary, special tokens and chat template of a base model, as llama.cpp reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message
from tailorbird.inference.gguf_export.pretokenisers import fingerprint, pretokeniser, rules_of
from tailorbird.inference.gguf_export.sentence_pieces import are_sentence_pieces, begins_with_space, scores_of
from tailorbird.text.chat_tokenizer import ChatTokenizer
from tailorbird.text.token_reader import read_tokenizer, special_tokens

#: Special tokens by the name that the tokenizer's configuration gives them, and the writer's method for each.
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unk", "sep_token": "sep", "pad_token": "pad"}
#: How a vocabulary of sentence pieces names a byte.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
#: Characters of a sentence piece, which is tried split at each of them; those of real models have some dozens.
_LONGEST = 1_000
#: Flags of an added token that have it swallow what stands beside it; llama.cpp has none.
_SWALLOWING = ("lstrip", "rstrip", "single_word")


def write_vocabulary(writer: gguf.GGUFWriter, folder: Path, rows: int) -> None:
    """Writes what turns texts into token ids, for an embedding of ``rows``.

    Raises InvalidInput (``gguf_tokenizer``) where llama.cpp would read texts as other tokens, ModelInvalid (tokenizer, template).
    """
    chat = ChatTokenizer(folder)
    tokenizer = read_tokenizer(folder)
    content = json.loads(tokenizer.to_str())
    _check(content, chat.template)
    vocabulary = Vocabulary(tokenizer, rows)
    writer.add_token_list(vocabulary.tokens)
    if are_sentence_pieces(content):
        _write_sentence_pieces(writer, vocabulary, content, chat)
    else:
        _write_byte_pairs(writer, vocabulary, content, tokenizer)
    _write_special(writer, folder, chat)
    writer.add_chat_template(chat.template)


class Vocabulary:
    """A text and a type for each row of the embedding; rows without a token are unused. Raises InvalidInput."""

    def __init__(self, tokenizer: Tokenizer, rows: int) -> None:
        numbers = tokenizer.get_vocab(with_added_tokens=True)
        named = {number: text for text, number in numbers.items()}
        if len(named) < len(numbers):
            raise _refused("two of its tokens have one number")
        if max(named) >= rows:
            raise _refused(f"it has tokens past the {rows:,} rows of the embedding")
        self.tokens = [named.get(number, f"[PAD{number}]") for number in range(rows)]
        self.kinds = [int(gguf.TokenType.NORMAL if number in named else gguf.TokenType.UNUSED) for number in range(rows)]
        for number, token in tokenizer.get_added_tokens_decoder().items():
            self.kinds[number] = int(gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED)


def _check(content: dict[str, Any], template: str) -> None:
    model = content["model"]
    if model["type"] != "BPE":
        raise _refused(f"it is a {model['type']} tokenizer")
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(setting):
            raise _refused(f"it sets {setting}")
    for token in content["added_tokens"]:
        if token["content"] in template and any(token[flag] for flag in _SWALLOWING):
            raise _refused("a token of the chat template swallows the white space beside it")


def _write_byte_pairs(writer: gguf.GGUFWriter, vocabulary: Vocabulary, content: dict[str, Any], tokenizer: Tokenizer) -> None:
    if "ByteLevel" not in json.dumps([content["pre_tokenizer"], content["decoder"]]):
        raise _refused("it works neither on bytes nor on sentence pieces")
    rules = rules_of(content, tokenizer)
    if rules is None:
        raise _refused("it changes texts before it reads them")
    name = pretokeniser(rules)
    if name is None:
        raise _refused(f"llama.cpp has no pre-tokeniser that cuts texts as this one does (fingerprint {fingerprint(rules)[:12]})")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_types(vocabulary.kinds)
    merges = content["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_add_space_prefix(False)


def _write_sentence_pieces(writer: gguf.GGUFWriter, vocabulary: Vocabulary, content: dict[str, Any], chat: ChatTokenizer) -> None:
    if max(map(len, content["model"]["vocab"]), default=0) > _LONGEST:
        raise _refused(f"it has a token of more than {_LONGEST:,} characters")
    scores = scores_of(content)
    if scores is None:
        raise _refused("its merges are not those that scores of tokens give")
    space = begins_with_space(content, first_is_special=chat.is_control(_first_token(chat)))
    if space is None:
        raise _refused("it puts spaces before texts in a way of its own")
    kinds = list(vocabulary.kinds)
    for number, token in enumerate(vocabulary.tokens):
        if token == content["model"].get("unk_token"):
            kinds[number] = int(gguf.TokenType.UNKNOWN)
        elif _BYTE.fullmatch(token):
            kinds[number] = int(gguf.TokenType.BYTE)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([scores.get(token, 0.0) for token in vocabulary.tokens])
    writer.add_token_types(kinds)
    writer.add_add_space_prefix(space)


def _first_token(chat: ChatTokenizer) -> int:
    """The token that every prompt begins with."""
    (prompt,) = chat.prompts([[Message(role="user", content="x")]])
    return prompt[0]


def _refused(why: str) -> InvalidInput:
    return InvalidInput(
        f"this cannot be exported as GGUF: llama.cpp cannot read texts as the tokenizer does: {why}",
        "export it with --format safetensors, and serve it with tailorbird or vllm",
        code="gguf_tokenizer",
    )


def _write_special(writer: gguf.GGUFWriter, folder: Path, chat: ChatTokenizer) -> None:
    """Named tokens, the tokens that end an answer, and whether a prompt begins with one that the template writes. Raises InvalidInput where
    more tokens end an answer than a file can name."""
    named = {name: chat.tokenizer.token_to_id(text) for name, text in special_tokens(folder).items()}
    for name, word in _NAMED.items():
        if named.get(name) is not None:
            getattr(writer, f"add_{word}_token_id")(named[name])
    end = named.get("eos_token")
    further = sorted(chat.stops - {end}, key=lambda token: token != chat.end_of_turn[-1])
    if end is None:
        writer.add_eos_token_id(further.pop(0))
    writers = (writer.add_eot_token_id, writer.add_eom_token_id)
    if len(further) > len(writers):
        raise _refused("more than three tokens end an answer, and a file names three")
    for write, token in zip(writers, further, strict=False):
        write(token)
    writer.add_add_bos_token(named.get("bos_token") is not None and _first_token(chat) == named["bos_token"])
    writer.add_add_eos_token(False)
