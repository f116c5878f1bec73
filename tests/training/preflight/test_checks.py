"""The doctor: each fault that it names is planted, and a job without faults has none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.preflight import ChangeBase, examined, only
from support.training_samples import ALL_LINEAR, MakeJob
from tailorbird.domain.plan import LoraSettings
from tailorbird.domain.preflight import PreflightSeverity
from tailorbird.training.methods import methods


@pytest.mark.parametrize("method", sorted(methods()))
def test_a_sound_job_has_no_findings_and_is_examined_in_seconds(method: str, make_job: MakeJob) -> None:
    job = make_job(method)
    started = time.process_time()
    found = examined(job)
    assert time.process_time() - started < 15
    assert found.findings == ()
    assert found.measured["gradient_error"] < 1e-4
    assert found.measured["rows"] == 30
    assert found.measured["longest_row"] >= max(len(row) for row in found.first_batch)
    assert 0 < found.measured["memory_needed_gib"] < found.measured["memory_free_gib"]


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


def test_a_template_that_transformers_renders_otherwise(make_job: MakeJob, change_base: ChangeBase, tiny_base: Path) -> None:
    """unsloth#976: one template in training, another in the export."""
    ours = (tiny_base / "chat_template.jinja").read_text(encoding="utf-8")
    dated = ours + "{{ strftime_now('%Y') if strftime_now is defined else '' }}"
    assert "from character" in only(make_job(base=change_base(dated)), "template_differs", PreflightSeverity.WARNING).what


def test_a_second_template_in_the_tokenizer_config(make_job: MakeJob, change_base: ChangeBase) -> None:
    base = change_base(tokenizer_config={"chat_template": "{% for m in messages %}[INST]{{ m.content }}{% endfor %}"})
    assert "served by another template" in only(make_job(base=base), "template_twice", PreflightSeverity.WARNING).what


def test_a_template_that_rewrites_past_answers(make_job: MakeJob, change_base: ChangeBase, tiny_base: Path) -> None:
    template = (tiny_base / "chat_template.jinja").read_text(encoding="utf-8")
    cut = template.replace(
        "message['content'] +", "(message['content'][4:] if message['role'] == 'assistant' and not loop.last else message['content']) +"
    )
    assert only(make_job(base=change_base(cut)), "template_past_turn", PreflightSeverity.WARNING).remedy


@pytest.mark.parametrize(
    ("lora", "code", "severity"),
    [
        (LoraSettings(rank=4, alpha=8, targets=("q_proj", "embed_tokens")), "target_unservable", PreflightSeverity.BLOCKING),
        (LoraSettings(rank=33, alpha=8, targets=ALL_LINEAR), "rank_out_of_range", PreflightSeverity.BLOCKING),
        (LoraSettings(rank=4, alpha=8, targets=()), "lora_missing", PreflightSeverity.BLOCKING),
    ],
)
def test_adapters_that_could_not_be_served_or_trained(
    lora: LoraSettings, code: str, severity: PreflightSeverity, make_job: MakeJob
) -> None:
    """vllm#9280, vllm#6983, unsloth#1191: found after the training was paid for."""
    only(make_job(lora=lora), code, severity)


def test_a_rank_beyond_vllm_is_a_warning(make_job: MakeJob) -> None:
    job = make_job(lora=LoraSettings(rank=1024, alpha=8, targets=ALL_LINEAR))
    assert {finding.code for finding in examined(job).findings} == {"rank_unservable", "rank_out_of_range"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("message['content'] +", "(message['content'] if loop.last else message['content'][:3]) +"), "prompt_differs"),
        (("message['content'] +", "('x' if message['content'] == 'blue' else '') + message['content'] +"), "mask_unproven"),
        (("{% for", "{% if messages[3] is defined %}{{ raise_exception('one question') }}{% endif %}{% for"), "template_one_turn"),
    ],
)
def test_whole_conversations_of_the_template_are_compared_with_what_is_learned(
    change: tuple[str, str], code: str, make_job: MakeJob, change_base: ChangeBase, tiny_base: Path
) -> None:
    template = (tiny_base / "chat_template.jinja").read_text(encoding="utf-8").replace(*change)
    assert code in {finding.code for finding in examined(make_job(base=change_base(template))).findings}


def test_rows_without_reasoning_for_a_model_that_is_to_reason(make_job: MakeJob) -> None:
    thinks = make_job().prompt.model_copy(update={"thinking": True})
    job = make_job(prompt=thinks)
    assert only(job, "reasoning_missing", PreflightSeverity.WARNING).what.startswith("22 of 22 rows")
    reasoned = tuple(one.model_copy(update={"target": f"<think>hm</think>{one.target}"}) for one in job.train)
    found = examined(make_job(prompt=thinks, train=reasoned))
    assert "reasoning_missing" not in {finding.code for finding in found.findings}
    learned = ["".join(token.text for token in row if token.learned) for row in found.first_batch]
    assert all(text.startswith("<think>\nhm\n</think>\n\n") and text.endswith("<|im_end|>") for text in learned)
