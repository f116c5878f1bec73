"""Places that may hold a data subject's data: folders of the workspace, tables of the record, and what lies outside.

Every folder of a workspace and every table is named in ``PLACES``; tests fail for one that is not. A certificate lists them all, with what
the erasure did about each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from uuid import uuid4

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.erasure import Certificate, PlaceTreated, Treatment
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import FINISHED, RunState
from tailorbird.domain.value import Digest
from tailorbird.system.files import private_folder, remove_folder
from tailorbird.usecases.anchored_rows import anchored_erasures
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.snapshots.snapshot_queries import certificates_of
from tailorbird.usecases.steps.transitions import step_folder


@dataclass(frozen=True)
class DataPlace:
    """One place. ``folders`` are files and folders of the workspace, by patterns; ``tables`` those of the record. ``by_name`` says that its
    texts are searched for the person's name."""

    name: str
    treatment: Treatment
    how: str
    folders: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    by_name: bool = False


_SEARCHED, _CLEARED, _NO_DATA, _NOT_SEARCHED = Treatment.SEARCHED, Treatment.CLEARED, Treatment.NO_DATA, Treatment.NOT_SEARCHED

#: How texts are searched, said of each place where they are.
_BY_TEXTS = "texts of fewer than eight words are known again only where nothing else is said"
_BY_NAME = f"; searched for the name as it was given, as words of their own; {_BY_TEXTS}"
_NOT_BY_NAME = f"; NOT searched for the person's name, which is too short; {_BY_TEXTS}"

PLACES = (
    DataPlace(
        "artifacts",
        _SEARCHED,
        "rows and documents of snapshots, results with texts, indexes: destroyed, in the folder or the object store (there without earlier "
        "versions, where the bucket keeps any); bytes that another tenant has stored as its own stay that tenant's",
        folders=("artifacts",),
        tables=("stored",),
    ),
    DataPlace(
        "uploads",
        _SEARCHED,
        "uploaded files, submitted or not, and uploads under way: searched for the name and for texts of the person, and destroyed; files "
        "that are neither text nor table are listed as unread",
        folders=("uploads",),
        by_name=True,
    ),
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
        "training checkpoints, trained weights and logs of the runs that were reached, vectors of all runs: removed, as the caches are",
        folders=("runs",),
    ),
    DataPlace(
        "indexes and annotations",
        _CLEARED,
        "which indexes the tenant stored, and labels of teachers that were not handed over yet: removed, as the caches are",
        folders=("indexes", "annotations"),
    ),
    DataPlace(
        "prompts and label reviews",
        _SEARCHED,
        "prompts with demonstrations that no release needs, logs of searches that tried such prompts, answers on review "
        "sheets, reasons of reviewers: deleted",
        tables=("records", "judgements", "model_reviews"),
        by_name=True,
    ),
    DataPlace(
        "requests",
        _SEARCHED,
        "kept words, labels, the answer queue, users, sketches and predictions of the person's requests: deleted",
        tables=("contents", "feedback", "reviews", "requests"),
        by_name=True,
    ),
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
                "key_usage",
                "log_entries",
            ),
            *("log_frontier", "log_nodes", "looks", "rollouts", "runs", "secrets", "sessions", "signals", "steps", "tenants", "time_floor"),
            "usage",
        ),
    ),
    DataPlace(
        "keys, settings and base models",
        _NO_DATA,
        "what is the installation's own",
        folders=("keys", "log.sealed", "settings.yaml", "permissions", "shipping", "models", ".probe-*"),
    ),
    DataPlace("sources", _NOT_SEARCHED, "files, storages and data sets that objectives name are their owner's"),
    DataPlace("backups", _NOT_SEARCHED, "a backup made before the erasure holds what it held; after a restore, erase again"),
    DataPlace("exports", _NOT_SEARCHED, "exported models, reports, evidence and certificates that were written elsewhere"),
    DataPlace("outside systems", _NOT_SEARCHED, "other engines, trackers, receivers of alerts, logs, snapshots of disks, swap space"),
)


def treated(*, name_looked_for: bool = True) -> tuple[PlaceTreated, ...]:
    """All places, as a certificate lists them."""
    how = _BY_NAME if name_looked_for else _NOT_BY_NAME
    return tuple(
        PlaceTreated(name=place.name, treatment=place.treatment, how=place.how + (how if place.by_name else "")) for place in PLACES
    )


def clear_copies(deps: Dependencies, tenant: str, certificate: Certificate) -> None:
    """Removes this machine's copies of what the certificate says was destroyed, and working files made from it; once more where it was done
    before. Raises Unavailable."""
    with _removable():
        _clear(deps.for_tenant(tenant), tenant, certificate)


def clear_run(deps: Dependencies, run: str) -> None:
    """Removes this machine's working files of a run. Raises Unavailable."""
    with _removable():
        for folder in filter(None, (deps.runs / run, deps.scratch(run))):
            remove_folder(folder)


def clear_step(deps: Dependencies, run: str, step: str) -> None:
    """Removes this machine's working files of a step that is committed, as the checkpoints of a training: what it made is an artifact.
    What cannot be removed takes space and is no fault of the step; it goes when the run's folder goes."""
    for folder in filter(None, (deps.runs / run, deps.scratch(run))):
        with suppress(OSError):
            remove_folder(folder / step_folder(step))


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


def _clear(deps: Dependencies, tenant: str, certificate: Certificate) -> None:
    """A run that somebody has taken up again since then keeps what it has made since then."""
    for digest in certificate.purged:
        deps.artifacts.forget_copies(digest)
    for folder in (deps.indexes(tenant), deps.annotations(tenant)):
        remove_folder(folder)
    with deps.ledger.work(tenant, write=False) as work:
        runs, releases = work.runs.all(), [release.digest for release in work.releases.all()]
    for run in runs:
        ended = run.id in certificate.reach.runs and run.state in (*FINISHED, RunState.CANCELLED, RunState.FAILED)
        places = [deps.runs / run.id, deps.scratch(run.id)] if ended else [deps.vectors(run.id)]
        for folder in filter(None, places):
            remove_folder(folder)
    for release in releases:
        deps.reference(release).unlink(missing_ok=True)


def follow_erasures(deps: Dependencies) -> int:
    """Removes this machine's copies of what erasures destroyed elsewhere; how many certificates that were. Raises Unavailable."""
    place, followed = _followed_file(deps), _followed(deps)
    count = 0
    for tenant, certificate, digest in _certificates(deps):
        if digest not in followed:
            clear_copies(deps, tenant, certificate)
            followed.add(digest)
            count += 1
    if count:
        private_folder(place.parent)
        partial = place.with_suffix(f".{uuid4().hex}.partial")
        partial.write_text(json.dumps(sorted(followed)), encoding="utf-8")
        partial.replace(place)
    return count


def _followed_file(deps: Dependencies) -> Path:
    return deps.workspace / "erasures.json"


def _followed(deps: Dependencies) -> set[Digest]:
    """Certificates that were carried out here. A file that cannot be read is as none: they are carried out again."""
    with suppress(OSError, ValueError):
        return set(json.loads(_followed_file(deps).read_text(encoding="utf-8")))
    return set()


def _certificates(deps: Dependencies) -> list[tuple[str, Certificate, Digest]]:

    def made(tenant: str) -> list[tuple[str, Certificate, Digest]]:
        with deps.ledger.work(tenant, write=False) as work:
            certificates = [certificate for erasure in anchored_erasures(work) for certificate in certificates_of(work, erasure)]
        return [(tenant, certificate, digest_of(certificate)) for certificate in certificates]

    return list(chain.from_iterable(for_each_tenant(deps, made).found.values()))
