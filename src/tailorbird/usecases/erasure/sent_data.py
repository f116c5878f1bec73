"""Data of a person that were sent to hosted models: what cannot be called back, as obligations to ask for its deletion there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import date, timedelta
from typing import NamedTuple

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import name_and_stage
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.erasure import Obligation, ObligationKind
from tailorbird.domain.errors import NotFound
from tailorbird.domain.objective import Objective
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.endpoints import TEACHER, endpoint_events
from tailorbird.usecases.erasure.lineage import Lineage
from tailorbird.usecases.erasure.obligations import LEARNED_DAYS

#: Runs and requests that one duty names, at most.
_NAMED = 20


class _Receiver(NamedTuple):
    """Whom something was sent to: the endpoint's name and address then, and where the data went, as far as the log tells."""

    name: str
    url: str
    region: str = ""


def told_processors(work: UnitOfWork, traced: Lineage, requests: Collection[str], today: date) -> tuple[Obligation, ...]:
    """A duty for each hosted model that rows of ``traced`` runs, texts beside them, passages of the person's documents, or the person's
    ``requests`` may have been sent to (Article 19 GDPR)."""
    sent: dict[tuple[str, str], list[str]] = defaultdict(list)
    regions: dict[tuple[str, str], str] = {}
    for receiver, what in (*_by_log(work, traced), *_by_requests(work, requests), *_by_passages(traced)):
        sent[receiver.name, receiver.url].append(what)
        regions[receiver.name, receiver.url] = receiver.region or regions.get((receiver.name, receiver.url), "")
    return tuple(
        Obligation(
            kind=ObligationKind.TELL_PROCESSOR,
            what=f"{name} ({url or 'its address is not on record'})",
            due=today + timedelta(days=LEARNED_DAYS),
            why=_why(regions[name, url], list(dict.fromkeys(found))),
        )
        for (name, url), found in sorted(sent.items())
    )


def _why(region: str, found: list[str]) -> str:
    named = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    where = f", in {region}" if region else ""
    return f"the person's words may have been sent there{where} ({named}); that cannot be called back: ask for their deletion there"


def _by_log(work: UnitOfWork, traced: Lineage) -> Iterator[tuple[_Receiver, str]]:
    """What the log says was sent: by runs over the person's rows, to whichever endpoint (the objective's, or that of a release beside which
    a candidate was measured); and texts that were labelled for the same objectives, of which nobody recorded whose they are."""
    runs, objectives = {run.id for run in traced.runs}, {run.objective_name for run in traced.runs}
    labelling = _labelling(work, traced)
    addresses: dict[str, str] = {}
    for event in endpoint_events(work):
        if event.kind == "endpoint.added":
            addresses[str(event.data.get("name"))] = str(event.data.get("url", ""))
        if event.kind != "data.sent":
            continue
        receiver = _Receiver(event.subject, str(event.data.get("url", "")), str(event.data.get("region", "")))
        if event.data.get("run") in runs:
            yield receiver, f"{event.data.get('split')} of run {event.data.get('run')}"
        elif event.data.get("split") == TEACHER and event.data.get("objective") in objectives:
            yield receiver, f"texts to be labelled for {event.data.get('objective')}"
    for name, path in labelling:
        yield _Receiver(name, addresses.get(name, "")), f"{path}, which it has labelled"


def _labelling(work: UnitOfWork, traced: Lineage) -> list[tuple[str, str]]:
    """Endpoints that have labelled rows of the runs, by what their objectives say, and which."""
    sources = [source for run in traced.runs for source in work.records.get(Objective, run.objective).data]
    return [(source.source.generated.endpoint, source.path) for source in sources if source.source.generated is not None]


def _by_passages(traced: Lineage) -> Iterator[tuple[_Receiver, str]]:
    """Releases that may have shown passages of the person's documents to a hosted model, with whoever's request."""
    for release in traced.releases:
        content = release.content
        if content.hosted is not None and content.retrieval is not None and content.retrieval.index in traced.indexes:
            yield _Receiver(content.hosted.endpoint, content.hosted.url), f"passages that release {short(release.digest)} quotes"


def _by_requests(work: UnitOfWork, requests: Collection[str]) -> Iterator[tuple[_Receiver, str]]:
    """The person's requests that a hosted release was asked, or may have been before another answered."""
    hosted: dict[str, list[HostedModel]] = defaultdict(list)
    for release in work.releases.all():
        if release.content.hosted is not None:
            hosted[release.content.objective_name].append(release.content.hosted)
    for request in sorted(requests) if hosted else ():
        with suppress(NotFound):
            for model in hosted.get(name_and_stage(work.requests.get(request).alias)[0], ()):
                yield _Receiver(model.endpoint, model.url), f"request {request}"
