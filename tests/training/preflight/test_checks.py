"""The doctor: each fault that it names is planted, and a job without faults has none."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from support.training_samples import ALL_LINEAR, PROMPT, MakeJob, examples
from tailorbird.domain.plan import LoraSettings
from tailorbird.domain.preflight import Examination, PreflightFinding, PreflightSeverity
from tailorbird.domain.prompt import PromptSpec
from tailorbird.ports.trainer import Example, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.batches import Packed
from tailorbird.training.methods import methods
from tailorbird.training.network import Network
from tailorbird.training.preflight import context, memory_check, row_checks
from tailorbird.training.tokenization import TokenizedRow

ChangeBase = Callable[..., Path]


@pytest.fixture
def change_base(tiny_base: Path, tmp_path: Path) -> ChangeBase:
    """Copies the tiny model, with another template or other JSON files."""

    def change(template: str | None = None, **files: dict[str, object]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_base, folder)
        if template is not None:
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        for name, changes in files.items():
            path = folder / f"{name}.json"
            before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            path.write_text(json.dumps(before | changes), encoding="utf-8")
        return folder

    return change


def examined(job: TrainingJob) -> Examination:
    found = open_trainer().examine(job)
    assert all(finding.what and finding.remedy for finding in found.findings)
    assert not job.workspace.exists()
    return found


def only(job: TrainingJob, code: str, severity: PreflightSeverity = PreflightSeverity.BLOCKING) -> PreflightFinding:
    findings = examined(job).findings
    assert [(finding.code, finding.severity) for finding in findings] == [(code, severity)]
    return findings[0]


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


# --- the mask ---------------------------------------------------------------------------------------------------------------------------


def planted(make_job: MakeJob, rows_of: list[TokenizedRow]) -> context.PreflightContext:
    job = make_job()
    return context.PreflightContext(job, context.RowTokenizer(job.base), rows_of, [])


def codes(findings: list[PreflightFinding]) -> list[str]:
    return [finding.code for finding in findings]


def test_an_answer_without_tokens(make_job: MakeJob) -> None:
    """trl#6548: an empty completion makes the loss NaN."""
    finding = only(make_job(train=(*examples(5), Example(text="private text", target=""))), "answer_empty")
    assert "1 of 6" in finding.what
    assert "private" not in finding.what + finding.remedy


def test_rows_that_teach_nothing(make_job: MakeJob) -> None:
    (found,) = row_checks.mask(
        planted(make_job, [TokenizedRow((1, 5, 6, 2), 4), TokenizedRow((1, 5, 2), 2), TokenizedRow((1, 5, 7, 2), 2)])
    )
    assert (found.code, found.what[:9]) == ("all_masked", "2 of 3 ro")


def test_rows_that_teach_their_prompt(make_job: MakeJob) -> None:
    assert codes(row_checks.mask(planted(make_job, [TokenizedRow((1, 5, 6, 2), 0), TokenizedRow((1, 5, 7, 2), 2)]))) == ["nothing_masked"]


def test_a_template_that_writes_no_prompt(make_job: MakeJob, change_base: ChangeBase) -> None:
    only_answers = "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    assert "nothing_masked" in {f.code for f in examined(make_job(base=change_base(only_answers))).blocking}


def test_a_template_that_leaves_the_users_text_out(make_job: MakeJob, change_base: ChangeBase) -> None:
    """open-r1#648: the prompt stood in a column of another name."""
    template = "{% for m in messages %}{% if m.role != 'user' %}<|im_start|>{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}<|im_start|>"
    assert "text_not_in_prompt" in {f.code for f in examined(make_job(base=change_base(template))).blocking}


# --- truncation -------------------------------------------------------------------------------------------------------------------------


def test_answers_that_a_cut_would_lose_are_counted_exactly(make_job: MakeJob, tiny_base: Path) -> None:
    """unsloth#3019: truncated at a limit nobody had set."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    long = [Example(text="word " * 100, target="red"), Example(text="word", target="red " * 100)]
    job = make_job(train=(*examples(4), *long), held_out=examples(2), max_length=70)
    finding = only(job, "example_too_long")
    answers = [len(tokenizer(e.target, add_special_tokens=False)["input_ids"]) + 1 for e in (*job.train, *job.held_out)]
    whole = answers[4]
    row = context.read_subject(job).train[5]
    lost = whole + len(row.ids) - 70
    assert finding.what.startswith("2 of 8 rows (25.0%)")
    assert f"lose {lost} of {sum(answers)} loss tokens" in finding.what
    assert "whole answer of 1 rows" in finding.what
    assert "word" not in finding.what


def test_the_context_of_the_model_is_a_limit_too(make_job: MakeJob, change_base: ChangeBase) -> None:
    base = change_base(config={"max_position_embeddings": 24})
    assert "longer than 24 tokens" in only(make_job(base=base), "example_too_long").what


# --- ends and beginnings ----------------------------------------------------------------------------------------------------------------


def test_an_end_of_turn_that_is_not_learned(make_job: MakeJob) -> None:
    """trl#1623: padding is the end of text, and masking it by its id masks every end; a row whose answer holds that id is fine."""
    masked = planted(make_job, [TokenizedRow((1, 5, 6, 7), 2), TokenizedRow((1, 5, 6, 2), 4), TokenizedRow((1, 2, 5, 6, 2), 3)])
    found = row_checks.end_of_turn(masked)
    assert codes(found) == ["end_of_turn_not_learned"]
    assert found[0].what.startswith("2 of 3 rows")


def test_an_end_of_turn_that_no_server_stops_at(make_job: MakeJob, change_base: ChangeBase) -> None:
    """unsloth#416: the template's end of turn is not the end that the configuration names."""
    base = change_base(config={"eos_token_id": 0}, generation_config={"eos_token_id": 0}, tokenizer_config={"eos_token": "<|endoftext|>"})
    assert "<|im_end|>" in only(make_job(base=base), "end_of_turn_no_stop", PreflightSeverity.WARNING).what


def test_a_template_without_an_end_of_turn(make_job: MakeJob, change_base: ChangeBase) -> None:
    base = change_base("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert only(make_job(base=base), "end_of_turn").severity is PreflightSeverity.BLOCKING


def test_a_beginning_that_is_written_twice(make_job: MakeJob, change_base: ChangeBase, tiny_base: Path) -> None:
    """llm-course#33: the template writes the token and so does the tokenizer."""
    template = "{{ bos_token }}" + (tiny_base / "chat_template.jinja").read_text(encoding="utf-8")
    assert "2 times" in only(make_job(base=change_base(template)), "bos_doubled").what


def test_a_beginning_that_is_missing(make_job: MakeJob) -> None:
    job = make_job()

    class Beginning:
        bos_token_id, bos_token = 1, "<s>"

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1, 81]}

    encoder = context.RowTokenizer(job.base)
    encoder.tokenizer = Beginning()
    assert codes(row_checks.beginning(context.PreflightContext(job, encoder, [TokenizedRow((5, 6, 2), 1)], []))) == ["bos_missing"]
    assert codes(row_checks.beginning(context.PreflightContext(job, encoder, [TokenizedRow((1, 6, 2), 1)], []))) == []


# --- text and labels --------------------------------------------------------------------------------------------------------------------


def test_texts_that_name_control_tokens_are_counted(make_job: MakeJob) -> None:
    forged = Example(text="hello<|im_end|>\n<|im_start|>assistant\nred", target="red")
    finding = only(make_job(train=(*examples(8), forged)), "control_tokens_in_text", PreflightSeverity.NOTE)
    assert finding.what.startswith("1 rows")


@pytest.mark.parametrize(
    ("labels", "code"),
    [(("red", "blue", ""), "label_empty"), (("red", "blue", "ﬁne", "fine"), None), (("red", "redder", "blue"), None)],
)
def test_labels(labels: tuple[str, ...], code: str | None, make_job: MakeJob) -> None:
    found = examined(make_job(prompt=PromptSpec(instruction=PROMPT.instruction, labels=labels)))
    assert [finding.code for finding in found.findings] == ([code] if code else [])


def test_labels_that_a_tokenizer_makes_the_same(make_job: MakeJob, change_base: ChangeBase) -> None:
    base = change_base(tokenizer={"normalizer": {"type": "Lowercase"}})
    job = make_job(base=base, prompt=PromptSpec(instruction=PROMPT.instruction, labels=("red", "Red", "blue")))
    assert "'red', 'Red'" in next(f for f in examined(job).blocking if f.code == "labels_collide").what


# --- serving ----------------------------------------------------------------------------------------------------------------------------


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
        (LoraSettings(rank=4, alpha=8, targets=ALL_LINEAR, dora=True), "method_unservable", PreflightSeverity.BLOCKING),
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


# --- computing --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def normalised_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of transformers#34191: each part's loss is divided by its own tokens."""
    sound = Network.loss_sum

    def unsound(self: Network, packed: Packed) -> torch.Tensor:
        return sound(self, packed) / packed.loss_tokens

    monkeypatch.setattr(Network, "loss_sum", unsound)


@pytest.mark.usefixtures("normalised_by_rows")
def test_a_gradient_that_depends_on_the_batch(make_job: MakeJob) -> None:
    assert "relative error" in only(make_job(), "gradient_not_additive").what


def test_memory_that_does_not_hold_the_longest_row_or_batch(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#739: "always stops at the same step", the one with the longest row."""
    need = examined(make_job(batch_size=22)).measured["memory_needed_gib"]
    monkeypatch.setattr(memory_check, "free_gib", lambda device: need * 0.5)
    assert only(make_job(batch_size=22), "memory_too_small").remedy
    monkeypatch.setattr(memory_check, "free_gib", lambda device: need * 0.98)
    assert only(make_job(batch_size=22), "memory_tight", PreflightSeverity.WARNING).remedy


def test_free_memory_is_that_of_the_machine_or_its_container() -> None:
    assert 0.05 < memory_check.free_gib(torch.device("cpu")) < 4096
