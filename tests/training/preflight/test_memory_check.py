"""Memory check: a row or batch too long for the free memory is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.model_families import write_family
from support.preflight import examined, only
from support.training_families import job_of
from support.training_samples import MakeJob
from tailorbird.domain.preflight import PreflightSeverity
from tailorbird.training.preflight import memory_check
from tailorbird.training.preflight.context import read_subject


def test_memory_that_does_not_hold_the_longest_row_or_batch(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#739: "always stops at the same step", the one with the longest row."""
    need = examined(make_job(batch_size=22)).measured["memory_needed_gib"]
    monkeypatch.setattr(memory_check, "free_gib", lambda device: need * 0.5)
    assert only(make_job(batch_size=22), "memory_too_small").remedy
    monkeypatch.setattr(memory_check, "free_gib", lambda device: need * 0.98)
    assert only(make_job(batch_size=22), "memory_tight", PreflightSeverity.WARNING).remedy


def test_logits_that_a_model_makes_itself_count_for_every_answer_token(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_check, "_OWN_LOGIT", 2**30)
    capped = read_subject(job_of(write_family(tmp_path / "gemma2", "gemma2"), tmp_path / "work"))
    needed = memory_check.fits(capped)[1]["memory_needed_gib"]
    assert needed > 320 * max(row.learned for row in capped.rows)
    assert memory_check.fits(read_subject(make_job()))[1]["memory_needed_gib"] < 320


def test_free_memory_is_that_of_the_machine_or_its_container() -> None:
    assert 0.05 < memory_check.free_gib(torch.device("cpu")) < 4096
