"""Judge models beside label review: who asks one, what it is shown, what it leaves.

Asking and judging are two steps, as with runs: whoever has the model does the second (``tailorbird worker``, or the command line at once).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tailorbird import base_models, data, planning, release
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Busy, Exhausted, InvalidInput, LeaseLost, ModelInvalid, TailorbirdError
from tailorbird.domain.evidence import Evidence
from tailorbird.domain.label_review import JudgeState, ModelReview
from tailorbird.domain.ladder import Candidate, Ladder
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.outward_access import grant_within, restrict_sources
from tailorbird.text.conversations import as_lines
from tailorbird.usecases.audit_events import Facts, permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.label_reviews.label_review import ReviewState, below, read_sheet, refuse_author, show_review
from tailorbird.usecases.leases import heartbeat, owner
from tailorbird.usecases.registry import ReleaseDigest, local, usecase
from tailorbird.usecases.snapshots.snapshot_queries import present_of
from tailorbird.usecases.storage_quota import storing
from tailorbird.usecases.tenants import reach_of

#: How long a model is in one hand without a sign of life, and seconds between two signs.
LEASE, HEARTBEAT_SECONDS = timedelta(seconds=60), 10.0
#: Processes that may begin a review and end before it is done.
MOST_ATTEMPTS = 5
#: Prompts that the engine is given at once: progress is told in between.
_AT_ONCE = 8


ModelName = Annotated[str, Field(min_length=1, max_length=300, description="Of the catalogue, or hf://OWNER/NAME[@REVISION].")]


@usecase("label_review.ask", "POST", "/api/releases/{digest}/review/judges", Action.ASK_JUDGE)
def ask_judge(deps: Dependencies, actor: Actor, digest: ReleaseDigest, model: ModelName) -> ReviewState:
    """Ask a model to judge beside people; a worker does it.

    Raises as ``ask``.
    """
    return show_review(deps, actor, ask(deps, actor, digest, model).release)


def ask(deps: Dependencies, actor: Actor, digest: str, model: str, *, here: bool = False) -> ModelReview:
    """Asks for ``model``'s review of a release. Asked again, it is the review there is; one that failed waits anew. ``here``: paths of this
    machine are names, too.

    Raises Forbidden (the author), NotFound (nothing to review), InvalidInput (a ranking), ModelInvalid (no such model), Conflict (enough).
    """
    permit(deps, actor, Action.ASK_JUDGE, digest)
    with deps.ledger.work(actor.tenant, write=False) as work:
        found, _, _ = read_sheet(work, digest)
    refuse_author(deps, actor, found)
    _require_known(deps, model, here=here)
    if not here:
        _require_reachable(deps, actor, model)
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        known = work.model_reviews.of(found.digest)
        release.check_judgeable(found, known, model)
        asked = ModelReview(release=found.digest, model=model, asked_by=actor.name, asked_at=now, bar=deps.judge_kappa)
        there = work.model_reviews.add(asked)
        if all(one.model != model for one in known) or there.state is JudgeState.FAILED:
            record(work, "judge.asked", actor.name, found.digest, now, {"model": model, "bar": there.bar})
        work.model_reviews.reopen(there)
        return _named(work, found.digest, model)


@local(Action.ASK_JUDGE)
def judge_here(deps: Dependencies, actor: Actor, digest: str, model: str, progress: Progress) -> ModelReview:
    """Asks for ``model``'s review and lets it judge on this machine. Raises as ``ask`` and ``hold``."""
    asked = ask(deps, actor, digest, model, here=True)
    if asked.state is JudgeState.DONE:
        progress.tell(f"{model} has judged already: nothing was asked again, this is its record")
    return hold(deps, actor, asked, progress, here=True)


def hold(deps: Dependencies, actor: Actor, asked: ModelReview, progress: Progress, *, here: bool = False) -> ModelReview:
    """Lets the model judge, and files its marks; one that has judged is left as it is. ``here``: who asked owns this machine, so that no
    places bound where the model comes from.

    Raises Busy when another process has it in hand, and what fetching and running the model raises: that is filed, too.
    """
    if asked.state is JudgeState.DONE:
        return asked
    name, deps = owner(), deps.for_tenant(actor.tenant)
    with deps.ledger.work(actor.tenant) as work:
        taken = work.model_reviews.take(asked, name, LEASE)
    if not taken:
        raise Busy(f"another process asks {asked.model} already", "wait for it; see tailorbird review show", code="judge_busy")
    ended, reach = asked, None if here else reach_of(deps, actor.tenant)
    try:
        _refuse_hopeless(asked)
        with heartbeat(HEARTBEAT_SECONDS, lambda: _beat(deps, actor.tenant, asked, name)), restrict_sources(reach):
            ended = _judged(deps, actor, asked, progress)
    except Exception as error:
        code = error.error_code if isinstance(error, TailorbirdError) else "internal"
        ended = asked.model_copy(update={"state": JudgeState.FAILED, "error": code})
        raise
    finally:
        _file(deps, actor, ended, name)
    with deps.ledger.work(actor.tenant, write=False) as work:
        return _named(work, asked.release, asked.model)


def _named(work: UnitOfWork, digest: Digest, model: str) -> ModelReview:
    return next(one for one in work.model_reviews.of(digest) if one.model == model)


def _refuse_hopeless(asked: ModelReview) -> None:
    """What was begun so often and never ended does not end a worker once more. Raises Exhausted."""
    if asked.attempts >= MOST_ATTEMPTS:
        raise Exhausted(
            f"{asked.model} was asked {asked.attempts} times, and each time the process ended before it had judged",
            "ask a smaller model, or give the worker more memory",
            code="judge_given_up",
        )


def _judged(deps: Dependencies, actor: Actor, asked: ModelReview, progress: Progress) -> ModelReview:
    with deps.ledger.work(actor.tenant, write=False) as work:
        found, sheet, objective = read_sheet(work, asked.release)
        manifest = present_of(work, deps.artifacts, sheet.snapshot)
        kin = _kin(work, found)
    base = _fetched(deps, objective, asked.model, progress)
    release.check_judge(found, asked.model, base.digest)
    pairs = release.judged_pairs(
        sheet, {row.id: as_lines(row.text) for row in data.load_items(manifest, deps.artifacts, Split(sheet.split))}
    )
    if not pairs:
        raise InvalidInput("every item of this sheet was erased", "judge the next release", code="review_erased")
    prompts = release.judge_prompts(objective.task.instruction, pairs)
    folder = deps.artifacts.get_tree(base.digest)
    release.check_fits(deps.engine().count_tokens(folder, prompts), base.context, asked.model)
    progress.tell(f"{base.name} judges {len(pairs)} pairs of answers, each in both orders")
    nats = _scored(deps, _servable(objective, base, folder), prompts, progress)
    return asked.model_copy(
        update={
            "state": JudgeState.DONE,
            "base": base.digest,
            "related": kin.get(base.digest, ""),
            "engine": deps.engine().fingerprint(),
            "marks": release.pair_marks(pairs, nats),
            "judged_at": deps.clock.now(),
        }
    )


def _scored(deps: Dependencies, servable: Servable, prompts: Sequence[Sequence[Message]], progress: Progress) -> list[tuple[float, ...]]:
    """Log-probabilities (nats) of both letters for each prompt."""
    engine, found = deps.engine(), list[tuple[float, ...]]()
    engine.load(servable)
    try:
        for start in range(0, len(prompts), _AT_ONCE):
            scores = engine.score(servable.id, prompts[start : start + _AT_ONCE], release.LETTERS)
            found += [one.log_probabilities for one in scores]
            progress.count(len(found), len(prompts))
    finally:
        engine.unload(servable.id)
    return found


def _servable(objective: Objective, base: BaseModelRef, folder: Path) -> Servable:
    """The bare base model, apart from whatever else was made of it."""
    return Servable(
        id=digest_of({"judge": base.digest}),
        tenant=objective.tenant,
        task=TaskKind.CLASSIFY,
        base=str(folder),
        adapter=None,
        weights=None,
        prompt=PromptSpec(instruction=""),
    )


def _require_known(deps: Dependencies, model: str, *, here: bool) -> None:
    """A name that leads nowhere is refused before anybody waits for it. Nothing is fetched. Raises ModelInvalid."""
    base_models.require_known(model, here=here)
    encoders = {entry.name for entry in base_models.list_models(deps.models) if entry.role == "encoder"}
    if model in encoders:
        raise _no_decoder(model)


def _require_reachable(deps: Dependencies, actor: Actor, model: str) -> None:
    """A model of the hub is read with somebody's credential: for whom, the tenant's places say. Raises Forbidden."""
    if "://" in model:
        grant_within(reach_of(deps, actor.tenant), model)


def _fetched(deps: Dependencies, objective: Objective, model: str, progress: Progress) -> BaseModelRef:
    known = base_models.known_facts(model, deps.models)
    if out := planning.why_not_fetched(objective, deps.trainer().measure_machine(), known.license, known.parameters):
        raise ModelInvalid(f"{model} cannot judge here: {out}", "ask another model", code="judge_unfit")
    folder = base_models.pull(model, deps.models, deps.model_reader, progress.tell)
    with storing(deps, objective.tenant) as store:
        base = base_models.register_base(folder, model, store, deps.models.own, open_reader=deps.model_reader)
    if base.encoder is not None:
        raise _no_decoder(model)
    return base.model_copy(update={"license": known.license})


def _no_decoder(model: str) -> ModelInvalid:
    return ModelInvalid(f"{model} turns texts into vectors and judges nothing", "ask a model that writes answers", code="model_kind")


def _kin(work: UnitOfWork, found: Release) -> dict[Digest, str]:
    """The base models that the two answers were made from, and why none of them is an impartial judge. A floor is made from none."""
    ours = None if found.content.floor or found.content.hosted else found.content.base_model
    theirs = _base_of_other(work, found)
    prefer = "was made from this very model, and models prefer what is likely to themselves"
    kin = {theirs: f"what the candidate is compared with {prefer}"} if theirs else {}
    return kin | ({ours: f"the candidate {prefer}"} if ours else {})


def _base_of_other(work: UnitOfWork, found: Release) -> Digest | None:
    """What the answers beside the candidate's were made from, where the record still says."""
    test = work.records.get(Evidence, found.dossier.test_evidence)
    if test.incumbent is not None and test.incumbent_release is not None:
        incumbent = work.releases.get(test.incumbent_release).content
        return None if incumbent.floor else incumbent.base_model
    ladder = work.records.get(Ladder, found.dossier.ladder)
    chosen = next((climb for climb in ladder.measured if climb.candidate == ladder.chosen), None)
    beside = below(ladder, chosen) if chosen else None
    other = work.records.get(Candidate, beside.candidate) if beside else None
    return None if other is None or other.floor else other.base_model


def _file(deps: Dependencies, actor: Actor, ended: ModelReview, name: str) -> None:
    """Writes what came of it; one that was interrupted waits again. Where another process took over, nothing is written."""
    with suppress(LeaseLost), deps.ledger.work(actor.tenant) as work:
        work.model_reviews.finish(ended, name)
        if ended.state is JudgeState.DONE:
            agreed = sum(mark.is_agreed for mark in ended.marks)
            facts: Facts = {"model": ended.model, "base": ended.base, "judged": len(ended.marks), "agreed": agreed}
            record(work, "judge.judged", actor.name, ended.release, deps.clock.now(), facts)
        elif ended.state is JudgeState.FAILED:
            record(work, "judge.failed", actor.name, ended.release, deps.clock.now(), {"model": ended.model, "code": ended.error})


def _beat(deps: Dependencies, tenant: str, asked: ModelReview, name: str) -> bool:
    """Keeps the lease while the model is fetched or waited for."""
    with suppress(TailorbirdError), deps.ledger.work(tenant) as work:
        work.model_reviews.take(asked, name, LEASE)
    return True
