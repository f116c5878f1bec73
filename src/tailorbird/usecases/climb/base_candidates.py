"""The base models that an objective lists: fetched where they may do, and counted with their own tokenizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev

from tailorbird import base_models, planning
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Machine, Plan, RungPlan, TokenProfile
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Digest
from tailorbird.text.conversations import unfold_turns
from tailorbird.text.prompt_rendering import messages_for_row
from tailorbird.usecases.steps.step_context import StepContext

#: Base models that were fetched, by the digest of their record.
Refs = dict[Digest, BaseModelRef]
#: Everything that planning with a base rests on.
InputsOf = Callable[[BaseModelRef], planning.PlanInputs]


def refs_of(offers: Sequence[planning.BaseOffer]) -> Refs:
    """The bases that may be planned with."""
    return {digest_of(offer.inputs.base): offer.inputs.base for offer in offers if offer.inputs}


def ref_of(refs: Refs, plan: Plan, rung: RungPlan) -> BaseModelRef:
    """The base of one rung."""
    return refs[rung.base or plan.base_model]


def offered(context: StepContext, machine: Machine, inputs_of: InputsOf) -> tuple[planning.BaseOffer, ...]:
    """Each base that the objective lists, fetched unless its licence or its size forbid it already.

    Of several, one that is no model for the task is left out with the reason. Raises what fetching raises otherwise.
    """
    names, offers = context.objective.bases, list[planning.BaseOffer]()
    for name, label in zip(names, planning.base_labels(names), strict=True):
        known = base_models.known_of(_given(context, name), context.deps.models)
        offer = planning.BaseOffer(name=name, label=label, license=known.license, parameters=known.parameters, inputs=None)
        out = planning.why_not_fetched(context.objective, machine, known.license, known.parameters)
        offers.append(replace(offer, out=out) if out else _fetched(context, offer, offers, inputs_of))
    return tuple(offers)


def _fetched(
    context: StepContext, offer: planning.BaseOffer, others: Sequence[planning.BaseOffer], inputs_of: InputsOf
) -> planning.BaseOffer:
    try:
        base = fetch_base(context, offer.name)
    except ModelInvalid as error:
        if len(context.objective.bases) == 1 or error.error_code == "model_unknown":
            raise
        return replace(offer, out=error.message)
    same = next((other.label for other in others if other.inputs and other.inputs.base.digest == base.digest), None)
    if same is not None:
        return replace(offer, out=f"it is the same model as {same}")
    return replace(offer, license=base.license, parameters=base.parameters, inputs=inputs_of(base))


def _given(context: StepContext, name: str) -> str:
    """A name, or the path of the model that lies beside the objective."""
    local = Path(context.file.folder) / name
    return str(local) if local.exists() else name


def fetch_base(context: StepContext, name: str) -> BaseModelRef:
    """A base model, pulled and registered by digest. Raises ModelInvalid, with ``model_kind`` where it is not of the kind that the task
    needs."""
    folder = base_models.pull(_given(context, name), context.deps.models, context.deps.model_reader, context.progress.tell)
    base = base_models.register(folder, name, context.deps.artifacts, context.deps.models.own)
    if base_models.is_encoder(base) != (context.objective.task.kind is TaskKind.RANK):
        raise ModelInvalid(
            f"{name} {'turns texts into vectors' if base_models.is_encoder(base) else 'writes answers'}, which is not what the task needs",
            "a task of kind rank starts from an encoder (minilm-l6-v2), every other one from a decoder (smollm2-135m)",
            code="model_kind",
        )
    return base


def token_profile(context: StepContext, base: BaseModelRef) -> TokenProfile:
    """Counts tokens with the base model's tokenizer, over at most 2,000 training rows spread evenly."""
    if context.objective.task.kind is TaskKind.RANK:
        return TokenProfile(shared_prefix=0, prompt_mean=0, prompt_p95=0, prompt_max=0, target_mean=0, target_max=0, label_trie=0)
    rows = context.rows(Split.TRAIN)
    sample = rows[:: max(1, math.ceil(len(rows) / 2000))]
    prompt = PromptSpec(instruction=context.objective.task.instruction)
    empty = _count(context, base, prompt, [""])[0]
    prompts = _count(context, base, prompt, [row.text for row in sample])
    targets = [count - empty + 1 for count in _count(context, base, prompt, _targets(sample))]
    labels = (context.manifest.label_sets or context.manifest.labels) if context.objective.task.kind is TaskKind.CLASSIFY else ()
    trie = sum(count - empty + 1 for count in _count(context, base, prompt, labels)) if labels else 0
    ordered = sorted(prompts)
    return TokenProfile(
        shared_prefix=max(0, empty - 5),
        prompt_mean=fmean(prompts),
        prompt_p95=ordered[int(0.95 * (len(ordered) - 1))],
        prompt_max=ordered[-1],
        target_mean=fmean(targets),
        target_max=max(targets),
        label_trie=trie,
        row_sd=pstdev([prompt + target for prompt, target in zip(prompts, targets, strict=True)]),
        earlier_mean=_earlier_mean(context, base, sample, empty),
    )


def _earlier_mean(context: StepContext, base: BaseModelRef, rows: tuple[Row, ...], empty: int) -> float:
    """Tokens of a row that the assistant said before its answer, where these are learned, too."""
    if context.objective.task.learn == "last":
        return 0.0
    said = [turn.content for row in rows for turn in unfold_turns(row.text) if turn.role == "assistant"]
    prompt = PromptSpec(instruction=context.objective.task.instruction)
    return sum(count - empty + 1 for count in _count(context, base, prompt, said)) / len(rows) if said else 0.0


def _targets(rows: tuple[Row, ...]) -> list[str]:
    return [row.target for row in rows]


def _count(context: StepContext, base: BaseModelRef, prompt: PromptSpec, texts: list[str] | tuple[str, ...]) -> list[int]:
    folder = context.deps.artifacts.get_tree(base.digest)
    return context.deps.engine().count_tokens(folder, [messages_for_row(prompt, text) for text in texts])
