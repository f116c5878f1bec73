"""Data of a person that were sent to hosted models: what cannot be called back, as obligations to ask for its deletion there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import date, timedelta
from typing import NamedTuple

from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.erasure import Obligation, ObligationKind
from tailorbird.domain.errors import NotFound
from tailorbird.domain.objective import Objective
from tailorbird.ports.ledger import UnitOfWork
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
    """A duty for each hosted model that rows of ``traced`` runs, or the person's ``requests``, may have been sent to (Article 19 GDPR)."""
    sent: dict[tuple[str, str], list[str]] = defaultdict(list)
    regions: dict[tuple[str, str], str] = {}
    for receiver, what in (*_by_runs(work, traced), *_by_requests(work, requests)):
        sent[receiver.name, receiver.url].append(what)
        regions[receiver.name, receiver.url] = receiver.region or regions.get((receiver.name, receiver.url), "")
    return tuple(
        Obligation(
            kind=ObligationKind.TELL_PROCESSOR,
            what=f"{name} ({url})",
            due=today + timedelta(days=LEARNED_DAYS),
            why=_why(regions[name, url], list(dict.fromkeys(found))),
        )
        for (name, url), found in sorted(sent.items())
    )


def _why(region: str, found: list[str]) -> str:
    named = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    where = f", in {region}" if region else ""
    return f"the person's words may have been sent there{where} ({named}); that cannot be called back: ask for their deletion there"


def _by_runs(work: UnitOfWork, traced: Lineage) -> Iterator[tuple[_Receiver, str]]:
    """What the log says was sent by runs over the person's rows."""
    for run in traced.runs:
        hosted = work.records.get(Objective, run.objective).hosted
        for entry in work.events.about(hosted.endpoint) if hosted else ():
            event = entry.event
            if event.kind == "data.sent" and event.data.get("run") == run.id:
                receiver = _Receiver(event.subject, str(event.data.get("url", "")), str(event.data.get("region", "")))
                yield receiver, f"{event.data.get('split')} of run {run.id}"


def _by_requests(work: UnitOfWork, requests: Collection[str]) -> Iterator[tuple[_Receiver, str]]:
    """The person's requests that a hosted release was asked, or may have been before another answered."""
    hosted: dict[str, list[HostedModel]] = defaultdict(list)
    for release in work.releases.all():
        if release.content.hosted is not None:
            hosted[f"{release.content.tenant}/{release.content.objective_name}"].append(release.content.hosted)
    for request in sorted(requests) if hosted else ():
        with suppress(NotFound):
            for model in hosted.get(work.requests.get(request).alias, ()):
                yield _Receiver(model.endpoint, model.url), f"request {request}"
