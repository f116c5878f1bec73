"""First steps of a run: data snapshot, base models and encoder, plan."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise, takewhile
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import TypeVar

from tailorbird import base_models, data, planning, rungs
from tailorbird.chat.conversations import as_line, shown_answer, unfold_turns
from tailorbird.chat.prompts import messages_for_row
from tailorbird.chat.templates import DEFAULT, TEMPLATES, template_name
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.errors import Exhausted, InvalidInput, ModelInvalid, TailorbirdError, Unavailable
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import (
    Calibration,
    Examination,
    Machine,
    PassLayout,
    Plan,
    PlannedRanker,
    PreflightFinding,
    PreflightSeverity,
    RungPlan,
    ShiftPower,
    TokenProfile,
    TrainingSettings,
)
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.objective import chat_template_of, check_labels, check_origins, check_shift_power, split_power
from tailorbird.system.machine import processor_name
from tailorbird.text.search_index import passages_of
from tailorbird.usecases.anchored_rows import anchored_splits
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.endpoints import named_endpoint
from tailorbird.usecases.releases.rules import find_ranker, planned_ranker
from tailorbird.usecases.runs import transitions
from tailorbird.usecases.runs.context import StepContext, StepOutcome, context_of
from tailorbird.usecases.runs.measurement import (
    ItemsOf,
    comparison_of,
    foreseen,
    groups_of,
    incumbent_finding,
    items_of,
)
from tailorbird.usecases.runs.provability import (
    check_provable,
    contradicting_labels_finding,
    thin_labels_finding,
    trivial_target_finding,
    untested_answers_finding,
)
from tailorbird.usecases.snapshots import amendments_of, manifests_of

V = TypeVar("V")
_WORDS = re.compile(r"[^\W_]+|[\W_]")
#: Bytes a weight of an encoder as it is fetched.
_WEIGHT = 4


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
    (``model_unsupported``) where it is none."""
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
    size, source = _WEIGHT * entry.parameters / 1e6, entry.source
    context.progress.tell(
        f"fetching the encoder {entry.name} for the floor, once: {size:.0f} MB, {source.location} {source.version} from the package index, "
        f"{entry.license}; `floor: {{vectors: false}}` does without"
    )
    try:
        context.deps.encoder()  # without torch nothing could run it
        folder = base_models.pull(entry.name, context.deps.models, context.deps.model_reader, context.progress.tell)
    except (TailorbirdError, OSError) as error:
        why = error.message if isinstance(error, TailorbirdError) else error.strerror or type(error).__name__
        return None, f"the encoder {entry.name} could not be fetched ({why})"
    return _registered(context, folder, entry.name, entry.name), ""


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
        base = fetch_model(context, offer.name, encoder=context.objective.task.kind is TaskKind.RANK)
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


def fetch_model(context: StepContext, name: str, *, encoder: bool) -> BaseModelRef:
    """An ``encoder``, or a decoder with the chat template that the objective asks for, pulled and registered by digest. Raises
    ModelInvalid, with ``model_unsupported`` where it is the other."""
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
            code="model_unsupported",
        )
    return base


def token_profile(context: StepContext, base: BaseModelRef) -> TokenProfile:
    """Counts tokens with the base model's tokenizer, over at most 2,000 training rows spread evenly."""
    rows = context.rows(Split.TRAIN)
    if context.objective.task.kind is TaskKind.RANK:
        # Lengths of queries as the encoder reads them, each batch padded to the longest; nothing where no encoder can be asked
        # here.
        texts = [row.text for row in _spread(rows, 1000)]
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


#: Timing steps takes some tens of seconds: a rung that takes less than this needs no better estimate.
WORTH_SECONDS = 120.0
#: What was timed longer ago than this is timed again: drivers and libraries change.
_FRESH = timedelta(days=30)
#: What was timed beside other work is read in processor time, whose error is wider: it is timed again after so long. A machine that is
#: never quiet would else time at every plan, for half a minute, and learn the same.
_FRESH_LOADED = timedelta(hours=12)


def machine_name(machine: Machine) -> str:
    """Name of a machine in the record of timed steps."""
    gpus = ", ".join(machine.gpus) or "no GPU"
    return f"{platform.node()}: {machine.cores} cores of {processor_name()}, {machine.memory_gb:.0f} GiB, {gpus}"


def known_timings(context: StepContext, machine: Machine, base: BaseModelRef) -> tuple[Calibration, ...]:
    """Timed steps of ``base`` on this machine that are in the record and fresh."""
    return tuple(one for one in _fresh(context, machine) if one.base_model == base.digest)


def _fresh(context: StepContext, machine: Machine) -> list[Calibration]:
    """What was timed on this machine lately."""
    name, now = machine_name(machine), context.deps.clock.now()
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        found = [work.records.get(Calibration, digest) for digest in work.records.digests(Calibration)]
    return [one for one in found if one.machine == name and now - one.measured_at < (_FRESH_LOADED if one.loaded else _FRESH)]


def time_steps(context: StepContext, plan: Plan, refs: Refs) -> tuple[Calibration, ...]:
    """The known ones, and a few steps of each planned method that has none and is worth it. One that cannot be timed stays a formula's."""
    efficiency = median([one.efficiency for one in _fresh(context, plan.machine) if one.efficiency] or [0.0])
    timed = [one for base in refs.values() for one in known_timings(context, plan.machine, base)]
    if context.objective.task.kind is TaskKind.RANK:
        return tuple(timed)
    for rung in plan.rungs:
        if (
            rung.training is None
            or not rung.trains_base
            or rung.calibrated
            or rung.time.likely < WORTH_SECONDS
            or _of(timed, (base := ref_of(refs, plan, rung)).digest, rung.training) is not None
        ):
            continue
        context.progress.tell(f"timing a few steps of {rung.rung.value} {rung.variant} on this machine")
        try:
            job = rungs.training_job(context_of(context, rung, base))
            timed.append(context.deps.trainer().calibrate(job, machine_name(plan.machine), efficiency))
            if timed[-1].loaded:
                context.progress.tell(
                    "other processes want the cores: its steps were read in processor time, and plans of the next hours go by that"
                )
        except TailorbirdError as error:
            context.progress.tell(f"its steps could not be timed ({error.error_code}); the estimate rests on formulas alone")
    return tuple(timed)


def _of(timed: Iterable[Calibration], base: Digest, training: TrainingSettings) -> Calibration | None:
    """The newest timed steps that an estimate of ``training`` rests on."""
    wanted = (base, training.method, training.precision, training.threads)
    found = [one for one in timed if (one.base_model, one.settings.method, one.settings.precision, one.settings.threads) == wanted]
    return max(found, key=lambda one: one.measured_at, default=None)


class ExaminedRung(Value):
    """A rung and what an examination of its training found."""

    rung: RungPlan
    examination: Examination


def examine_rungs(context: StepContext, plan: Plan, refs: Refs) -> tuple[ExaminedRung, ...]:
    """Examines each rung of ``plan`` that trains. Takes seconds, and trains nothing."""
    speaks = context.objective.task.kind is not TaskKind.RANK
    trained = [rung for rung in plan.rungs if rung.trains_base and speaks]
    if trained:
        context.progress.tell("examining what would be trained")
    trainer = context.deps.trainer
    jobs = ((rung, rungs.training_job(context_of(context, rung, ref_of(refs, plan, rung)))) for rung in trained)
    return tuple(ExaminedRung(rung=rung, examination=trainer().examine(job)) for rung, job in jobs)


def heeded(plan: Plan, examined: Sequence[ExaminedRung]) -> Plan:
    """The plan without the rungs in whose way something stands, and with all other findings.

    Raises InvalidInput, with the finding's code, when something stands in the way of every rung that trains.
    """
    blocked = {one.rung: one.examination.blocking for one in examined if one.examination.blocking}
    if blocked and all(rung in blocked for rung in plan.rungs if rung.training is not None):
        found = next(iter(blocked.values()))
        more = f" (and {len(found) - 1} more: tailorbird doctor shows all)" if len(found) > 1 else ""
        raise InvalidInput(f"{found[0].what}{more}", found[0].remedy, code=found[0].code)
    refusals = [Refusal(rung=rung.rung, variant=rung.variant, reason=found[0].what) for rung, found in blocked.items()]
    kept = [one for one in examined if one.rung not in blocked]
    return plan.model_copy(
        update={
            "rungs": tuple(rung for rung in plan.rungs if rung not in blocked),
            "left_out": (*plan.left_out, *refusals),
            "findings": tuple(dict.fromkeys(finding for one in kept for finding in one.examination.findings)),
        }
    )


def take_snapshot(context: StepContext) -> StepOutcome:
    """Reads, cleans, splits and freezes the data; refuses KPIs that the data cannot prove, before anything is spent."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        known = anchored_splits(work, context.objective.name)
        rules = [found.shift.rule for found in manifests_of(work, context.objective.name).values() if found.shift]
    request = data.SnapshotRequest(
        objective=context.objective,
        folder=Path(context.file.folder),
        artifacts=context.deps.artifacts,
        known=known,
        progress=context.progress.tell,
        amendments=amendments_of(context.deps, context.objective),
        detectors=context.deps.detectors,
        shift=rules[-1] if rules else None,
    )
    built = data.build_snapshot(request)
    check_origins(context.file, built.manifest.files)
    check_labels(context.file, built.manifest)
    items = items_of(context, built.manifest)
    check_provable(context, built.manifest, items)
    _power_on_shifted(context, built.manifest, items)

    def remember(work: UnitOfWork) -> None:
        work.splits.remember(context.objective.name, {row: place for row, place in built.assigned.items() if row not in known})

    counts = built.manifest.counts
    split: Facts = {"train": counts.train, "dev": counts.dev, "test": counts.test}
    return StepOutcome(
        built.manifest, split | {"duplicates": built.manifest.duplicates, "quarantined": built.manifest.quarantined}, remember
    )


def _power_on_shifted(context: StepContext, manifest: SnapshotManifest, items: ItemsOf) -> tuple[ShiftPower, ...]:
    """What the shifted part can prove. Raises ObjectiveInvalid as ``check_shift_power``."""
    sizes = groups_of(context, manifest, items, shifted=True)
    return check_shift_power(context.file, manifest, lambda split: sizes(split, None))


def make_plan(context: StepContext) -> StepOutcome:
    """Drafts the plan, times steps of what is costly enough, examines what it would train, and freezes it.

    Raises InvalidInput when nothing of it could be trained, Exhausted when the budget affords no rung.
    """
    offers = offers_of(context)
    refs = refs_of(offers)
    untimed = planning.make_ladder(offers)
    timed = time_steps(context, untimed, refs)
    draft = planning.make_ladder(
        [replace(each, inputs=replace(each.inputs, calibrations=timed)) if each.inputs else each for each in offers]
    )
    if not draft.rungs and (not transitions.floor_is_rung(context.objective, draft) or (draft.floor and draft.floor.refused)):
        raise _no_rung(context, "; ".join(f"{each.name}: {each.reason}" for each in draft.left_out) or "the ladder is empty")
    examined = heeded(draft, examine_rungs(context, draft, refs))
    # The plan with what can be proven against the release that answers now; with findings where that is too little, and where
    # dev or test hold too few items of a label, or conversations answers that are not measured.
    found = foreseen(context)
    findings = (
        incumbent_finding(found, comparison_of(context)),
        thin_labels_finding(context.manifest),
        trivial_target_finding(context.objective, context.manifest),
        contradicting_labels_finding(context),
        untested_answers_finding(context),
        _cut_texts_finding(examined, offers),
        _template_finding(context, offers),
    )
    plan = examined.model_copy(update={"incumbent": found, "findings": examined.findings + tuple(one for one in findings if one)})
    for finding in plan.findings:
        context.progress.tell(f"{finding.severity.value} [{finding.code}]: {finding.what}: {finding.remedy}")
    facts: Facts = {"rungs": len(plan.rungs), "left_out": len(plan.left_out), "findings": len(plan.findings), "timed": len(timed)}
    if ranker := next((rung.ranker for rung in plan.rungs if rung.ranker), None):
        facts |= {"encoder_of": ranker.release}

    encoders = [offer.inputs.encoder for offer in offers if offer.inputs and offer.inputs.encoder][:1]  # all have the same

    def keep(work: UnitOfWork) -> None:
        for value in (*refs.values(), *encoders, *timed):
            work.records.put(value)

    return StepOutcome(plan, facts, keep)


def _cut_texts_finding(plan: Plan, offers: Sequence[planning.BaseOffer]) -> PreflightFinding | None:
    """A warning where an encoder reads texts whose end it does not see."""
    reads = (plan.floor is not None and plan.floor.encoder) or any(rung.rung is RungKind.ENCODER for rung in plan.rungs)
    cut = next((cut for offer in offers if offer.inputs and (cut := planning.cut_texts(offer.inputs))), "") if reads else ""
    if not cut:
        return None
    return PreflightFinding(
        code="texts_cut",
        severity=PreflightSeverity.WARNING,
        what=cut,
        remedy="where the end decides, put it first (the conclusion, a summary), or cut the documents into rows",
    )


def _template_finding(context: StepContext, offers: Sequence[planning.BaseOffer]) -> PreflightFinding | None:
    """A note where conversations are laid out otherwise than by the base models' own chat templates."""
    given = [offer for offer in offers if offer.inputs and offer.inputs.base.chat_template]
    if not given:
        return None
    asked, names = context.objective.chat_template, ", ".join(offer.label for offer in given)
    what = f"the chat template {asked} stands in place of their own: {names}" if asked else f"no chat template of their own: {names}"
    others = ", ".join(name for name in TEMPLATES if name != DEFAULT)
    remedy = (
        "remove `chat_template` from the objective to use the model's own"
        if asked
        else f"conversations are laid out by the template {DEFAULT}; for another one: chat_template: {others}, or a .jinja file"
    )
    return PreflightFinding(code="chat_template_given", severity=PreflightSeverity.NOTE, what=what, remedy=remedy)


def draft_plan(context: StepContext) -> tuple[Plan, Refs]:
    """Fetches the base models, measures the machine, and plans without timing anything; and the base models."""
    offers = offers_of(context)
    return planning.make_ladder(offers), refs_of(offers)


def offers_of(context: StepContext) -> tuple[planning.BaseOffer, ...]:
    """Inputs of the planner for each base model of the objective; timed steps are those recorded for this machine.

    Raises Exhausted (``no_rung``) where no base needs to be fetched.
    """
    context.progress.tell("measuring this machine")
    items = items_of(context, context.manifest)
    dev_power, test_power = split_power(context.file, context.manifest, groups_of(context, context.manifest, items))
    shift = _power_on_shifted(context, context.manifest, items)
    try:
        machine = context.deps.trainer().measure_machine()
    except Unavailable:
        machine = Machine(cores=1, memory_gb=1.0, training=False)
    # The encoder, fetched where it is missing and a rung could read it; or None, and why, where anybody would ask.
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
    (encoder, without_encoder), comparison = (found, why_not), comparison_of(context)
    ranker, hosted = _ranker(context), iter([named_endpoint(context.deps, context.file)])

    def inputs_of(base: BaseModelRef) -> planning.PlanInputs:
        return planning.PlanInputs(
            objective=context.objective,
            objective_digest=context.run.objective,
            snapshot=digest_of(context.manifest),
            manifest=context.manifest,
            base=base,
            machine=machine,
            tokens=token_profile(context, base),
            prices=context.deps.prices,
            dev_power=dev_power,
            test_power=test_power,
            shift=shift,
            calibrations=known_timings(context, machine, base),
            encoder=encoder,
            without_encoder=without_encoder,
            documents=len(context.documents),
            document_tokens=document_tokens(context, _reader_of_documents(context, base, encoder, ranker)),
            comparison=comparison,
            ranker=ranker,
            endpoint=next(hosted, None),  # a hosted model stands once in the ladder, whatever the bases
        )

    offers = offered(context, machine, inputs_of)
    if not refs_of(offers):
        raise _no_rung(context, "; ".join(f"{offer.label}: {offer.out}" for offer in offers))
    return offers


def _reader_of_documents(
    context: StepContext, base: BaseModelRef, encoder: BaseModelRef | None, ranker: PlannedRanker | None
) -> Digest | None:
    """The encoder that reads the documents for an index: the base of a ranking, that of the released one, or the installed one."""
    if context.objective.task.kind is TaskKind.RANK:
        return base.digest
    return ranker.encoder if ranker else encoder.digest if encoder else None


def _ranker(context: StepContext) -> PlannedRanker | None:
    """The release that finds passages, where the objective names one. Raises as ``find_ranker`` and ``demand_one_width``."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        found = find_ranker(work, context.file)
        ranker = planned_ranker(work, found) if found else None
    if ranker is not None:
        # Raises ModelInvalid where what was tuned reads queries as vectors of another width than those of
        # passages.
        deps = context.deps
        if ranker.encoder is None or ranker.tuned is None:
            pass
        else:
            encoder, folder = deps.encoder(), deps.artifacts.get_tree(ranker.encoder)
            plain, tuned = (encoder.embed(folder, ["width"], tree).shape[1] for tree in (None, deps.artifacts.get_tree(ranker.tuned)))
            if plain != tuned:
                raise ModelInvalid(
                    f"the encoder of release {short(ranker.release)} reads passages as vectors of {plain} numbers and queries as {tuned}",
                    f"adapt {ranker.objective} again, and name the release that comes of it under `grounding.encoder`",
                )
    return ranker


def _no_rung(context: StepContext, reasons: str) -> Exhausted:
    return Exhausted(
        f"no rung of {context.objective.name} can be tried: {reasons}",
        "raise the budget in the objective, or use a smaller base model, or a larger machine",
        code="no_rung",
    )
