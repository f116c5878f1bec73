"""Finished trainings of a tenant that a rung reuses instead of training again (docs/decisions/0085)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tailorbird import rungs
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.erasure import Certificate
from tailorbird.domain.errors import Corrupt, NotFound
from tailorbird.domain.ladder import Making, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Estimate, Plan, Reason, RungPlan
from tailorbird.domain.run import StoredTraining, TrainingOrigin, TrainingPlateau, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ErasableStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.ports.trainer import Job
from tailorbird.usecases.anchored_rows import anchored_erasures, anchored_records
from tailorbird.usecases.climb.base_candidates import Refs, ref_of
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext


def reusable_training(context: StepContext, fingerprint: Digest, job: Job) -> rungs.ReusableTraining | None:
    """The newest finished training with this fingerprint whose files are whole.

    Damaged files are taken out of the store, so that training again puts them back.
    """
    for stored, report in _fitting(context, fingerprint, job):
        if (folder := _whole(context, stored)) is not None:
            context.progress.tell(f"the weights of run {stored.origin.run} are reused: it trained the same job to its end")
            return rungs.ReusableTraining(stored, report, folder)
    return None


def stored_training(context: StepContext, rung: RungPlan, made: rungs.RungResult, making: Making) -> StoredTraining | None:
    """What later runs may reuse of a rung; None where nothing was trained here."""
    trained = made.trained
    if trained is None or rung.training is None or trained.reused is not None:
        return None
    return StoredTraining(
        fingerprint=trained.fingerprint,
        tree=trained.tree,
        report=digest_of(trained.report),
        snapshot=trained.report.snapshot,
        rows=context.manifest.rows,
        waiting_epochs=rung.training.waiting_epochs,
        origin=TrainingOrigin(
            run=context.run.id, at=context.deps.clock.now(), seconds=making.seconds, money=making.money, energy_kwh=making.energy_kwh
        ),
    )


def reused_trainings(context: StepContext, plan: Plan, refs: Refs) -> dict[str, TrainingOrigin]:
    """The rungs of a draft whose training will be reused, by name, each with its origin.

    Rungs whose job is known only once something was indexed are not looked for: they are found when they are made.
    """
    if context.objective.task.kind is TaskKind.RANK:
        return {}
    found: dict[str, TrainingOrigin] = {}
    for rung in plan.rungs:
        if rung.training is None or rung.rung is RungKind.GROUNDED_LORA:
            continue
        rung_context = context_of(context, rung, ref_of(refs, plan, rung))
        job = rungs.encoder_job(rung_context) if rung.rung is RungKind.ENCODER else rungs.training_job(rung_context)
        fitting = _fitting(context, context.deps.trainer().fingerprint(job), job)
        stored = next((each for each, _ in fitting if _is_there(context.deps.artifacts, each.tree)), None)
        if stored is not None:
            found[transitions.named(rung)] = stored.origin
    return found


def with_reuse(plan: Plan, reused: dict[str, TrainingOrigin]) -> Plan:
    """The plan in which what ``reused`` rungs will still take is measuring them. Order and totals stay: which candidate is the cheapest
    does not depend on who trained it."""
    return plan.model_copy(update={"rungs": tuple(_without_training(rung, reused.get(transitions.named(rung))) for rung in plan.rungs)})


def _without_training(rung: RungPlan, origin: TrainingOrigin | None) -> RungPlan:
    if origin is None:
        return rung
    reason = Reason(
        rule="reuse",
        text=f"run {origin.run} trained the same job in {origin.seconds:.0f} s: its weights are reused, and only measured",
        source="docs/decisions/0085",
    )
    share = _measured_share(rung)
    update = {name: _times(estimate, share) for name in ("time", "money", "energy") if (estimate := getattr(rung, name)) is not None}
    return rung.model_copy(update=update | {"training_time": None, "training_memory": None, "reasons": (reason, *rung.reasons)})


def _measured_share(rung: RungPlan) -> float:
    """The share of a rung's time that measuring takes."""
    training = rung.training_time.likely if rung.training_time else 0.0
    return max(0.0, 1 - training / rung.time.likely) if rung.time.likely else 0.0


def _times(estimate: Estimate, share: float) -> Estimate:
    return estimate.model_copy(update={end: getattr(estimate, end) * share for end in ("low", "likely", "high")})


def _fitting(context: StepContext, fingerprint: Digest, job: Job) -> list[tuple[StoredTraining, TrainingReport]]:
    """Trainings that give the bytes of ``job``, newest first, without those that an erasure reaches."""
    made_of = (fingerprint, context.manifest.rows)
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        stored = [work.records.get(StoredTraining, digest) for digest in reversed(anchored_records(work, StoredTraining))]
        alike = [(each, work.records.get(TrainingReport, each.report)) for each in stored if (each.fingerprint, each.rows) == made_of]
        return [
            (each, report)
            for each, report in alike
            if waits_alike(each, report.plateau, job.settings.waiting_epochs) and not _is_erased(work, each)
        ]


def waits_alike(stored: StoredTraining, plateau: TrainingPlateau | None, waiting_epochs: int) -> bool:
    """True when the training, which stood on ``plateau``, would be the same with ``waiting_epochs``. One that might have waited and never
    had to is the same with any."""
    return stored.waiting_epochs == waiting_epochs or (stored.waiting_epochs > 0 and plateau is None)


def _is_erased(work: UnitOfWork, stored: StoredTraining) -> bool:
    """True where an erasure reached the rows that were learned, or one is asked for whose reach is not known yet."""
    return any(
        certificate is None or stored.snapshot in certificate.reach.snapshots or stored.tree in certificate.reach.adapters
        for certificate in _certificates(work)
    )


def _certificates(work: UnitOfWork) -> Iterator[Certificate | None]:
    """Every certificate of every erasure; None for an erasure that is not carried out."""
    for erasure in anchored_erasures(work):
        digest = erasure.certificate
        if digest is None:
            yield None
        while digest is not None:
            yield (certificate := work.records.get(Certificate, digest))
            digest = certificate.earlier


def _is_there(store: ErasableStore, tree: Digest) -> bool:
    """True when all files of the tree are stored, whole or not."""
    try:
        return all(map(store.exists, store.tree(tree).values()))
    except (NotFound, Corrupt):
        return False


def _whole(context: StepContext, stored: StoredTraining) -> Path | None:
    """The folder of the trained files, each checked just now; None where one is missing or was changed."""
    store = context.deps.artifacts
    try:
        return store.get_tree(stored.tree)
    except NotFound:
        return None
    except Corrupt as error:
        context.progress.tell(f"weights of run {stored.origin.run} are damaged: {error.message}")
        _take_out_damaged(store, stored.tree)
    with suppress(NotFound):
        return store.get_tree(stored.tree)  # only this machine's copy was damaged
    return None


def _take_out_damaged(store: ErasableStore, tree: Digest) -> None:
    """Destroys this machine's copy of the tree, and those of its files that lost their digest: others may share the rest."""
    try:
        manifest, files = store.get(tree), store.tree(tree)
    except Corrupt:
        store.destroy(tree)
        return
    for digest in files.values():
        try:
            store.get(digest)
        except Corrupt:
            store.destroy(digest)
        except NotFound:
            continue
    store.destroy(tree)
    store.put(manifest)
