"""Runs that ended without a release for what answering took on their machine, or with a rung that failed, and the runs that repeat them on
the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.evidence import GateResult, Verdict
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.runs.run_queries import RunReport, report_of


def fingerprint_of(work: UnitOfWork, inputs: Mapping[str, Any], *, again: bool) -> Digest:
    """Fingerprint of the newest run on ``inputs``, or of the first; with ``again``, of the one that repeats the newest, where that ended
    without a release for what answering took, or a rung of it failed.

    Raises InvalidInput: it ended for something else, which the same inputs would lead to once more.
    """
    known = list(_runs(work, inputs))
    if not known:
        return _fingerprint(inputs, 0)
    newest = known[-1]
    if not again or newest.state is not RunState.NO_RELEASE:
        return newest.fingerprint
    report = report_of(work, newest)
    if not _failed_in_part(report) and not _depends_on_machine(work, report):
        raise InvalidInput(
            f"run {newest.id} ended without a release for more than what answering took on its machine: it would end the same way",
            f"what could lead to a release: tailorbird runs show {newest.id}",
            code="run_not_repeated",
        )
    return _fingerprint(inputs, len(known))


def id_of(fingerprint: Digest) -> str:
    """The id of the run with ``fingerprint``."""
    return fingerprint.removeprefix("sha256:")[:12]


def _runs(work: UnitOfWork, inputs: Mapping[str, Any]) -> Iterator[Run]:
    """The run on ``inputs``, then those that repeat it, oldest first."""
    for number in count():
        try:
            yield work.runs.get(id_of(_fingerprint(inputs, number)))
        except NotFound:
            return


def _fingerprint(inputs: Mapping[str, Any], number: int) -> Digest:
    return digest_of(dict(inputs) | ({"again": number} if number else {}))


def _failed_in_part(report: RunReport) -> bool:
    """True where a rung broke off, whose server or machine may do better another time."""
    return report.ladder is not None and any(refusal.failed for refusal in report.ladder.refused)


def _depends_on_machine(work: UnitOfWork, report: RunReport) -> bool:
    """True where a candidate kept all that was asked but limits on what answering takes, on dev or at the sealed test."""
    limits = report.objective.limits.serving.keys()
    gates = [climb.gate for climb in report.ladder.measured] if report.ladder else []
    gates += [work.records.get(GateResult, look.gate) for look in report.looks]
    unproven = [{each.name for each in gate.findings if each.verdict is not Verdict.PASS} for gate in gates]
    return any(names and names <= limits for names in unproven)
