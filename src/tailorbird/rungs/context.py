"""Context and result of a rung, and the validation split that rungs choose by, so that dev and test stay untouched by any choice.

Search indexes of rungs, and retrieval with its parts in local folders.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tailorbird.chat.conversations import last_user_turn
from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import EVERYONE, Document, Row
from tailorbird.domain.deployment import LocalRetrieval
from tailorbird.domain.errors import Corrupt, DataInvalid, NotFound
from tailorbird.domain.evidence import ScopeTrial
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.prompt import Entry, Message, PromptSearch, PromptSpec, Retrieval, Sampling
from tailorbird.domain.run import StoredTraining, TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.ports.encoder import Encoder
from tailorbird.ports.endpoint import HostedAnswer
from tailorbird.ports.engine import Engine
from tailorbird.ports.trainer import Job, TrainedModel, Trainer
from tailorbird.text.search_index import passages_of, write_index


@dataclass(frozen=True)
class ReusableTraining:
    """A finished training of another run whose files were just found whole in ``folder``, with its report."""

    stored: StoredTraining
    report: TrainingReport
    folder: Path


def _count_nothing(_done: int, _total: int) -> None:
    return None


def _nothing_reusable(_fingerprint: Digest, _job: Job) -> ReusableTraining | None:
    return None


@dataclass(frozen=True)
class RungContext:
    """Inputs and ports of a rung. ``workspace`` is a folder of this rung alone, where unfinished work survives a kill.

    A rung learns and chooses from ``train`` only; ``dev`` is where its candidate will be measured, and is here for rungs that must
    know what they may not show. ``documents`` are the tenant's, ``encoder_folder`` the encoder that the plan names. ``trainer``,
    ``engine`` and ``encoder`` open on first use. ``indexes`` is a folder of the tenant that remembers which indexes are stored.
    ``reusable`` finds a finished training by the fingerprint of a job. ``seal_key`` encrypts what is unfinished, and ``results`` is the
    folder for what was trained, in place of the workspace, where the workspace encrypts. ``ask_hosted`` asks the endpoint that the plan
    names. ``count`` is told how much is done, and of how much.
    ``leaves_labels_out``: what tells requests out of scope is chosen on labels that are left out, for there are too few examples.
    """

    objective: Objective
    plan: RungPlan
    base: BaseModelRef
    base_folder: Path
    snapshot: Digest
    labels: tuple[str, ...]
    label_sets: tuple[str, ...]
    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    documents: tuple[Document, ...]
    encoder_folder: Path | None
    encoder: Callable[[], Encoder]
    trainer: Callable[[], Trainer]
    engine: Callable[[], Engine]
    artifacts: ArtifactStore
    workspace: Path
    indexes: Path
    report: Callable[[TrainingProgress], None]
    progress: Callable[[str], None]
    seal_key: str = field(default="", repr=False)
    results: Path | None = None
    ask_hosted: Callable[[Sequence[Sequence[Message]], Sampling], list[HostedAnswer]] | None = None
    count: Callable[[int, int], None] = _count_nothing
    leaves_labels_out: bool = False
    reusable: Callable[[Digest, Job], ReusableTraining | None] = _nothing_reusable
    train_items: tuple[Row, ...] = ()

    @property
    def shown(self) -> tuple[Row, ...]:
        """What is shown to a model, and what a prompt is chosen by: ``train``, or each answer of its conversations where all count."""
        return self.train_items or self.train


def candidate_of(context: RungContext, prompt: PromptSpec, **parts: Any) -> Candidate:
    """The planned rung's candidate: what it was asked to be, with the ``parts`` that the rung made."""
    plan = context.plan
    known = {"rung": plan.rung, "variant": plan.variant, "base_model": context.base.digest, "seed": context.objective.seed}
    return Candidate(prompt=prompt, **known | parts)


@dataclass(frozen=True)
class TrainedFiles:
    """What a training left: its files, stored as ``tree`` and lying in ``folder``, its report, the fingerprint of its job, the ``seconds``
    that it took here, and the training that it was ``reused`` from (None: it was done here)."""

    tree: Digest
    folder: Path
    report: TrainingReport
    fingerprint: Digest
    seconds: float
    reused: StoredTraining | None = None


def trained_files(context: RungContext, job: Job, train: Callable[[], TrainedModel]) -> TrainedFiles:
    """Reuses a training where there is one, else runs ``train`` and stores its files. Raises what the trainer raises."""
    started, fingerprint = time.perf_counter(), context.trainer().fingerprint(job)
    found = context.reusable(fingerprint, job)
    if found is None:
        trained = train()
        tree = context.artifacts.put_tree(trained.folder)
        return TrainedFiles(tree, trained.folder, trained.report, fingerprint, trained.report.seconds)
    report = found.report.model_copy(update={"settings": digest_of(job.settings), "snapshot": job.snapshot})
    return TrainedFiles(found.stored.tree, found.folder, report, fingerprint, time.perf_counter() - started, found.stored)


@dataclass(frozen=True)
class RungResult:
    """A candidate, what making it took (seconds, GiB), and the training that it rests on where there was any, the log of a
    prompt's search, and how scorers of scope did on labels left out."""

    candidate: Candidate
    seconds: float
    peak_memory_gb: float = 0.0
    trained: TrainedFiles | None = None
    search: PromptSearch | None = None
    scope: ScopeTrial | None = None

    @property
    def training(self) -> TrainingReport | None:
        """The report of the training."""
        return self.trained.report if self.trained else None


#: Share of the rows that is held out.
SHARE = 0.10
#: What is held out chooses among a handful of checkpoints, rows paired: beyond this many, rows are left to learn from.
ENOUGH = 400


def hold_out(rows: Sequence[Row], seed: int, share: float = SHARE, enough: int = ENOUGH) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Splits ``rows`` into (to learn from, held out), by the hash of seed and group; the order of rows changes nothing.

    Groups are taken in the order of their hashes until ``share`` of the rows, or ``enough`` of them, is held out; one that would hold out
    more than twice that share, or leave less than half of the others, is passed over, unless all would. Raises DataInvalid when all rows
    are of one group.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        groups[row.group].append(row)
    if len(groups) < 2:
        raise DataInvalid(
            f"the {len(rows)} training rows are of one group, so none can be held out",
            "collect rows that are not near-duplicates, or of more than one subject",
            code="no_train_rows",
        )
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    chosen = _choose(order, {group: len(members) for group, members in groups.items()}, share, enough)
    learn = tuple(row for group in order if group not in chosen for row in groups[group])
    return learn, tuple(row for group in order if group in chosen for row in groups[group])


def _choose(order: list[str], sizes: dict[str, int], share: float, enough: int) -> set[str]:
    chosen: set[str] = set()
    held, total = 0, sum(sizes.values())
    most = min(2 * share, (1 + share) / 2) * total
    for group in order:
        if held >= min(share * total, enough):
            break
        if held + sizes[group] <= max(1.0, most):
            chosen.add(group)
            held += sizes[group]
    return chosen or {min(order, key=lambda group: sizes[group])}


#: Texts longer than this share of all texts are not shown.
_SHOWN_LENGTHS = 0.95

Ways = tuple[Literal["words", "vectors"], ...]


def make_index(context: RungContext, entries: Sequence[Entry]) -> Digest:
    """The stored index of ``entries``, with their vectors where the plan names an encoder.

    Equal entries and an equal encoder give an equal index, so it is made once: what was stored is kept by what it was made of, for all
    rungs, base models and runs of the tenant. One whose bytes are gone is made anew.
    """
    kept = context.indexes / f"{_made_of(context, entries)}.txt"
    if (known := _known(context, kept)) is not None:
        return known
    stored = _stored(context, entries)
    kept.parent.mkdir(parents=True, exist_ok=True)
    new = kept.with_suffix(f".{os.getpid()}.part")
    new.write_text(stored, encoding="ascii")
    new.replace(kept)
    return stored


def _known(context: RungContext, kept: Path) -> Digest | None:
    """The index that ``kept`` remembers, where it is whole. It is put again, which is free, so that it counts as this step's work too."""
    try:
        return context.artifacts.put_tree(context.artifacts.get_tree(kept.read_text(encoding="ascii")))
    except (FileNotFoundError, NotFound, Corrupt):
        return None


def _made_of(context: RungContext, entries: Sequence[Entry]) -> str:
    """Name of what an index is made of, without words: entries in their order, and the encoder that reads them."""
    hashed = hashlib.sha256(f"{context.plan.encoder}\n".encode())
    for entry in entries:
        hashed.update(canonical_json(entry) + b"\n")
    return hashed.hexdigest()


def _stored(context: RungContext, entries: Sequence[Entry]) -> Digest:
    vectors = None
    if context.encoder_folder is not None:
        context.progress(f"reading {len(entries)} entries for the index")
        texts = [f"{entry.title} {entry.text}".strip() for entry in entries]
        vectors = context.encoder().embed(
            context.encoder_folder, texts, purpose=("text" if any(entry.target for entry in entries) else "passage")
        )
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), entries, vectors)
        return context.artifacts.put_tree(Path(folder))


def as_examples(rows: Sequence[Row]) -> list[Entry]:
    """Training rows as entries with their answers; the longest twentieth is left out: shown together they would fill the context."""
    ordered = sorted(rows, key=lambda row: row.id)
    longest = sorted(len(row.text) for row in ordered)[int(_SHOWN_LENGTHS * (len(ordered) - 1))] if ordered else 0
    ordered = [row for row in ordered if len(row.text) <= longest]
    return [Entry(id=row.id, text=last_user_turn(row.text), target=row.answer, access=(EVERYONE,)) for row in ordered]


def as_passages(context: RungContext) -> list[Entry]:
    """The tenant's documents as passages, each under its document's access list."""
    return [passage for document in context.documents for passage in passages_of(document)]


def retrieval_of(context: RungContext, what: Literal["examples", "passages"], entries: Sequence[Entry]) -> Retrieval:
    """The retrieval of a rung that shows ``plan.shots`` entries beside the text: as the release finds them that the plan names, else by
    words and by vectors where there is an encoder."""
    plan, index = context.plan, make_index(context, entries)
    if plan.ranker is None:
        return Retrieval(
            what=what,
            ways=(("words",) if context.encoder_folder is None else ("words", "vectors")),
            count=plan.shots,
            index=index,
            encoder=plan.encoder,
        )
    return Retrieval(
        what=what,
        ways=plan.ranker.ways,
        count=plan.shots,
        index=index,
        encoder=plan.ranker.encoder,
        tuned=plan.ranker.tuned,
        reranker=plan.ranker.reranker,
        depth=plan.ranker.depth,
        release=plan.ranker.release,
    )


def local_retrieval(spec: Retrieval, store: ArtifactStore) -> LocalRetrieval:
    """A retrieval with its parts in verified folders. Raises NotFound, Corrupt."""

    def folder(digest: Digest | None) -> str | None:
        return str(store.get_tree(digest)) if digest else None

    return LocalRetrieval(
        spec=spec,
        index=str(store.get_tree(spec.index)),
        encoder=folder(spec.encoder),
        tuned=folder(spec.tuned),
        reranker=folder(spec.reranker),
    )
