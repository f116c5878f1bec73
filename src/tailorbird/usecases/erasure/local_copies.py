"""Local copies of what erasures destroyed: removed where the erasure is carried out, and on every other machine as it learns of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from uuid import uuid4

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.erasure import Certificate
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import FINISHED, RunState
from tailorbird.domain.value import Digest
from tailorbird.system.files import private_folder, remove_folder
from tailorbird.usecases.anchored_rows import anchored_erasures
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.snapshots.amendments import certificates_of
from tailorbird.usecases.steps.transitions import step_folder


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
