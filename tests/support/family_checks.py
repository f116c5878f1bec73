"""Comparisons of the engine with transformers and PEFT on one tiny model: scores, greedy tokens, adapters alone and mixed."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from support.model_families import FAMILIES
from support.oracle import conversation, servable
from tailorbird.decoders import peft_targets
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.inference import open_engine
from tailorbird.ports.engine import Chunk, GenerateRequest, LabelScores, ScoreRequest, Told

LABELS = ("card", "card_lost", "top_up", "refund")
#: Of several lengths, all longer than a sliding window of the tiny models.
TEXTS = ("my card is lost", "why was I charged twice for the same purchase last Tuesday?", "top up")
MADE = 10
_MARKS = ("<s>", "</s>")
#: Parts of a path that show a layer which a text's adapter leaves alone: heads, routers, experts, what reads images.
_LEFT_ALONE = re.compile(r"lm_head|embed_out|router|\bexperts\b|\bgate$|shared_expert_gate|vision|visual|multi_modal|embed")


def prompts() -> list[list[Message]]:
    return [conversation(text, "Name the intent.") for text in TEXTS]


class Theirs:
    """transformers alone: whole sequences, and its own greedy generation of one prompt."""

    def __init__(self, folder: Path, model_type: str, model: Any = None) -> None:
        kind: Any = AutoModelForImageTextToText if "text_config" in FAMILIES[model_type] else AutoModelForCausalLM
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = (model or kind.from_pretrained(folder, dtype=torch.float32)).eval()

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        text = self.tokenizer.apply_chat_template([m.model_dump() for m in messages], tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def score(self, messages: Sequence[Message]) -> list[float]:
        prompt, sums = self.prompt(messages), []
        for label in LABELS:
            answer = [*self.tokenizer(label, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
            logits = self.model(input_ids=torch.tensor([prompt + answer])).logits[0].float()
            steps = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
            sums.append(steps[torch.arange(len(answer)), torch.tensor(answer)].sum())
        found: list[float] = torch.log_softmax(torch.stack(sums), dim=0).tolist()
        return found

    @torch.inference_mode()
    def generate(self, messages: Sequence[Message]) -> list[bytes]:
        """Bytes of each token, up to the end of the turn."""
        prompt = torch.tensor([self.prompt(messages)])
        out = self.model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=MADE, pad_token_id=1, eos_token_id=1
        )
        made = [bytes_of(self.tokenizer, token) for token in out[0, prompt.shape[1] :].tolist()]
        return [piece for piece in made if piece]


def bytes_of(tokenizer: Any, token: int) -> bytes:
    """The bytes that a byte-level token stands for."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    places = {letter: byte for byte, letter in bytes_to_unicode().items()}
    name = tokenizer.convert_ids_to_tokens(token)
    return b"" if name is None or name in _MARKS else bytes(places[letter] for letter in name)


def targets_of(model: Any) -> list[str]:
    """Paths of the linear layers that an adapter may change: all that text passes through, but for what PEFT leaves to Mamba's kernels."""
    mamba = any(isinstance(getattr(module, "D", None), torch.nn.Parameter) for module in model.modules())
    paths = [
        path
        for path, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and not _LEFT_ALONE.search(path) and not (mamba and path.endswith("out_proj"))
    ]
    names = {path.rpartition(".")[2] for path in paths}
    # Of a mixture PEFT takes the names of some shared layers for those of experts.
    return [path for path in paths if path.rpartition(".")[2] in peft_targets(model, names)]


def write_adapter(folder: Path, theirs: Theirs, into: Path, seed: int, **settings: Any) -> Any:
    """A random adapter on every linear layer that text passes through, saved by PEFT; returns PEFT's model."""
    from peft import LoraConfig, get_peft_model

    fresh = type(theirs.model).from_pretrained(folder, dtype=torch.float32)
    options: dict[str, Any] = {"r": 3, "lora_alpha": 6, "target_modules": targets_of(fresh), "task_type": "CAUSAL_LM"} | settings
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on settings that PEFT corrects by itself
        model = get_peft_model(fresh, LoraConfig(**options))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(into)
    return model.eval()


class Answers:
    """What one engine says to several requests that are asked at once."""

    def __init__(self, engine: Any, requests: Sequence[ScoreRequest | GenerateRequest]) -> None:
        self._told: list[list[Told]] = [[] for _ in requests]
        done = [threading.Event() for _ in requests]
        for at, request in enumerate(requests):
            engine.submit(request, self._teller(at, done[at]))
        for event in done:
            assert event.wait(120), "a request was never told its end"

    def _teller(self, at: int, done: threading.Event) -> Any:
        def tell(told: Told) -> bool:
            self._told[at].append(told)
            if not isinstance(told, Chunk) or told.finish_reason:
                done.set()
            return True

        return tell

    def result(self, at: int) -> list[float] | list[bytes]:
        """Log-probabilities of labels, or the bytes of each token."""
        last = self._told[at][-1]
        if isinstance(last, TailorbirdError):
            raise last
        if isinstance(last, LabelScores):
            return list(last.log_probabilities)
        pieces = [one for told in self._told[at] if isinstance(told, Chunk) for one in told.logprobs]
        return [bytes(one.bytes) for one in pieces if one.bytes and one.token not in _MARKS]


def asked(release: str) -> list[ScoreRequest | GenerateRequest]:
    """Scores and greedy answers of all prompts."""
    made: list[ScoreRequest | GenerateRequest] = []
    for prompt in prompts():
        made.append(ScoreRequest(release=release, prompt=tuple(prompt), labels=LABELS))
        made.append(GenerateRequest(release=release, prompt=tuple(prompt), sampling=Sampling(max_tokens=MADE, logprobs=0)))
    return made


def check_family(folder: Path, model_type: str, work: Path) -> dict[str, Any]:
    """What was found of one architecture: whether each comparison holds, and by which pass and with what abilities it was computed."""
    theirs = Theirs(folder, model_type)
    tuned = {f"adapter{seed}": write_adapter(folder, theirs, work / f"adapter{seed}", seed) for seed in (1, 2)}
    references = {"base": theirs} | {name: Theirs(folder, model_type, model) for name, model in tuned.items()}
    engine: Any = open_engine("fp32", kv_mb=64)
    try:
        wanted = {name: servable(folder, name, adapter=None if name == "base" else work / name) for name in references}
        for one in wanted.values():
            engine.load(one)
        forward = engine._registry._weights[str(folder)].content
        expected = {name: _expected(reference) for name, reference in references.items()}
        alone = {name: [Answers(engine, [request]).result(0) for request in asked(one.id)] for name, one in wanted.items()}
        requests = [request for one in wanted.values() for request in asked(one.id)]
        mixed = Answers(engine, requests)
        each = len(requests) // len(wanted)
        beside = {name: [mixed.result(at * each + place) for place in range(each)] for at, name in enumerate(wanted)}
    finally:
        engine.close()
    return {
        "pass": forward.kernels,
        "abilities": getattr(forward, "abilities", None) and forward.abilities._asdict(),
        "equals_transformers": _same(alone["base"], expected["base"]),
        "adapters_equal_peft": all(_same(alone[name], expected[name]) for name in tuned),
        "adapters_have_effect": all(not _same(expected[name][::2], expected["base"][::2]) for name in tuned),
        "mixed_equals_alone": all(_same(beside[name], alone[name]) for name in wanted),
        "off": max(_off(alone[name], expected[name]) for name in wanted),
    }


def _expected(reference: Theirs) -> list[Any]:
    return [found for prompt in prompts() for found in (reference.score(prompt), reference.generate(prompt))]


def _off(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    """Largest difference of two lists of log-probabilities."""
    scores = [(one, other) for one, other in zip(found, wanted, strict=True) if one and isinstance(one[0], float)]
    return max(abs(a - b) for one, other in scores for a, b in zip(one, other, strict=True))


def _same(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    tokens = [(one, other) for one, other in zip(found, wanted, strict=True) if not (one and isinstance(one[0], float))]
    return _off(found, wanted) < 2e-3 and all(one == other for one, other in tokens)
