"""The first steps of a run: freeze the data, fetch the base model, plan the climb.

In: a stage. Out: a snapshot manifest; a plan. Must not know: rungs, training, engines' insides.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean, pstdev

from tailorbird import data, models, planning
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.errors import Exhausted, ModelInvalid, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Machine, Plan, TokenProfile
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_of
from tailorbird.foundations.prompting import messages_for_row
from tailorbird.lifecycle.climbing.calibrating import known_timings, time_steps
from tailorbird.lifecycle.climbing.examining import examine_rungs, heeded
from tailorbird.lifecycle.data.heeding import amendments_of
from tailorbird.lifecycle.journal import Facts
from tailorbird.lifecycle.steps.stage import Outcome, Stage
from tailorbird.objective import GroupSizes, check_labels, check_power
from tailorbird.ports.ledger import UnitOfWork


def take_snapshot(stage: Stage) -> Outcome:
    """Reads, cleans, splits and freezes the data; refuses KPIs that the data cannot prove, before anything is spent."""
    with stage.parts.ledger.work(stage.run.tenant, write=False) as work:
        known = work.splits.assigned(stage.objective.name)
    built = data.build_snapshot(
        data.SnapshotRequest(
            objective=stage.objective,
            folder=Path(stage.file.folder),
            artifacts=stage.parts.artifacts,
            known=known,
            progress=stage.progress.tell,
            amendments=amendments_of(stage.parts, stage.objective),
            detectors=stage.parts.detectors,
            memory=stage.parts.curations(stage.run.tenant) / stage.objective.name,
        )
    )
    check_labels(stage.file, built.manifest)
    check_power(stage.file, built.manifest, _groups_of(stage, built.manifest))

    def remember(work: UnitOfWork) -> None:
        work.splits.remember(stage.objective.name, {row: place for row, place in built.assigned.items() if row not in known})

    counts = built.manifest.counts
    split: Facts = {"train": counts.train, "dev": counts.dev, "test": counts.test}
    return Outcome(built.manifest, split | {"duplicates": built.manifest.duplicates, "quarantined": built.manifest.quarantined}, remember)


def _groups_of(stage: Stage, manifest: SnapshotManifest) -> GroupSizes:
    """How rows of a split share groups. Of the sealed test nothing else is looked at."""

    @cache
    def rows(split: Split) -> tuple[Row, ...]:
        return data.load_rows(manifest, stage.parts.artifacts, split)

    return lambda split, label: data.group_sizes(rows(split), label, many=stage.many)


def make_plan(stage: Stage) -> Outcome:
    """Drafts the plan, times steps of what is costly enough, examines what it would train, and freezes it.

    Raises InvalidInput when nothing of it could be trained, Exhausted when the budget affords no rung.
    """
    inputs = inputs_of(stage)
    timed = time_steps(stage, planning.make_plan(inputs), inputs.base)
    draft = _with_base(planning.make_plan(replace(inputs, calibrations=timed)), inputs.base)
    _refuse_empty(stage, draft)
    plan = heeded(draft, examine_rungs(stage, draft, inputs.base))
    for finding in plan.findings:
        stage.progress.tell(f"{finding.severity.value} [{finding.code}]: {finding.what}: {finding.remedy}")
    facts: Facts = {"rungs": len(plan.rungs), "left_out": len(plan.left_out), "findings": len(plan.findings), "timed": len(timed)}

    def keep(work: UnitOfWork) -> None:
        for value in (inputs.base, *timed):
            work.records.put(value)

    return Outcome(plan, facts, keep)


def draft_plan(stage: Stage) -> tuple[Plan, BaseModelRef]:
    """Fetches the base model, measures the machine, and plans without timing anything; and the base model."""
    inputs = inputs_of(stage)
    return _with_base(planning.make_plan(inputs), inputs.base), inputs.base


def inputs_of(stage: Stage) -> planning.PlanInputs:
    """Everything a plan rests on; of timed steps, those that this machine has in the record."""
    base = fetch_base(stage)
    stage.progress.tell("measuring this machine")
    dev_power, test_power = check_power(stage.file, stage.manifest, _groups_of(stage, stage.manifest))
    machine = _machine(stage)
    return planning.PlanInputs(
        objective=stage.objective,
        objective_digest=stage.run.objective,
        snapshot=digest_of(stage.manifest),
        manifest=stage.manifest,
        base=base,
        machine=machine,
        tokens=_token_profile(stage, base),
        prices=stage.parts.prices,
        dev_power=dev_power,
        test_power=test_power,
        calibrations=known_timings(stage, machine, base),
        encoder=_installed_encoder(stage),
        documents=len(stage.documents),
    )


def _installed_encoder(stage: Stage) -> Digest | None:
    """The encoder of the catalogue that was pulled, as an artifact; None where none was: entries are then found by words."""
    for listed in models.installed(stage.parts.models):
        if listed.role == "encoder" and listed.folder is not None:
            return stage.parts.artifacts.put_tree(listed.folder)
    return None


def _with_base(plan: Plan, base: BaseModelRef) -> Plan:
    return plan.model_copy(update={"base_model": digest_of(base)})


def _refuse_empty(stage: Stage, plan: Plan) -> None:
    """Raises Exhausted when nothing can be tried, with the first reason of each rung."""
    if plan.rungs or stage.objective.releases_floor:
        return
    reasons = "; ".join(f"{refusal.rung.value} {refusal.reason}" for refusal in plan.left_out) or "the ladder is empty"
    raise Exhausted(
        f"no rung of {stage.objective.name} can be tried: {reasons}",
        "raise the budget in the objective, use a smaller base model, or see what another machine could do: tailorbird plan --what-if",
        code="no_rung",
    )


def fetch_base(stage: Stage) -> BaseModelRef:
    """The objective's base model, pulled and registered by digest."""
    name = stage.objective.base_model
    local = Path(stage.file.folder) / name
    given = str(local) if local.exists() else name
    folder = models.pull(given, stage.parts.models, stage.parts.model_reader, stage.progress.tell)
    base = models.register(folder, name, stage.parts.artifacts)
    if models.is_encoder(base) != (stage.objective.task.kind is TaskKind.RANK):
        raise ModelInvalid(
            f"{name} {'turns texts into vectors' if models.is_encoder(base) else 'writes answers'}, which is not what the task needs",
            "a task of kind rank starts from an encoder (minilm-l6-v2), every other one from a decoder (smollm2-135m)",
            code="model_kind",
        )
    return base


def _machine(stage: Stage) -> Machine:
    try:
        return stage.parts.trainer().measure_machine()
    except Unavailable:
        return Machine(cores=1, memory_gb=1.0, training=False)


def _token_profile(stage: Stage, base: BaseModelRef) -> TokenProfile:
    """Counts tokens with the base model's tokenizer, over at most 2,000 training rows spread evenly."""
    if stage.objective.task.kind is TaskKind.RANK:
        return TokenProfile(shared_prefix=0, prompt_mean=0, prompt_p95=0, prompt_max=0, target_mean=0, target_max=0, label_trie=0)
    rows = stage.rows(Split.TRAIN)
    sample = rows[:: max(1, math.ceil(len(rows) / 2000))]
    prompt = PromptSpec(instruction=stage.objective.task.instruction)
    empty = _count(stage, base, prompt, [""])[0]
    prompts = _count(stage, base, prompt, [row.text for row in sample])
    targets = [count - empty + 1 for count in _count(stage, base, prompt, _targets(sample))]
    labels = (stage.manifest.label_sets or stage.manifest.labels) if stage.objective.task.kind is TaskKind.CLASSIFY else ()
    trie = sum(count - empty + 1 for count in _count(stage, base, prompt, labels)) if labels else 0
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
    )


def _targets(rows: tuple[Row, ...]) -> list[str]:
    return [row.target for row in rows]


def _count(stage: Stage, base: BaseModelRef, prompt: PromptSpec, texts: list[str] | tuple[str, ...]) -> list[int]:
    folder = stage.parts.artifacts.get_tree(base.digest)
    return stage.parts.engine().count_tokens(folder, [messages_for_row(prompt, text) for text in texts])


def planned(stage: Stage) -> Plan:
    """The plan, which exists once the step ``plan`` is done."""
    assert stage.plan is not None
    return stage.plan
