"""Examined training jobs, for the tests of preflight checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tailorbird.domain.plan import Examination, PreflightFinding, PreflightSeverity
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer

ChangeBase = Callable[..., Path]


def examined(job: TrainingJob) -> Examination:
    found = open_trainer().examine(job)
    assert all(finding.what and finding.remedy for finding in found.findings)
    assert not job.workspace.exists()
    return found


def only(job: TrainingJob, code: str, severity: PreflightSeverity = PreflightSeverity.BLOCKING) -> PreflightFinding:
    findings = examined(job).findings
    assert [(finding.code, finding.severity) for finding in findings] == [(code, severity)]
    return findings[0]
