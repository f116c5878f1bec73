"""Small base models of other families: a tokenizer, a chat template and the configuration files beside them, without weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "Where is my card? It left on Monday, by train. Not yet, sorry. Tomorrow, then.",
    "Classify the message. Answer with exactly one of: card_lost, refund, top-up. You are a helpful assistant.",
    "user system assistant model card_lost refund naïve café 12 345",
] * 4


@dataclass(frozen=True)
class Family:
    """How a family of models writes turns. ``control`` are names of special tokens, ``plain`` added tokens that are not marked special;
    ``end`` the names of the tokens that end an answer, ``declared`` those that generation_config.json names."""

    template: str
    control: Sequence[str]
    end: Sequence[str]
    declared: Sequence[str]
    named: Mapping[str, str]
    make: Callable[[Sequence[str]], Tokenizer]
    plain: Sequence[str] = ()
    flags: Mapping[str, bool] = field(default_factory=dict)


def byte_level(special: Sequence[str]) -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _pieces(special: Sequence[str], normalizer: normalizers.Normalizer, split: pre_tokenizers.PreTokenizer | None) -> Tokenizer:
    letters = sorted({letter for text in CORPUS for letter in text.replace(" ", "▁")} | {"▁", "\n"})
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, initial_alphabet=letters, show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    model = json.loads(trained.to_str())["model"]
    words = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(model["vocab"], key=model["vocab"].__getitem__)]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys(words))}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizer
    if split is not None:
        tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *([] if split else [decoders.Strip(" ", 1, 0)])]
    )
    return tokenizer


def gemma_like(special: Sequence[str]) -> Tokenizer:
    """Spaces become ``▁``; nothing is put before a text."""
    return _pieces(special, normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"))


def llama2_like(special: Sequence[str]) -> Tokenizer:
    """Spaces become ``▁``, and one is put before every text, as Llama 2 and Mistral do."""
    return _pieces(special, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None)


def unigram(special: Sequence[str]) -> Tokenizer:
    """A vocabulary that holds its control tokens as words, in texts of whatever width and case."""
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=list(special), unk_token="<unk>", show_progress=False)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + (first if loop.first else '')"
    " + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (first if loop.first else '') + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
#: Llama 2 writes a space before the end.
LLAMA2 = MISTRAL.replace("message['content'] + eos_token", "' ' + message['content'] + ' ' + eos_token")
#: The last answer is left open, for others to go on with.
OPEN_LAST = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' and not loop.last %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}<|assistant|>\n"
)

#: Turns of each role have a token of their own, and none is marked special.
ROLES = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
#: Reasons unless it is switched off; earlier reasoning is left out; the last answer has a block, if an empty one (as Qwen 3).
SWITCHED = (
    "{% for message in messages %}{% set content = message['content'] %}{% if message['role'] == 'assistant' %}{% set thought = '' %}"
    "{% if '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}{% if loop.last %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{ content + '<|im_end|>\n' }}{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
#: Always reasons: the block is begun by the generation prompt, and closed before the last answer.
ALWAYS = SWITCHED.replace(
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}", "{{ '<think>\n' }}"
)
#: Always reasons, and writes answers without their reasoning, as DeepSeek R1.
DISTILLED = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|Assistant|>' + message['content'].split('</think>')[-1] + '<|end_of_sentence|>' }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
#: Answers have a channel, and the last one an end of its own, as gpt-oss. The date stands above.
CHANNELS = (
    "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{% if message['thinking'] and loop.last %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + message['thinking'] + '<|end|>' }}"
    "{% endif %}{{ '<|start|>assistant<|channel|>final<|message|>' + message['content'] }}"
    "{% if loop.last and not add_generation_prompt %}{{ '<|return|>' }}{% else %}{{ '<|end|>' }}{% endif %}"
    "{% else %}{{ '<|start|>' + ('developer' if message['role'] == 'system' else 'user') }}"
    "{{ '<|message|>' + message['content'] + '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
#: A turn is over where the next one begins, and a line break stands behind the block of reasoning, as in GLM 4.5.
UNCLOSED = (
    "[gMASK]{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|assistant|>\n' }}"
    "{% if message['reasoning_content'] and loop.last %}{{ '<think>' + message['reasoning_content'] + '</think>' }}"
    "{% else %}{{ '<think></think>' }}{% endif %}{{ '\n' + message['content'].strip() }}"
    "{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% if not enable_thinking %}{{ '\n<think></think>' }}{% endif %}{% endif %}"
)
#: An empty thought stands in the prompt alone where reasoning is off; thoughts are taken out of answers, as in Gemma 4.
THOUGHTS = (
    "{{ bos_token }}{% for message in messages %}{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ message['content'].split('<channel|>')[-1] | trim }}{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}"
    "{% if not enable_thinking %}{{ '<|channel>thought\n<channel|>' }}{% endif %}{% endif %}"
)
#: A system turn is an error, as in Gemma 2.
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' + message['content'] | trim"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
#: What the system says stands in the last message of all, and so in no conversation that ends with an answer, as in Mistral Nemo.
LAST_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set rule = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}{% else %}"
    "{% set rule = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for message in rest %}{% if message['role'] == 'user' %}"
    "{{ '[INST]' + (rule if loop.last else '') + message['content'] + '[/INST]' }}{% else %}{{ message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
#: Marks by itself what is learned, skips what is empty, and writes tools as JSON.
DECLARED = (
    "{% for message in messages %}{% if not message['content'] %}{% continue %}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + ({'<b>': 'é'} | tojson if loop.first else '') + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

FAMILIES = {
    "chatml": Family(
        CHATML,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        ("<|im_end|>",),
        ("<|im_end|>", "<|endoftext|>"),
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        byte_level,
    ),
    "chatml that declares another end": Family(
        CHATML,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        ("<|im_end|>",),
        ("<|endoftext|>",),
        {"eos_token": "<|endoftext|>"},
        byte_level,
    ),
    "chatml tokens not marked special": Family(
        CHATML,
        ("<|endoftext|>",),
        ("<|im_end|>",),
        ("<|im_end|>",),
        {"eos_token": "<|endoftext|>"},
        byte_level,
        plain=("<|im_start|>", "<|im_end|>", "\n\n", "user"),
    ),
    "roles not marked special": Family(
        ROLES,
        ("<|endoftext|>",),
        ("<|end|>",),
        ("<|end|>",),
        {"eos_token": "<|endoftext|>"},
        byte_level,
        plain=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "llama 3": Family(
        LLAMA3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
        ("<|eot_id|>",),
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        byte_level,
    ),
    "gemma": Family(
        GEMMA,
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        ("<end_of_turn>",),
        ("<eos>", "<end_of_turn>"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
        gemma_like,
    ),
    "mistral": Family(
        MISTRAL,
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        ("</s>",),
        ("</s>",),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        llama2_like,
    ),
    "llama 2": Family(LLAMA2, ("<unk>", "<s>", "</s>"), ("▁", "</s>"), ("</s>",), {"bos_token": "<s>", "eos_token": "</s>"}, llama2_like),
    "last answer left open": Family(
        OPEN_LAST,
        ("<|user|>", "<|assistant|>", "<|system|>", "<eos>"),
        ("<eos>",),
        ("<eos>",),
        {"eos_token": "<eos>"},
        byte_level,
    ),
    "unigram": Family(
        CHATML.replace("<|im_start|>", "<s>").replace("<|im_end|>", "</s>"),
        ("<unk>", "<s>", "</s>"),
        ("</s>",),
        ("</s>",),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        unigram,
        flags={"normalized": True},
    ),
}


_IM = (("<|endoftext|>", "<|im_start|>", "<|im_end|>"), ("<|im_end|>",), ("<|im_end|>",), {"eos_token": "<|im_end|>"}, byte_level)
_INST = (("<s>", "</s>", "[INST]", "[/INST]"), ("</s>",), ("</s>",), {"bos_token": "<s>", "eos_token": "</s>"}, byte_level)
#: Families whose generation prompt is not where an answer begins, or which have no place for instructions.
FRAMED = {
    "reasoning that is switched": Family(SWITCHED, *_IM, plain=("<think>", "</think>")),
    "reasoning that is begun": Family(ALWAYS, *_IM, plain=("<think>", "</think>")),
    "reasoning that is not written": Family(
        DISTILLED,
        ("<|begin|>", "<|end_of_sentence|>", "<|User|>", "<|Assistant|>"),
        ("<|end_of_sentence|>",),
        ("<|end_of_sentence|>",),
        {"bos_token": "<|begin|>", "eos_token": "<|end_of_sentence|>"},
        byte_level,
        plain=("<think>", "</think>"),
    ),
    "channels": Family(
        CHANNELS,
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        ("<|return|>",),
        ("<|return|>", "<|call|>"),
        {"eos_token": "<|return|>"},
        byte_level,
    ),
    "turns that are not closed": Family(
        UNCLOSED,
        ("<|endoftext|>", "[gMASK]", "<|system|>", "<|user|>", "<|assistant|>"),
        ("<|user|>",),
        ("<|endoftext|>", "<|user|>"),
        {"eos_token": "<|endoftext|>"},
        byte_level,
        plain=("<think>", "</think>"),
    ),
    "thoughts in the prompt alone": Family(
        THOUGHTS,
        ("<bos>", "<eos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"),
        ("<turn|>",),
        ("<eos>", "<turn|>"),
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        byte_level,
    ),
    "no system turn": Family(
        NO_SYSTEM,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        ("<end_of_turn>",),
        ("<eos>", "<end_of_turn>"),
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        byte_level,
    ),
    "system in the last message": Family(LAST_SYSTEM, *_INST),
    "marks of its own": Family(DECLARED, *_IM),
}

#: Definitions in the system turn, calls as JSON between marks, results as a user's turn, as Qwen 2.5 and Hermes.
HERMES = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{{ '<tools>' }}{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}"
    "{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% elif message.role == 'assistant' %}{{ '<|im_start|>assistant' }}{% if message.content %}{{ '\n' + message.content }}{% endif %}"
    "{% for call in message.tool_calls %}{% if call.function is defined %}{% set call = call.function %}{% endif %}"
    '{{ \'\n<tool_call>\n{"name": "\' + call.name + \'", "arguments": \' }}{{ call.arguments | tojson }}'
    "{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% elif message.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: Definitions in the first question, one call a turn as bare JSON, results with a role of their own, as Llama 3.1.
LLAMA31 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rule = messages[0]['content'] | trim %}{% set messages = messages[1:] %}"
    "{% else %}{% set rule = '' %}{% endif %}{{ '<|start_header_id|>system<|end_header_id|>\n\n' + rule + '<|eot_id|>' }}"
    "{% if tools is not none %}{% set first = messages[0]['content'] | trim %}{% set messages = messages[1:] %}"
    "{{ '<|start_header_id|>user<|end_header_id|>\n\nAnswer with a function call.\n\n' }}"
    "{% for tool in tools %}{{ tool | tojson(indent=4) }}{{ '\n\n' }}{% endfor %}{{ first + '<|eot_id|>' }}{% endif %}"
    "{% for message in messages %}{% if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% elif 'tool_calls' in message %}{% if not message.tool_calls | length == 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set call = message.tool_calls[0].function %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{{ '{\"name\": \"' + call.name + '\", \"parameters\": ' }}{{ call.arguments | tojson }}{{ '}<|eot_id|>' }}"
    "{% else %}{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' }}{{ message.content | tojson }}{{ '<|eot_id|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
#: Definitions before the last question, calls as a list behind a control token, with names of nine letters, as Mistral.
MISTRAL_TOOLS = (
    "{% if messages[0]['role'] == 'system' %}{% set rule = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set rule = '' %}{% set rest = messages %}{% endif %}{% set asked = rest | selectattr('role', 'equalto', 'user') | list %}"
    "{{ bos_token }}{% for message in rest %}{% if message['role'] == 'user' %}"
    "{% if tools is not none and message == asked[-1] %}{{ '[AVAILABLE_TOOLS] ' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' + (rule if loop.last else '') + message['content'] + '[/INST]' }}"
    "{% elif message['tool_calls'] is defined %}{{ '[TOOL_CALLS] [' }}{% for call in message.tool_calls %}"
    "{% set out = call.function | tojson %}"
    "{{ out[:-1] }}{% if call.id | length != 9 %}{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}"
    "{% endif %}{{ ', \"id\": \"' + call.id + '\"}' }}{{ ', ' if not loop.last else ']' + eos_token }}{% endfor %}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'tool' %}{{ '[TOOL_RESULTS] {\"content\": ' }}{{ message.content | tojson }}"
    "{{ ', \"call_id\": \"' + message.tool_call_id + '\"}[/TOOL_RESULTS]' }}{% endif %}{% endfor %}"
)
#: Calls have a channel, an addressee and an end of their own, and arguments as text, as gpt-oss.
CHANNEL_TOOLS = (
    "{{ '<|start|>system<|message|>Channels: analysis, commentary, final.<|end|>' }}{% if tools %}"
    "{{ '<|start|>developer<|message|># Tools\nnamespace functions {\n' }}{% for tool in tools %}"
    "{{ '// ' + tool.function.description + '\ntype ' + tool.function.name + ' = (_: any) => any;\n' }}{% endfor %}"
    "{{ '}<|end|>' }}{% endif %}"
    "{% set last = namespace(name=none) %}{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% if 'tool_calls' in message %}{% set call = message.tool_calls[0].function %}{% set last.name = call.name %}"
    "{% if message.thinking %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}"
    "{% if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.arguments | string }}{% endif %}{{ '<|call|>' }}"
    "{% else %}{% if message.thinking and loop.last %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + message.content }}"
    "{% if loop.last and not add_generation_prompt %}{{ '<|return|>' }}{% else %}{{ '<|end|>' }}{% endif %}{% endif %}"
    "{% elif message.role == 'tool' %}{{ '<|start|>functions.' + last.name + ' to=assistant<|channel|>commentary<|message|>' }}"
    "{{ message.content | tojson }}{{ '<|end|>' }}"
    "{% else %}{{ '<|start|>' + ('developer' if message.role == 'system' else 'user') + '<|message|>' + message.content + '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
#: Arguments one by one, and not as JSON, as Qwen 3 Coder; reasoning in a block.
PARAMETERS = HERMES.replace(
    "{{ '\n<tool_call>\n{\"name\": \"' + call.name + '\", \"arguments\": ' }}{{ call.arguments | tojson }}{{ '}\n</tool_call>' }}",
    "{{ '\n<tool_call>\n<function=' + call.name + '>\n' }}{% for name, value in call.arguments | items %}"
    "{{ '<parameter=' + name + '>\n' }}{{ value if value is string else value | tojson }}{{ '\n</parameter>\n' }}{% endfor %}"
    "{{ '</function>\n</tool_call>' }}",
)
_TOOL_MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
#: Families whose templates write tools.
TOOL_FAMILIES = {
    "calls between marks": Family(HERMES, *_IM, plain=_TOOL_MARKS),
    "calls as bare JSON": Family(
        LLAMA31,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
        ("<|eot_id|>",),
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        byte_level,
    ),
    "calls behind a control token": Family(
        MISTRAL_TOOLS,
        (
            "<unk>",
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_CALLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ),
        ("</s>",),
        ("</s>",),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        byte_level,
    ),
    "calls in a channel": Family(
        CHANNEL_TOOLS,
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        ("<|return|>",),
        ("<|return|>", "<|call|>"),
        {"eos_token": "<|return|>"},
        byte_level,
    ),
    "arguments that are not JSON": Family(PARAMETERS, *_IM, plain=_TOOL_MARKS),
}


def write_family(family: Family, folder: Path) -> Path:
    """The folder of a base model without weights, as a converted one looks."""
    folder.mkdir(parents=True)
    tokenizer = family.make(family.control)
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, **({"normalized": False} | dict(family.flags))) for name in family.control]
    )
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in family.plain])
    bos = family.named.get("bos_token")
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    # A tokenizer may come with a habit of cutting and padding; neither may ever show.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = [tokenizer.token_to_id(name) for name in family.declared]
    files: dict[str, dict[str, Any]] = {
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **family.named},
        "generation_config.json": {"eos_token_id": ends if len(ends) > 1 else ends[0]},
        "config.json": {"model_type": "llama", "eos_token_id": ends[0]},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(family.template, encoding="utf-8")
    return folder
