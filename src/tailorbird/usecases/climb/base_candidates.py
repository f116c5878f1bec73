"""Base models of an objective and the encoder for retrieval: fetched where allowed, and counted with their own tokenizers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, takewhile
from pathlib import Path
from statistics import fmean, pstdev
from typing import TypeVar

from tailorbird import base_models, evaluation, planning, rungs
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef, CatalogueEntry
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import ModelInvalid, TailorbirdError, Unavailable
from tailorbird.domain.evidence import Comparison, ItemResult, Standing
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import BaseProbe, Machine, PassLayout, Plan, ProvenBetter, RungPlan, TokenProfile
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.domain.value import Digest
from tailorbird.objective import chat_template_of, margin_for
from tailorbird.text.conversations import as_line, shown_answer, unfold_turns
from tailorbird.text.known_templates import DEFAULT, template_name
from tailorbird.text.prompt_rendering import messages_for_row
from tailorbird.text.search_index import passages_of
from tailorbird.usecases.climb.metric_spec import as_lines, comparison_of, spec_of
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.steps.step_context import StepContext

V = TypeVar("V")
_WORDS = re.compile(r"[^\W_]+|[\W_]")
#: Bytes a weight of an encoder as it is fetched.
_WEIGHT = 4


def encoder_for(context: StepContext) -> tuple[BaseModelRef | None, str]:
    """The encoder, fetched where it is missing and a rung could read it; or None, and why, where anybody would ask.

    What cannot be fetched ends no plan: words are read alone. Raises Corrupt where a file is not what it was when it was fetched,
    Unavailable where the objective asks for vectors and there is no encoder.
    """
    if (named := context.objective.encoder.model) != "auto":
        found, why_not = _named_encoder(context, named)
    else:
        found, why_not = installed_encoder(context), ""
        if found is None and _reads_vectors(context):
            found, why_not = _fetched_encoder(context)
    if found is None and context.objective.floor.vectors is True:
        raise Unavailable(
            f"the floor is to read vectors, and there is no encoder: {why_not}",
            "tailorbird models pull minilm-l6-v2, or remove `floor: {vectors: true}` from the objective",
            code="encoder_missing",
        )
    return found, why_not


def _reads_vectors(context: StepContext) -> bool:
    """True where the floor may read vectors, or the objective lists an encoder to tune."""
    objective = context.objective
    if objective.task.kind is not TaskKind.CLASSIFY:
        return False
    listed = objective.ladder != "auto" and RungKind.ENCODER in objective.ladder
    return listed or not planning.why_words(objective, context.manifest.learned_rows)


def installed_encoder(context: StepContext) -> BaseModelRef | None:
    """The encoder of the catalogue that lies here; None where none does."""
    for listed in base_models.list_models(context.deps.models):
        if listed.role == "encoder" and listed.folder is not None:
            return _registered(context, listed.folder, listed.name, listed.name)
    return None


def _named_encoder(context: StepContext, name: str) -> tuple[BaseModelRef | None, str]:
    """The encoder that the objective names; or None, where its licence forbids the use. Raises as ``pull``, and ModelInvalid
    (``model_kind``) where it is none."""
    known = base_models.known_facts(_given(context, name), context.deps.models)
    if why_not := planning.why_not_encoder(context.objective, name, known.license):
        return None, why_not
    return fetch_model(context, name, encoder=True), ""


def _registered(context: StepContext, folder: Path, name: str, given: str) -> BaseModelRef:
    """The model in ``folder``, pulled as ``given``; an encoder with the prefixes that the objective asks for. What the catalogue's packages
    hold is public."""
    deps, found = context.deps, base_models.with_prefixes(folder, context.objective.encoder.other_prefixes, context.progress.tell)
    packaged = any(given == entry.name and entry.source.kind == "wheel" for entry in base_models.catalogue())
    public = packaged and found == folder
    return base_models.register_base(found, name, deps.artifacts, deps.models.own, public=public, open_reader=deps.model_reader)


def _fetched_encoder(context: StepContext) -> tuple[BaseModelRef | None, str]:
    entry = next(entry for entry in base_models.catalogue() if entry.role == "encoder")
    if why_not := planning.why_not_encoder(context.objective, entry.name, entry.license):
        return None, why_not
    if not context.deps.fetches_encoder:
        return None, f"no encoder is installed (tailorbird models pull {entry.name})"
    context.progress.tell(_announced(entry))
    try:
        context.deps.encoder()  # without torch nothing could run it
        folder = base_models.pull(entry.name, context.deps.models, context.deps.model_reader, context.progress.tell)
    except (TailorbirdError, OSError) as error:
        why = error.message if isinstance(error, TailorbirdError) else error.strerror or type(error).__name__
        return None, f"the encoder {entry.name} could not be fetched ({why})"
    return _registered(context, folder, entry.name, entry.name), ""


def _announced(entry: CatalogueEntry) -> str:
    size, source = _WEIGHT * entry.parameters / 1e6, entry.source
    return (
        f"fetching the encoder {entry.name} for the floor, once: {size:.0f} MB, {source.location} {source.version} from the package index, "
        f"{entry.license}; `floor: {{vectors: false}}` does without"
    )


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
        known = base_models.known_facts(_given(context, name), context.deps.models)
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
    return fetch_model(context, name, encoder=context.objective.task.kind is TaskKind.RANK)


def fetch_model(context: StepContext, name: str, *, encoder: bool) -> BaseModelRef:
    """An ``encoder``, or a decoder with the chat template that the objective asks for, pulled and registered by digest. Raises
    ModelInvalid, with ``model_kind`` where it is the other."""
    given, template = _given(context, name), None if encoder else chat_template_of(context.objective, Path(context.file.folder))
    source = Path(given).expanduser()
    folder = base_models.pull(given, context.deps.models, context.deps.model_reader, context.progress.tell)
    if template is not None:
        folder = base_models.with_template(folder, template, context.progress.tell)
        # A template that fails, or ends no answer, is refused before anything is stored.
        context.deps.engine().count_tokens(folder, [messages_for_row(PromptSpec(instruction=context.objective.task.instruction), "")])
        given = ""  # what the objective brings is nobody else's
    base = _registered(context, folder, name, given)
    if base.license == "unknown" and source.exists():
        base = base.model_copy(update={"license": base_models.licence_of(source)})
    if not encoder and (context.objective.chat_template or template_name(base.chat_template_digest) == DEFAULT):
        base = base.model_copy(update={"chat_template": context.objective.chat_template or DEFAULT})
    if (base.encoder is not None) != encoder:
        raise ModelInvalid(
            f"{name} {'writes answers' if encoder else 'turns texts into vectors'}, which is not what is needed here",
            "a task of kind rank and `encoder.model` take an encoder (minilm-l6-v2), every other task starts from a decoder (smollm2-135m)",
            code="model_kind",
        )
    return base


def token_profile(context: StepContext, base: BaseModelRef) -> TokenProfile:
    """Counts tokens with the base model's tokenizer, over at most 2,000 training rows spread evenly."""
    rows = context.rows(Split.TRAIN)
    if context.objective.task.kind is TaskKind.RANK:
        return _query_profile(context, base, [row.text for row in _spread(rows, 1000)])
    sample = _spread(rows, 2000)
    prompt = PromptSpec(instruction=context.objective.task.instruction)
    empty = _count(context, base, prompt, [""])[0]
    prompts = _count(context, base, prompt, [row.text for row in sample])
    targets = _count_answers(context, base, [shown_answer(row.target) for row in sample])
    labels = (context.manifest.label_sets or context.manifest.labels) if context.objective.task.kind is TaskKind.CLASSIFY else ()
    listed, trie = label_lengths(labels, partial(_count_answers, context, base))
    ordered = sorted(prompts)
    return TokenProfile(
        shared_prefix=max(0, empty - 5),
        prompt_mean=fmean(prompts),
        prompt_p95=ordered[int(0.95 * (len(ordered) - 1))],
        prompt_max=ordered[-1],
        target_mean=fmean(targets),
        target_max=max(targets),
        label_trie=trie,
        label_list=listed,
        row_sd=pstdev([prompt + target for prompt, target in zip(prompts, targets, strict=True)]),
        earlier_mean=_earlier_mean(context, base, sample),
        layout=_layout(context, base, max(prompt + target for prompt, target in zip(prompts, targets, strict=True))),
    )


def _query_profile(context: StepContext, base: BaseModelRef, texts: Sequence[str]) -> TokenProfile:
    """Lengths of queries as the encoder reads them, each batch padded to the longest; nothing where no encoder can be asked here."""
    folder = context.deps.artifacts.get_tree(base.digest)
    try:
        counts = sorted(context.deps.encoder().count_tokens(folder, [text]) for text in texts)
    except Unavailable:
        counts = []
    return TokenProfile(
        shared_prefix=0,
        prompt_mean=fmean(counts or [0]),
        prompt_p95=counts[int(0.95 * (len(counts) - 1))] if counts else 0,
        prompt_max=max(counts, default=0),
        target_mean=0,
        target_max=0,
        label_trie=0,
        row_sd=pstdev(counts or [0]),
        layout="padded",
    )


def document_tokens(context: StepContext, encoder: Digest | None) -> float:
    """Tokens of a document that ``encoder`` reads for an index, on average over some of them: of the whole as one, or of its passages where
    these are quoted. What the planner assumes where it cannot be asked here."""
    documents, whole = _spread(context.documents, 500), context.objective.task.kind is TaskKind.RANK
    if encoder is None or not documents:
        return planning.DOCUMENT_TOKENS
    texts = [f"{each.title} {each.text}".strip() for one in documents for each in ([one] if whole else passages_of(one))]
    try:
        return context.deps.encoder().count_tokens(context.deps.artifacts.get_tree(encoder), texts) / len(documents)
    except Unavailable:
        return planning.DOCUMENT_TOKENS


def _spread(values: tuple[V, ...], most: int) -> tuple[V, ...]:
    """At most so many of ``values``, at equal distances."""
    return values[:: max(1, math.ceil(len(values) / most))]


def label_lengths(labels: Sequence[str], count: Callable[[Sequence[str]], list[int]]) -> tuple[int, int]:
    """Tokens of ``labels`` in a list, and nodes of their token trie: whole words that a label begins with like the one before it, in order
    of text, are counted once. ``count`` counts the tokens of texts, each with the one that ends it."""
    if not labels:
        return 0, 0
    ordered = sorted(labels)
    shared = [_words_shared(*pair) for pair in pairwise(ordered)]
    listed = sum(count(ordered))
    return listed, listed - sum(tokens - 1 for tokens in count([text for text in shared if text]))


def _words_shared(one: str, other: str) -> str:
    """The words that both begin with."""
    pairs = zip(_WORDS.findall(one), _WORDS.findall(other), strict=False)
    return "".join(word for word, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)).rstrip()


def _layout(context: StepContext, base: BaseModelRef, longest: int) -> PassLayout:
    """How a training lays out the rows: a plain decoder's are packed, of any other a proof tells."""
    if base.anatomy is None:
        return "packed"
    try:
        return context.deps.trainer().row_layout(context.deps.artifacts.get_tree(base.digest), longest)
    except Unavailable:  # nothing is trained here
        return "packed"


def _earlier_mean(context: StepContext, base: BaseModelRef, rows: tuple[Row, ...]) -> float:
    """Tokens of a row that the assistant said before its answer, where these are learned, too."""
    if context.objective.task.learn == "last":
        return 0.0
    said = [as_line(turn) for row in rows for turn in unfold_turns(row.text) if turn.role == "assistant"]
    return sum(_count_answers(context, base, said)) / len(rows) if said else 0.0


def _count(context: StepContext, base: BaseModelRef, prompt: PromptSpec, texts: Sequence[str]) -> list[int]:
    folder = context.deps.artifacts.get_tree(base.digest)
    return context.deps.engine().count_tokens(folder, [messages_for_row(prompt, text) for text in texts])


def _count_answers(context: StepContext, base: BaseModelRef, texts: Sequence[str]) -> list[int]:
    """Tokens of answers, with the one that ends each. Within a prompt a template may have the same text read as others."""
    folder = context.deps.artifacts.get_tree(base.digest)
    return context.deps.engine().count_tokens(folder, [(Message(role="assistant", content=text),) for text in texts])


#: Dev rows that a base is asked, at most, and the fewest that are worth asking.
PROBED_ROWS, FEWEST_ROWS = 100, 30
#: Share of the budget's hours that all probes of a plan may take.
_SHARE = 0.05


def probed_rows(context: StepContext) -> tuple[Row, ...]:
    """Up to ``PROBED_ROWS`` dev rows, drawn by the hash of seed and row: the same for every base, in any order of rows."""
    seed = context.objective.seed
    return tuple(sorted(context.rows(Split.DEV), key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).digest())[:PROBED_ROWS])


def why_not_probed(context: StepContext, zero_shots: Sequence[RungPlan]) -> str:
    """Reason why no base is probed; empty where all can be."""
    if context.objective.task.kind is TaskKind.RANK:
        return "encoders are not probed: without documents in an index they answer nothing"
    rows, dev = (
        probed_rows(context),
        len(context.rows(Split.DEV)) + len(context.shifted_rows(Split.DEV)) + len(context.outside_rows(Split.DEV)),
    )
    if len(rows) < FEWEST_ROWS:
        return f"{len(rows)} dev rows are too few to tell bases apart (at least {FEWEST_ROWS})"
    hours = sum(rung.time.likely for rung in zero_shots) / 3600 * len(rows) / dev
    if hours > _SHARE * context.objective.budget.hours:
        return f"probing takes about {hours:.2f} h, more than {_SHARE:.0%} of the budget's {context.objective.budget.hours:g} h"
    return ""


def probe_bases(context: StepContext, bases: Mapping[str, tuple[BaseModelRef, RungPlan]]) -> dict[str, BaseProbe]:
    """Asks every base, by its label, the same rows with its zero-shot prompt; then compares each two on them.

    The confidence of the risk tier holds for all comparisons together (Bonferroni). Raises what the engine raises.
    """
    rows = probed_rows(context)
    answers = {label: _told(context, label, base, rung, rows) for label, (base, rung) in bases.items()}
    metric = _metric_of(context, tuple(answers.values()))
    found = {label: _probe(context, items, metric) for label, items in answers.items()}
    pairs = max(1, len(found) * (len(found) - 1) // 2)
    return {label: probe.model_copy(update={"worse_than": _worse_than(context, label, found, pairs)}) for label, probe in found.items()}


def _told(context: StepContext, label: str, base: BaseModelRef, rung: RungPlan, rows: tuple[Row, ...]) -> tuple[ItemResult, ...]:
    context.progress.tell(f"probing {label} on {len(rows)} dev rows, zero-shot")
    return _answers(context, base, rung, rows)


def _probe(context: StepContext, items: tuple[ItemResult, ...], metric: str) -> BaseProbe:
    return BaseProbe(
        rows=len(items),
        score=evaluation.metrics_of(items, spec_of(context, 1))[metric],
        seconds_per_row=fmean(item.latency_ms for item in items) / 1000,
        tokens_per_row=fmean(item.prompt_tokens + item.completion_tokens for item in items),
        items=context.deps.artifacts.put(as_lines(items)),
    )


def _answers(context: StepContext, base: BaseModelRef, rung: RungPlan, rows: tuple[Row, ...]) -> tuple[ItemResult, ...]:
    """What the candidate of the base's zero-shot rung answers; it is made as the climb makes it."""
    candidate = rungs.make_candidate(context_of(context, rung, base)).candidate
    engine, servable = context.deps.engine(), context.servable(candidate)
    engine.load(servable)
    try:
        predictions = evaluation.engine_predictions(
            evaluation.PredictionRequest(
                engine=engine, servable=servable, rows=rows, progress=context.progress.count, sampling=Sampling(max_tokens=256), timed=0
            )
        )
    finally:
        engine.unload(servable.id)
    return evaluation.item_results(rows, predictions, spec_of(context, 1))


def _metric_of(context: StepContext, answers: Sequence[tuple[ItemResult, ...]]) -> str:
    """The metric in which the objective compares; where so few rows leave it undefined for some base (a rare label, a share of referred
    answers without a threshold), whether answers are right."""
    metric = comparison_of(context).metric
    if all(metric in evaluation.metrics_of(items, spec_of(context, 1)) for items in answers):
        return metric
    return "accuracy" if context.objective.task.kind is TaskKind.CLASSIFY and not context.many else "exact_match"


def _worse_than(context: StepContext, label: str, found: Mapping[str, BaseProbe], pairs: int) -> tuple[ProvenBetter, ...]:
    mine = found[label]
    compared = [(other, _compared(context, found[other], mine, pairs)) for other in found if other != label]
    return tuple(
        ProvenBetter(label=other, difference=one.difference, low=one.low, high=one.high, confidence=one.confidence)
        for other, one in compared
        if one.standing is Standing.BETTER
    )


def _compared(context: StepContext, upper: BaseProbe, lower: BaseProbe, pairs: int) -> Comparison:
    metric, objective = upper.score.name, context.objective
    rule = evaluation.ComparisonRule(
        metric=metric,
        margin=margin_for(context.file, metric),
        confidence=1 - (1 - objective.business.risk.confidence) / pairs,
        seed=objective.seed,
        many=context.many,
    )
    return evaluation.compare(upper.items, lower.items, context.items(upper.items), context.items(lower.items), rule)
