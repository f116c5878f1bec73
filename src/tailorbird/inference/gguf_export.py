"""GGUF export: a model in Hugging Face form as one file for llama.cpp, written tensor by tensor, read back by transformers and compared.

llama.cpp holds the rules that cut a text into words in its code, and a file names them. A wrong name is silent: most texts give the same
tokens. So a name is given only where the tokenizer cuts a text, full of what these rules treat differently, just as the named rules do;
the vocabulary has no say in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from safetensors import safe_open
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tailorbird.chat.prompts import messages_for
from tailorbird.chat.tokenizer import ChatTokenizer, read_tokenizer, special_tokens
from tailorbird.decoders import divergences, next_token_nats
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.prompt import Message
from tailorbird.inference.model_description import read_config
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.ports.model_reader import GgufFile, GgufJob, GgufPrecision

_ATTENTION = frozenset({"attn_q", "attn_k", "attn_v"})


class Architecture(NamedTuple):
    """How llama.cpp calls an architecture. ``interleaved``: the two numbers that a rotation turns stand side by side there, and half a head
    apart in transformers. ``biases`` are the layers that may have one."""

    arch: gguf.MODEL_ARCH
    interleaved: bool
    biases: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Its name in the file."""
        return gguf.MODEL_ARCH_NAMES[self.arch]


_LLAMA = Architecture(gguf.MODEL_ARCH.LLAMA, True, _ATTENTION | {"attn_output", "ffn_gate", "ffn_up", "ffn_down"})
#: By the model type of transformers. One that is added here joins the tests on tiny models, and on a real llama.cpp, by itself.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture(gguf.MODEL_ARCH.QWEN2, False, _ATTENTION),
    "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3, False),
}


def architecture_of(config: Any) -> Architecture:
    """The architecture of a config. Raises InvalidInput where llama.cpp would compute something else."""
    known = ARCHITECTURES.get(config.model_type)
    if known is None:
        raise _unsupported(f"models of type {config.model_type} are not written as GGUF ({', '.join(ARCHITECTURES)} are)")
    if getattr(config, "hidden_act", "silu") != "silu":
        raise _unsupported(f"llama.cpp computes this architecture with SiLU, and the model uses {config.hidden_act}")
    if (config.rope_parameters or {}).get("partial_rotary_factor", 1.0) != 1.0:
        raise _unsupported("only a part of each head is rotated")
    return known


def _unsupported(why: str) -> InvalidInput:
    """What llama.cpp would not compute as it was measured."""
    return InvalidInput(
        f"this cannot be exported as GGUF: {why}",
        "export it with --format safetensors, and serve it with tailorbird or vllm",
        code="export_nothing",
    )


def context_of(config: Any) -> int:
    """Tokens up to which llama.cpp computes the same: the model's context, or its window, which llama.cpp does not slide."""
    context: int = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    slides = window is not None and (kinds is None or "sliding_attention" in kinds)
    return min(context, window) if slides and window is not None else context


def _write_parameters(writer: gguf.GGUFWriter, config: Any) -> np.ndarray[Any, Any] | None:
    """Writes sizes and positions. The factors (half a head) by which llama.cpp divides the frequencies of rotations, where it is to slow
    them as Llama 3 does. Raises InvalidInput."""
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise _unsupported(f"llama.cpp does not scale positions as {kind} does")
    writer.add_context_length(context_of(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(rope["rope_theta"])
    if kind == "default":
        return None
    slowed, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    factors: np.ndarray[Any, Any] = (plain / slowed).float().numpy()
    return factors


GgmlType = gguf.GGMLQuantizationType
_HELD = {torch.float32: GgmlType.F32, torch.bfloat16: GgmlType.BF16, torch.float16: GgmlType.F16}


#: The type by which a reader of the metadata knows most weights of a file, and the largest mean divergence, in nats a token, that rounding
#: to it explains.
_FACTS = {
    GgmlType.F32: (gguf.LlamaFileType.ALL_F32, 1e-4),
    GgmlType.F16: (gguf.LlamaFileType.MOSTLY_F16, 1e-2),
    GgmlType.BF16: (gguf.LlamaFileType.MOSTLY_BF16, 1e-2),
    GgmlType.Q8_0: (gguf.LlamaFileType.MOSTLY_Q8_0, 2e-2),
}
#: Tensors of a checkpoint that are computed anew by whoever reads it.
_COMPUTED = "rotary_emb.inv_freq"
_FACTORS = "rope_freqs.weight"


def reordered(rows: torch.Tensor, name: str, architecture: Architecture, config: Any) -> torch.Tensor:
    """``rows`` (outputs, …) of the tensor ``name`` in the order of llama.cpp: in queries and keys of an interleaved architecture, number i
    of a head and number i + half of it become neighbours."""
    layer = name.split(".")[2] if name.startswith("blk.") else ""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(layer)
    if heads is None or not architecture.interleaved:
        return rows
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _type_of(shape: tuple[int, ...], dtype: torch.dtype, precision: GgufPrecision) -> GgmlType:
    """The type in which a tensor is written. What is no matrix, or a row that blocks of 32 do not divide, is not quantised."""
    if dtype not in _HELD:
        raise _unsupported(f"weights are held in {str(dtype).removeprefix('torch.')}")
    if len(shape) < 2:
        return GgmlType.F32
    return GgmlType.Q8_0 if precision == "q8_0" and shape[-1] % gguf.GGML_QUANT_SIZES[GgmlType.Q8_0][0] == 0 else _HELD[dtype]


class _StoredTensor(NamedTuple):
    """A tensor to write: its name in the file, where it lies, and the type it gets."""

    name: str
    path: Path
    key: str
    shape: tuple[int, ...]
    kind: GgmlType


def write_model(job: GgufJob) -> GgufFile:
    """As ``ModelReader.write_gguf``."""
    config = read_config(job.source)
    architecture = architecture_of(config)
    tensors = list(_tensors(job, config, architecture))
    matrices = [tensor.kind for tensor in tensors if len(tensor.shape) > 1]
    kind = max(matrices, key=matrices.count)
    file_type, tolerance = _FACTS[kind]
    writer = gguf.GGUFWriter(job.target, architecture.name)
    try:
        writer.add_type("model")
        if any(key.startswith("general.base_model.0.") for key in job.facts):
            writer.add_base_model_count(1)
        for key in sorted(job.facts):
            writer.add_string(key, job.facts[key])
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        factors = _write_parameters(writer, config)
        _write_vocabulary(writer, job.source, config.vocab_size)
        if factors is not None:
            writer.add_tensor_info(_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for name, _, _, shape, held in tensors:
            block, size = gguf.GGML_QUANT_SIZES[held]
            writer.add_tensor_info(name, shape, np.dtype(np.float32), int(np.prod(shape)) // block * size, raw_dtype=held)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for name, path, key, _, held in tensors:  # one at a time in memory
            with safe_open(path, "pt") as file:
                rows = reordered(file.get_tensor(key), name, architecture, config).contiguous()
            as_torch = held is GgmlType.BF16  # rounded to the nearest, ties to even
            writer.write_tensor_data(
                rows.to(torch.bfloat16).view(torch.int16).numpy() if as_torch else gguf.quantize(rows.float().numpy(), held)
            )
    finally:
        writer.close()
    apart = _divergences(job, config, architecture)
    mean = float(apart.mean())
    if not mean <= tolerance:
        raise Corrupt(
            f"the GGUF file differs from the model by {mean:.2e} nats a token",
            "do not use it: export with --precision held",
        )
    return GgufFile(
        name=job.target.name,
        architecture=architecture.name,
        precision=job.precision,
        tensors=len(tensors) + (factors is not None),
        size=job.target.stat().st_size,
        positions=len(apart),
        mean_kl=mean,
        max_kl=float(apart.max()),
    )


def _tensors(job: GgufJob, config: Any, architecture: Architecture) -> Iterator[_StoredTensor]:
    """Every tensor of the checkpoint that the file gets, in the order of the model's layers: ``model.layers.0.self_attn.q_proj.weight`` is
    ``blk.0.attn_q.weight`` there. Raises InvalidInput where llama.cpp knows no such tensor."""
    names = gguf.get_tensor_name_map(architecture.arch, config.num_hidden_layers)
    held = list[tuple[str, Path]]()
    for path in sorted(job.source.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            held += [(key, path) for key in file.keys()]  # noqa: SIM118 - no mapping
    for key, path in sorted(held, key=lambda each: [int(part) if part.isdigit() else -1 for part in each[0].split(".")]):
        stem, _, part = key.rpartition(".")
        name = names.get_name(stem)
        if key.endswith(_COMPUTED) or (name == "output" and config.tie_word_embeddings):
            continue
        if name is None or part not in ("weight", "bias"):
            raise _unsupported(f"llama.cpp's {architecture.name} has no tensor for {key}")
        if part == "bias" and name.rpartition(".")[2] not in architecture.biases:
            raise _unsupported(f"llama.cpp's {architecture.name} adds no bias where {key} does")
        with safe_open(path, "pt") as file:
            sliced = file.get_slice(key)
            shape, dtype = tuple(sliced.get_shape()), sliced[:1].dtype
        yield _StoredTensor(f"{name}.{part}", path, key, shape, _type_of(shape, dtype, job.precision))


def _divergences(job: GgufJob, config: Any, architecture: Architecture) -> torch.Tensor:
    """KL divergence of the model's next token from the file's, at each place of each probe, in nats. transformers' own reading of GGUF
    undoes names and order of rows independently of this module."""
    texts = [messages_for(job.prompt, text) for text in job.probes]
    rows = [torch.tensor([ids[: context_of(config)]]) for ids in ChatTokenizer(job.source).prompts(texts)]
    plain = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures", "sliding_window")}
    read_as = LlamaConfig(**plain) if architecture.arch is gguf.MODEL_ARCH.LLAMA else config
    with quiet():
        expected = next_token_nats(
            AutoModelForCausalLM.from_pretrained(
                job.source, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
            ),
            rows,
        )
        found = next_token_nats(
            AutoModelForCausalLM.from_pretrained(job.target.parent, gguf_file=job.target.name, config=read_as, dtype=torch.float32), rows
        )
    return divergences(expected, found)


#: Contractions in both cases, runs of digits, letters of both cases together, marks, spaces and line ends before and after anything.
PROBE = (
    "I'm sure THEY'RE here, we'll SEE'em; don't! O'Neil's 'dbl' 'TIS it'D he'S\n"
    "1 12 123 1234 12345 1.5e10 3,141.59 x2y3 №7 ½ ² ٣٤٥٦ ४५६७ Ⅷ 二〇二六\r\n"
    "camelCase HTTPServer iPhone MacOSX snake_case kebab-case ALLCAPS ǅungla ʰaspir ªº\n\n\n"
    "tabs\tand\t\ttabs  two   three    four \n \n  \n   indented\r\n\r\n\tback /path//to/\n/x\r\n..\n!?\n  ...  \n"
    "a=b+c==d;f(x)[0]->y::z <tag attr='v'>&amp;</tag> #hash @name $9.99 50% ~/.x {\"k\": [1, 22, 333]}\n"
    "Straße naïve café cafe\u0301 Ångström İstanbul ǆ ﬁne Ἀθῆναι Москва שָׁלוֹם مَرْحَبًا नमस्ते\n"
    "สวัสดี ภาษาไทย 你好，世界！ 東京タワー ハﾊ 한국어 \u1112\u1161\u11ab\n"
    "🙂🙂 👩\u200d👩\u200d👧 🇩🇪 e\u20dd \u00a0nbsp\u00a0 \u2003em\u2003 \u200bzero\u200b \u3000wide\u3000\n"
    "\u2028line\u2029para \ufeff “quotes” ‘x’ – — … §1 €5 ©®\n"
    " leading 'Quoted' 'S ' s\n'S\n 1\n  2\n   \t trailing   "
)
#: Normalisers that change none of the usual texts; llama.cpp has none for byte-level tokenizers.
_HARMLESS = ("NFC",)
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"


class Rules(NamedTuple):
    """How a text is cut, and whether a word that is a token by itself is one before any merge is tried."""

    cut: PreTokenizer
    ignore_merges: bool = False


def _by(pattern: str) -> PreTokenizer:
    return Sequence([Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _words(digits: str) -> str:
    return rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_TAIL}"


#: The rules behind each name, as llama.cpp has them (``make llamacpp``). Its ``tekken`` and ``gpt-4o`` are not those of the tokenizers
#: they are named after: they cut before combining marks, so texts in Thai or Hindi become other tokens.
RULES: Mapping[str, Rules] = {
    "gpt-2": Rules(ByteLevel(add_prefix_space=False, use_regex=True)),
    "smollm": Rules(Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])),
    "qwen2": Rules(_by(_words(r"\p{N}"))),
    "llama-bpe": Rules(_by(_words(r"\p{N}{1,3}")), ignore_merges=True),
    "dbrx": Rules(_by(_words(r"\p{N}{1,3}"))),
}


def cut_probe(rules: Rules) -> list[str]:
    """The pieces into which rules cut ``PROBE``."""
    return [piece for piece, _ in rules.cut.pre_tokenize_str(PROBE)]


def pretokeniser(content: Mapping[str, Any], tokenizer: Tokenizer) -> str:
    """llama.cpp's name for the rules of a tokenizer with this ``content`` (``tokenizer.json``). Raises InvalidInput: it has none."""
    normaliser = content["normalizer"]
    if tokenizer.pre_tokenizer is None or (normaliser is not None and normaliser["type"] not in _HARMLESS):
        raise _refused("it changes texts before it reads them")
    own = Rules(tokenizer.pre_tokenizer, bool(content["model"].get("ignore_merges")))
    pieces = cut_probe(own)
    for name, rules in RULES.items():
        if rules.ignore_merges == own.ignore_merges and cut_probe(rules) == pieces:
            return name
    raise _refused("llama.cpp has no pre-tokeniser that cuts texts as this one does")


#: Special tokens by the name that the tokenizer's configuration gives them, and the writer's method for each.
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unk", "sep_token": "sep", "pad_token": "pad"}
#: Flags of an added token that have it swallow what stands beside it; llama.cpp has none.
_SWALLOWING = ("lstrip", "rstrip", "single_word")


def _write_vocabulary(writer: gguf.GGUFWriter, folder: Path, rows: int) -> None:
    """Writes what turns texts into token ids, for an embedding of ``rows``; the tokens that end an answer, and whether a prompt begins with
    one that the template writes. Rows without a token are unused.

    Raises InvalidInput (``export_nothing``) where llama.cpp would read texts as other tokens, ModelInvalid (tokenizer, template).
    """
    chat, tokenizer = ChatTokenizer(folder), read_tokenizer(folder)
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise _refused(f"it is a {model['type']} tokenizer")
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(setting):
            raise _refused(f"it sets {setting}")
    for token in content["added_tokens"]:
        if token["content"] in chat.template and any(token[flag] for flag in _SWALLOWING):
            raise _refused("a token of the chat template swallows the white space beside it")
    numbers = tokenizer.get_vocab(with_added_tokens=True)
    texts = {number: text for text, number in numbers.items()}
    if len(texts) < len(numbers):
        raise _refused("two of its tokens have one number")
    if max(texts) >= rows:
        raise _refused(f"it has tokens past the {rows:,} rows of the embedding")
    if "ByteLevel" not in json.dumps([content["pre_tokenizer"], content["decoder"]]):
        raise _refused("it does not work on bytes")
    kinds = [int(gguf.TokenType.NORMAL if number in texts else gguf.TokenType.UNUSED) for number in range(rows)]
    for number, added in tokenizer.get_added_tokens_decoder().items():
        kinds[number] = int(gguf.TokenType.CONTROL if added.special else gguf.TokenType.USER_DEFINED)
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(rows)])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pretokeniser(content, tokenizer))
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_add_space_prefix(False)
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
    (prompt,) = chat.prompts([[Message(role="user", content="x")]])
    writer.add_add_bos_token(named.get("bos_token") is not None and prompt[0] == named["bos_token"])
    writer.add_add_eos_token(False)
    writer.add_chat_template(chat.template)


def _refused(why: str) -> InvalidInput:
    return InvalidInput(
        f"this cannot be exported as GGUF: llama.cpp cannot read texts as the tokenizer does: {why}",
        "export it with --format safetensors, and serve it with tailorbird or vllm",
        code="export_nothing",
    )
