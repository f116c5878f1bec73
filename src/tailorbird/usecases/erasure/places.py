"""Places that may hold a data subject's data: folders of the workspace, tables of the record, and what lies outside.

Every folder of a workspace and every table is named in ``PLACES``; tests fail for one that is not. A certificate lists them all, with what
the erasure did about each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar
from uuid import uuid4

from tailorbird import data
from tailorbird.chat.conversations import as_lines, shown_answer, unfold_turns
from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.crypto.merkle import key_of
from tailorbird.data import salt_of
from tailorbird.data.pseudonyms import spellings
from tailorbird.domain.dataset import JOINED
from tailorbird.domain.deployment import FORGOTTEN
from tailorbird.domain.erasure import Certificate, ErasedAnswers, ErasedWords, PlaceTreated, Treatment
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.feedback import Feedback, KeptWords
from tailorbird.domain.label_review import Judgement, ReviewSheet
from tailorbird.domain.run import FINISHED, RunState
from tailorbird.domain.value import Digest
from tailorbird.ledger import UnitOfWork
from tailorbird.serving.alias_routes import experiment_unit
from tailorbird.system.files import private_folder, remove_folder
from tailorbird.usecases.anchored_rows import anchored_erasures, anchored_records
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.erasure.lineage import Found
from tailorbird.usecases.erasure.text_finder import TextFinder, is_long
from tailorbird.usecases.snapshots import certificates_of
from tailorbird.usecases.storage_quota import Upload, readable_upload, uploads_folder

#: Requests that are read in one transaction.
_PAGE = 1000
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")

T = TypeVar("T", KeptWords, Feedback)

#: Requests that are a person's, and why: sent for them, or their kept words or labels hold something of them.
Reasons = Mapping[str, Literal["sent", "held"]]

#: How texts are searched, said of each place where they are.
_BY_TEXTS = "texts of fewer than eight words are known again only where nothing else is said"
_BY_NAME = f"; searched for the name as it was given, as words of their own; {_BY_TEXTS}"
_NOT_BY_NAME = f"; NOT searched for the person's name, which is too short; {_BY_TEXTS}"


def texts_of(found: Found, *, answers: bool) -> list[str]:
    """What rows and documents say, each text once. ``answers`` says that targets of rows are words, and no labels."""
    texts = dict[str, None]()
    for held in found.values():
        for row in held.rows:
            texts[row.text] = None
            turns = unfold_turns(row.text)
            if turns[0].content != row.text:  # a conversation as requests keep it, and each longer turn of the user or of a tool
                texts[as_lines(row.text)] = None
                asked = [turn.content for turn in turns if turn.role in ("user", "tool")]
                texts |= dict.fromkeys(text for text in asked if is_long(text) or len(turns) == 1)
            if JOINED in row.provenance.transforms:
                texts |= dict.fromkeys(filter(is_long, row.text.split("\n\n")))
            if answers:
                texts |= dict.fromkeys((row.target, row.answer, shown_answer(row.answer)))
        # What was answered in the middle of a conversation, where it is long enough to be of that one alone.
        for item in held.answers if answers else ():
            texts |= dict.fromkeys(filter(is_long, (item.target, item.answer, shown_answer(item.answer))))
        # Whole, and sentence by sentence: an answer quotes a sentence. A short one may be anybody's.
        for document in held.documents:
            texts |= dict.fromkeys((document.text, *filter(is_long, _SENTENCE.split(document.text.strip()))))
    return list(texts)


@dataclass(frozen=True)
class DataPlace:
    """One place. ``folders`` are files and folders of the workspace, by patterns; ``tables`` those of the record. ``by_name`` says that its
    texts are searched for the person's name. Where texts are searched a place can ``find`` what is the person's, and ``remove`` it."""

    name: str
    treatment: Treatment
    how: str
    folders: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    by_name: bool = False

    def describe(self, *, name_looked_for: bool) -> PlaceTreated:
        """As a certificate lists it."""
        how = _BY_NAME if name_looked_for else _NOT_BY_NAME
        return PlaceTreated(name=self.name, treatment=self.treatment, how=self.how + (how if self.by_name else ""))


class UploadsFound(NamedTuple):
    """Uploaded files that hold something of the person, those that could not be searched, and how many uploads under way did."""

    theirs: frozenset[Digest] = frozenset()
    unread: frozenset[Digest] = frozenset()
    under_way: int = 0

    def __bool__(self) -> bool:
        return bool(self.theirs or self.under_way)


class UploadPlace(DataPlace):
    """Uploaded files."""

    def find(self, deps: Dependencies, tenant: str, quotes: TextFinder) -> UploadsFound:
        """Searches every file that the tenant has uploaded, whole or under way. Raises Corrupt, Unavailable.

        Those under way that hold something of the person are removed at once, and first: their sender is refused, and can send the file
        without the person. One that became whole before is found among the whole ones.
        """
        place, under_way = uploads_folder(deps, tenant), 0
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            with suppress(FileNotFoundError):  # it ended, or was broken off, meanwhile
                if any(path.is_file() and self._holds(path, quotes) for path in folder.rglob("*")):
                    remove_folder(folder)
                    under_way += 1
        theirs, unread = set[Digest](), set[Digest]()
        for digest in sorted(self.present(deps, tenant)):
            with readable_upload(deps, digest) as path:
                held = self._holds(path, quotes)
            if held is None:
                unread.add(digest)
            elif held:
                theirs.add(digest)
        return UploadsFound(frozenset(theirs), frozenset(unread), under_way)

    def remove(self, work: UnitOfWork, files: Set[Digest]) -> None:
        """The tenant has sent these no longer: they cannot be submitted."""
        work.records.forget(Upload, [digest_of(Upload(file=digest)) for digest in files])

    def present(self, deps: Dependencies, tenant: str) -> set[Digest]:
        """Files that the tenant has sent and that are still there."""
        with deps.ledger.work(tenant, write=False) as work:
            files, trees = self.sent(work), [run.inputs for run in work.runs.all() if run.inputs]
        files |= {digest for tree in trees if deps.artifacts.exists(tree) for digest in deps.artifacts.tree(tree).values()}
        return set(filter(deps.artifacts.exists, files))

    def sent(self, work: UnitOfWork) -> set[Digest]:
        """Files that the tenant has sent."""
        return {work.records.get(Upload, digest).file for digest in anchored_records(work, Upload)}

    def _holds(self, path: Path, quotes: TextFinder) -> bool | None:
        """None for a file that cannot be searched."""
        try:
            return any(quotes.held_by(text) for text in data.file_texts(path, "an uploaded file"))
        except DataInvalid:
            return None


class RequestPlace(DataPlace):
    """Kept words of requests and answers, feedback, and user hashes.

    A request is a person's when it was sent for them (the field ``user``, which is kept as a salted hash), when its kept words or a label
    that somebody gave hold what an erased row or document says, or when they name the person. Kept words go rather too often than too
    seldom: they are there for review, and for a while only.
    """

    def find(self, deps: Dependencies, tenant: str, subject: str, quotes: TextFinder) -> Reasons:
        """The requests that are the person's, under whatever version of an alias they were sent."""
        with deps.ledger.work(tenant, write=False) as work:
            versions = [version for alias in work.aliases.all(stage=None) for version in work.aliases.history(alias.name, alias.stage)]
            names = spellings(subject)
            sent = set(work.requests.of_units({experiment_unit(version, name) for version in versions for name in names}))
        held = set[str]()
        if quotes:
            contents = _pages(deps, tenant, lambda work, after: work.contents.page(after, _PAGE))
            held |= {one.request for one in contents if quotes.held_by(one.text) or quotes.held_by(one.answer)}
            labels = _pages(deps, tenant, lambda work, after: work.feedback.labels(after, _PAGE))
            held |= {one.request for one in labels if quotes.held_by(one.value)}
        return {request: "sent" if request in sent else "held" for request in sorted(sent | held)}

    def remove(self, work: UnitOfWork, tenant: str, reasons: Reasons, secret: bytes) -> tuple[ErasedWords, ...]:
        """Deletes the words, and returns what was deleted. Requests that hold nothing of the person any more are not named."""
        salt = salt_of(secret, f"{tenant} requests")
        kept = {request: content for request in reasons if (content := work.contents.get(request)) is not None}
        rows = {request: work.requests.get(request) for request in reasons}
        traced = {name for name, row in rows.items() if row.unit not in ("", FORGOTTEN) or row.sketch or row.prediction}
        work.contents.forget(kept)
        said, reviewed = set(work.feedback.forget(reasons)), set(work.reviews.forget(reasons))
        work.requests.forget(traced)
        named = {"kept": kept.keys(), "feedback": said, "review": reviewed, "trace": traced}
        erased = []
        for request, why in reasons.items():
            what = tuple(name for name, some in named.items() if request in some)
            key = key_of(salt, digest_bytes(kept[request].text.encode())).hex() if request in kept else ""
            erased.append(ErasedWords(request=request, what=what, why=why, key=key))
        return tuple(each for each in erased if each.what)


def _pages(deps: Dependencies, tenant: str, page: Callable[[UnitOfWork, str], Sequence[T]]) -> Iterator[T]:
    """All of a repository, a short transaction a page."""
    after = ""
    while True:
        with deps.ledger.work(tenant, write=False) as work:
            found = page(work, after)
        if not found:
            return
        yield from found
        after = found[-1].request


class ReviewAnswers(NamedTuple):
    """Numbers of a sheet's items whose answers must go, and judgements whose reasons must."""

    items: frozenset[int]
    reasons: tuple[Judgement, ...]


#: Sheets on which something is the person's, by the digest under which they are stored.
Sheets = Mapping[Digest, ReviewAnswers]


class ReviewPlace(DataPlace):
    """Sheets of label reviews, with the reasons of reviewers."""

    def find(self, work: UnitOfWork, rows: Collection[Digest], quotes: TextFinder) -> Sheets:
        """The sheets that show an answer to one of ``rows``, or one that ``quotes`` knows again; and those about which a reason does."""
        given: dict[Digest, list[Judgement]] = {}
        for release in work.releases.all():
            if release.dossier.review is not None:
                given.setdefault(release.dossier.review, []).extend(work.judgements.of(release.digest))
        found = {}
        for digest in anchored_records(work, ReviewSheet):
            sheet, theirs = work.records.get(ReviewSheet, digest), set[int]()
            for item in sheet.items:
                if item.item in rows or quotes.held_by(item.candidate) or quotes.held_by(item.other):
                    theirs.add(item.number)
            reasons = [one for one in given.get(sheet.stands_for or digest, ()) if one.reason]
            answers = ReviewAnswers(
                items=frozenset(item.number for item in sheet.open if item.number in theirs),
                reasons=tuple(one for one in reasons if one.number in theirs or quotes.held_by(one.reason)),
            )
            if answers.items or answers.reasons:
                found[digest] = answers
        return found

    def remove(self, work: UnitOfWork, sheets: Sheets) -> tuple[ErasedAnswers, ...]:
        """Replaces ``sheets``, empties the reasons, and returns what was deleted."""
        erased, empty = [], {"candidate": "", "other": "", "erased": True}
        for digest, answers in sheets.items():
            sheet = work.records.get(ReviewSheet, digest)
            signed, instead = sheet.stands_for or digest, digest
            if answers.items:
                items = tuple(item.model_copy(update=empty) if item.number in answers.items else item for item in sheet.items)
                instead = work.records.put(sheet.model_copy(update={"items": items, "stands_for": signed}))
                work.records.forget(ReviewSheet, [digest])
            reasons = work.judgements.forget_reasons(answers.reasons)
            erased.append(ErasedAnswers(sheet=signed, instead=instead, items=tuple(sorted(answers.items)), reasons=reasons))
        return tuple(erased)


def sheet_in(work: UnitOfWork, signed: Digest) -> ReviewSheet:
    """The sheet whose digest is ``signed``, or the one that stands for it. Raises NotFound."""
    known = anchored_records(work, ReviewSheet)
    if signed not in known:
        for sheet in (work.records.get(ReviewSheet, digest) for digest in known):
            if sheet.stands_for == signed:
                return sheet
    return work.records.get(ReviewSheet, signed)


_SEARCHED, _CLEARED, _NO_DATA, _NOT_SEARCHED = Treatment.SEARCHED, Treatment.CLEARED, Treatment.NO_DATA, Treatment.NOT_SEARCHED

UPLOADS = UploadPlace(
    "uploads",
    _SEARCHED,
    "uploaded files, submitted or not, and uploads under way: searched for the name and for texts of the person, and destroyed; files "
    "that are neither text nor table are listed as unread",
    folders=("uploads",),
    by_name=True,
)
REVIEWS = ReviewPlace(
    "prompts and label reviews",
    _SEARCHED,
    "prompts with demonstrations that no release needs, logs of searches that tried such prompts, answers on review "
    "sheets, reasons of reviewers: deleted",
    tables=("records", "judgements"),
    by_name=True,
)
REQUESTS = RequestPlace(
    "requests",
    _SEARCHED,
    "kept words, labels, the answer queue, users, sketches and predictions of the person's requests: deleted",
    tables=("contents", "feedback", "reviews", "requests"),
    by_name=True,
)
PLACES = (
    DataPlace(
        "artifacts",
        _SEARCHED,
        "rows and documents of snapshots, results with texts, indexes: destroyed, in the folder or the object store (there without earlier "
        "versions, where the bucket keeps any); bytes that another tenant has stored as its own stay that tenant's",
        folders=("artifacts",),
        tables=("stored",),
    ),
    UPLOADS,
    DataPlace(
        "caches",
        _CLEARED,
        "local copies of what was destroyed, and what production is compared with: removed on this machine; each other machine that runs "
        "tailorbird removes its own within ten minutes, or when it next starts",
        folders=("cache", "erasures.json"),
    ),
    DataPlace(
        "working folders",
        _CLEARED,
        "training checkpoints, trained weights and logs of the runs that were reached: removed, as the caches are",
        folders=("runs",),
    ),
    DataPlace(
        "indexes",
        _CLEARED,
        "which indexes the tenant stored: removed, as the caches are",
        folders=("indexes",),
    ),
    REVIEWS,
    REQUESTS,
    DataPlace(
        "decisions and splits", _SEARCHED, "what was decided about the rows, and their side: deleted", tables=("decisions", "splits")
    ),
    DataPlace(
        "releases",
        _NOT_SEARCHED,
        "a release is signed as a whole: demonstrations in its prompt stay in the record until the tenant is removed, and so do reasons of "
        "approvers; releases that hold or have learned something of the person are named, with the day by which they must go",
        tables=("releases", "approvals"),
    ),
    DataPlace(
        "engine memory",
        _NOT_SEARCHED,
        "weights, indexes and prompts leave memory with their release; keys and values of a request when others need the room",
    ),
    DataPlace(
        "the rest of the record",
        _NO_DATA,
        "names of identities, digests, numbers, and the keyed pseudonym by which the person stays left out",
        folders=("tailorbird.db*",),
        tables=(
            *(
                "alias_moves",
                "aliases",
                "anchor_nodes",
                "anchored_rows",
                "api_keys",
                "checkpoints",
                "data_keys",
                "erasures",
                "gateways",
                "identities",
                "log_entries",
            ),
            *("log_frontier", "log_nodes", "looks", "rollouts", "runs", "secrets", "sessions", "signals", "steps", "tenants"),
            "usage",
        ),
    ),
    DataPlace(
        "keys, settings and base models",
        _NO_DATA,
        "what is the installation's own",
        folders=("keys", "log.sealed", "settings.yaml", "shipping", "models", ".probe-*"),
    ),
    DataPlace("sources", _NOT_SEARCHED, "files, storages and data sets that objectives name are their owner's"),
    DataPlace("backups", _NOT_SEARCHED, "a backup made before the erasure holds what it held; after a restore, erase again"),
    DataPlace("exports", _NOT_SEARCHED, "exported models, reports, evidence and certificates that were written elsewhere"),
    DataPlace("outside systems", _NOT_SEARCHED, "other engines, trackers, receivers of alerts, logs, snapshots of disks, swap space"),
)


def treated(*, name_looked_for: bool = True) -> tuple[PlaceTreated, ...]:
    """All places, as a certificate lists them."""
    return tuple(place.describe(name_looked_for=name_looked_for) for place in PLACES)


def clear_copies(deps: Dependencies, tenant: str, certificate: Certificate) -> None:
    """Removes this machine's copies of what the certificate says was destroyed, and working files made from it; once more where it was done
    before. A run that somebody has taken up again since then keeps what it has made since then. Raises Unavailable."""
    deps = deps.for_tenant(tenant)
    with _removable():
        for digest in certificate.purged:
            deps.artifacts.forget_copies(digest)
        remove_folder(deps.indexes(tenant))
        with deps.ledger.work(tenant, write=False) as work:
            runs, releases = work.runs.all(), [release.digest for release in work.releases.all()]
        for run in runs:
            if run.id in certificate.reach.runs and run.state in (*FINISHED, RunState.CANCELLED, RunState.FAILED):
                clear_run(deps, run.id)
        for release in releases:
            deps.reference(release).unlink(missing_ok=True)


def clear_run(deps: Dependencies, run: str) -> None:
    """Removes this machine's working files of a run. Raises Unavailable."""
    with _removable():
        for folder in filter(None, (deps.runs / run, deps.scratch(run))):
            remove_folder(folder)


@contextmanager
def _removable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"copies of what is to be erased cannot be removed from the workspace: {error.strerror or type(error).__name__}",
            "give this user the right to write there, then run the same command again",
            code="erasure_copies",
        ) from error


def follow_erasures(deps: Dependencies) -> int:
    """Removes this machine's copies of what erasures destroyed elsewhere; how many certificates that were. Raises Unavailable."""
    place, followed, count = deps.workspace / "erasures.json", set[Digest](), 0
    with suppress(OSError, ValueError):  # a file that cannot be read is as none: the erasures are carried out again
        followed = set(json.loads(place.read_text(encoding="utf-8")))

    def made(tenant: str) -> list[Certificate]:
        with deps.ledger.work(tenant, write=False) as work:
            return [certificate for erasure in anchored_erasures(work) for certificate in certificates_of(work, erasure)]

    with deps.ledger.system(write=False) as system:
        names = system.tenants.with_erasures()
    for tenant, certificates in for_each_tenant(deps, made, names).found.items():
        for certificate in certificates:
            if (digest := digest_of(certificate)) not in followed:
                clear_copies(deps, tenant, certificate)
                followed.add(digest)
                count += 1
    if count:
        private_folder(place.parent)
        partial = place.with_suffix(f".{uuid4().hex}.partial")
        partial.write_text(json.dumps(sorted(followed)), encoding="utf-8")
        partial.replace(place)
    return count
