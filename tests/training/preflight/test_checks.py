"""The doctor: each fault that it names is planted, and a job without faults has none."""

from __future__ import annotations

import pytest

from support.preflight import examined, only
from support.training_samples import ALL_LINEAR, MakeJob
from tailorbird.domain.plan import LoraSettings, PreflightSeverity
from tailorbird.training.methods import METHODS


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_sound_job_has_no_findings(method: str, make_job: MakeJob) -> None:
    job = make_job(method)
    found = examined(job)
    assert found.findings == ()
    assert found.measured["rows"] == 30
    assert found.measured["longest_row"] >= max(len(row) for row in found.first_batch)


def test_the_first_batch_is_shown_token_by_token_with_its_mask(make_job: MakeJob) -> None:
    job = make_job(batch_size=4)
    batch = examined(job).first_batch
    assert len(batch) == 4
    by_text = {example.text: example.target for example in job.train}
    for row in batch:
        read, learned = ("".join(token.text for token in row if token.learned is side) for side in (False, True))
        text = next(text for text in by_text if f"user\n{text}<|im_end|>" in read)
        assert learned == by_text[text] + "<|im_end|>"
        assert [token.learned for token in row] == sorted(token.learned for token in row)
        assert [token.text for token in row if token.control][-1] == "<|im_end|>" == row[-1].text
        assert row[0].control
        assert row[0].id == row[-1].id - 1
        assert not all(token.control for token in row)


@pytest.mark.parametrize(
    ("lora", "code", "severity"),
    [
        (LoraSettings(rank=4, alpha=8, targets=("q_proj", "qate_proj")), "adapter_invalid", PreflightSeverity.BLOCKING),
        (LoraSettings(rank=33, alpha=8, targets=ALL_LINEAR), "adapter_invalid", PreflightSeverity.BLOCKING),
        (LoraSettings(rank=4, alpha=8, targets=()), "adapter_invalid", PreflightSeverity.BLOCKING),
    ],
)
def test_adapters_that_could_not_be_served_or_trained(
    lora: LoraSettings, code: str, severity: PreflightSeverity, make_job: MakeJob
) -> None:
    """vllm#9280, vllm#6983, unsloth#1191: found after the training was paid for."""
    finding = examined(make_job(lora=lora)).findings[0]
    assert (finding.code, finding.severity) == (code, severity)


def test_a_rank_beyond_vllm_is_a_warning(make_job: MakeJob) -> None:
    job = make_job(lora=LoraSettings(rank=1024, alpha=8, targets=ALL_LINEAR))
    assert {finding.code for finding in examined(job).findings} == {"rank_unservable", "adapter_invalid"}


def test_rows_without_reasoning_for_a_model_that_is_to_reason(make_job: MakeJob) -> None:
    thinks = make_job().prompt.model_copy(update={"thinking": True})
    job = make_job(prompt=thinks)
    assert only(job, "reasoning_missing", PreflightSeverity.WARNING).what.startswith("22 of 22 rows")
    reasoned = tuple(one.model_copy(update={"target": f"<think>hm</think>{one.target}"}) for one in job.train)
    found = examined(make_job(prompt=thinks, train=reasoned))
    assert "reasoning_missing" not in {finding.code for finding in found.findings}
    learned = ["".join(token.text for token in row if token.learned) for row in found.first_batch]
    assert all(text.startswith("<think>\nhm\n</think>\n\n") and text.endswith("<|im_end|>") for text in learned)
