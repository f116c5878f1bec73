"""What a request may use at most, before it is worked on; and what is left, as OpenAI's headers tell it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.domain.quota import Amounts
from tailorbird.serving import LimitRemaining, TrafficArm

#: Bytes of a token, rather too few: what is reserved too much is given back a moment later.
_BYTES_PER_TOKEN = 3
#: What limits are called in the headers of OpenAI's API.
_HEADERS = {"requests": "requests", "input_tokens": "tokens", "output_tokens": "output-tokens"}


def most_used(arm: TrafficArm, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> tuple[list[int], Amounts]:
    """Tokens that reading each conversation is expected to take, and what answering them all may use at most. A label is not written."""
    around = _bytes_of_prompt(arm.prompt)
    expected = [math.ceil((around + sum(len(m.content.encode()) for m in turns)) / _BYTES_PER_TOKEN) for turns in conversations]
    written = 0 if arm.task is TaskKind.CLASSIFY else sampling.max_tokens * len(conversations)
    return expected, Amounts(len(conversations), sum(expected), written)


def limit_headers(left: Mapping[str, LimitRemaining]) -> dict[str, str]:
    """``x-ratelimit-limit-requests`` and its kin, for the limits that the tenant has in a minute."""
    told = {}
    for name, header in _HEADERS.items():
        if (found := left.get(name)) is not None:
            told[f"x-ratelimit-limit-{header}"] = f"{found.limit:.0f}"
            told[f"x-ratelimit-remaining-{header}"] = f"{found.left:.0f}"
            told[f"x-ratelimit-reset-{header}"] = f"{found.seconds:.3f}s"
    return told


def _bytes_of_prompt(prompt: PromptSpec) -> int:
    shown = sum(len(d.text.encode()) + len(d.target.encode()) for d in prompt.demonstrations)
    return len(prompt.instruction.encode()) + shown
