"""Teachers: endpoints that label rows or write instructions, and whether they were shown the sealed test of what learns from them.

What counts is the server and the model, not the name under which an admin registered them: an endpoint that is registered anew, or a second
one of the same provider, has seen what the first has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import Endpoint, is_same_model, server_of
from tailorbird.domain.errors import Conflict
from tailorbird.domain.event import Event
from tailorbird.domain.objective import GeneratedBy
from tailorbird.domain.value import Digest
from tailorbird.objective import Fault, ObjectiveFile, raise_faults
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.endpoints import endpoint_events

#: The split under which it is told that texts were sent to be labelled.
TEACHER = "teacher"


def demand_unshown(work: UnitOfWork, objective: str, endpoint: Endpoint, model: str) -> None:
    """Raises Conflict (``teacher_saw_test``) where the server of ``endpoint``, or the same model at another, was shown the objective's
    sealed test, under whatever name."""
    if (when := _shown_on(work, objective, endpoint, model)) is not None:
        raise Conflict(
            f"{model} at the endpoint {endpoint.name} was shown the sealed test of {objective} on {when}",
            "let another model of another server label the texts: what it learned of the test would be learned from here",
            code="teacher_saw_test",
        )


def demand_proposer_unshown(work: UnitOfWork, objective: str, endpoint: Endpoint, model: str) -> None:
    """The same of who writes instructions. Raises Conflict (``proposer_saw_test``)."""
    if (when := _shown_on(work, objective, endpoint, model)) is not None:
        raise Conflict(
            f"{model} at the endpoint {endpoint.name} was shown the sealed test of {objective} on {when}: it writes no instruction for it",
            "name another model of another server under `prompt_search.proposer`; without one the model that answers writes",
            code="proposer_saw_test",
        )


def _shown_on(work: UnitOfWork, objective: str, endpoint: Endpoint, model: str) -> str | None:
    """The day on which the objective's sealed test was sent to that server or model first; None where it was not."""
    showings = _showings(endpoint_events(work), objective)
    return next((event.at.date().isoformat() for event in showings if _is_of(event, {server_of(endpoint.url)}, model)), None)


def record_annotation(
    work: UnitOfWork, actor: str, endpoint: Endpoint, facts: Facts, rows: Iterable[tuple[str, str]], at: datetime
) -> None:
    """Writes who has labelled rows, where and when, and which rows they are, as a digest."""
    made = tuple(rows)
    told: Facts = {"url": endpoint.url, "rows": len(made), "digest": rows_digest(made), "at": _second(at)}
    record(work, "data.annotated", actor, endpoint.name, at, told | facts)


def rows_digest(rows: Iterable[tuple[str, str]]) -> Digest:
    """Digest of labelled texts, in any order."""
    return digest_of(sorted(rows))


def demand_teachers_unshown(work: UnitOfWork, file: ObjectiveFile) -> None:
    """Raises ObjectiveInvalid (``teacher_saw_test``) at the line of rows of an endpoint that was shown the objective's sealed test, by all
    addresses that it ever had.

    What an objective says of when they were labelled is believed where the log tells of it: ``data annotate`` at that time, before.
    """
    sources = [(index, source, made) for index, source in enumerate(file.objective.data) if (made := source.source.generated) is not None]
    events = endpoint_events(work) if sources else []
    for index, source, made in sources:
        servers = {server_of(url) for event in events if (url := _address_under(event, made.endpoint))}
        shown = next((event for event in _showings(events, file.objective.name) if _is_of(event, servers, made.model)), None)
        if shown is None or _is_labelled(events[: events.index(shown)], file.objective.name, made):
            continue
        who = f"{made.model} at the endpoint {made.endpoint}"
        what = f"{who} was shown the sealed test of {file.objective.name}, and has labelled {source.path}"
        hint = (
            "leave the source out: what it learned of the test would be learned from here; labels of before count where "
            "`tailorbird data annotate` gave them, with the time that it printed"
        )
        raise_faults(file.source, [Fault(file.line_of(f"data.{index}.source.generated"), what, hint, "teacher_saw_test")])


def _is_labelled(events: Iterable[Event], objective: str, made: GeneratedBy) -> bool:
    """True where ``events`` tell of that labelling. The order of the log counts, not what clocks said."""
    wanted = ("data.annotated", made.endpoint, objective, _second(made.at))
    return any(
        (event.kind, event.subject, event.data.get("objective"), event.data.get("at")) == wanted and made.model in _models_of(event)
        for event in events
    )


def _models_of(event: Event) -> set[str]:
    """Names of the model that has labelled: the one that was asked for, and those that its server gave."""
    return {str(event.data.get("model", "")), *str(event.data.get("reported", "")).split(", ")} - {""}


def _second(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _showings(events: Iterable[Event], objective: str) -> Iterator[Event]:
    """Where the objective's sealed test was sent."""
    wanted = (Split.TEST.value, objective)
    return (event for event in events if event.kind == "data.sent" and (event.data.get("split"), event.data.get("objective")) == wanted)


def _is_of(event: Event, servers: set[str], model: str) -> bool:
    return server_of(str(event.data.get("url", ""))) in servers or is_same_model(str(event.data.get("model", "")), model)


def _address_under(event: Event, name: str) -> str | None:
    """The address that the endpoint ``name`` had by an event of the log."""
    named = event.data.get("name") if event.kind == "endpoint.added" else event.subject
    return str(event.data.get("url", "")) if named == name else None
