"""Whether what is trained can be served.

In: a subject. Out: findings. Must not know: weights, how an engine works: its limits are stated here.
"""

from __future__ import annotations

from tailorbird.domain.examination import Finding
from tailorbird.training.preflight.subject import Subject, blocking, warning

#: The linear layers of a decoder block that tailorbird's engine and vLLM load adapters for.
SERVED_TARGETS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
#: The values that vLLM takes for ``--max-lora-rank``; an adapter is padded to the next one.
VLLM_LARGEST_RANK = 512


def servable(subject: Subject) -> list[Finding]:
    """Adapters that would train well and then not load (vllm#9280, #6983, #2847)."""
    lora = subject.job.settings.lora
    if lora is None:
        return []
    found = []
    beyond = sorted(set(lora.targets) - SERVED_TARGETS)
    if beyond:
        what = f"no serving engine loads an adapter on {', '.join(beyond)}"
        found.append(blocking("target_unservable", what, f"adapt only {', '.join(sorted(SERVED_TARGETS))}"))
    if lora.dora:
        what = "neither tailorbird's engine nor vLLM serves DoRA: it rescales the whole weight, which no low-rank sum can"
        found.append(blocking("method_unservable", what, "leave dora out; rslora at the same rank is served"))
    if lora.rank > VLLM_LARGEST_RANK:
        what = f"vLLM loads ranks up to {VLLM_LARGEST_RANK}, and this adapter has {lora.rank}"
        found.append(warning("rank_unservable", what, "lower the rank, or serve with tailorbird's engine alone"))
    return found
