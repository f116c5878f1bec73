"""Row checks: each planted fault of masks, truncation, ends, control tokens and labels is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from support.preflight import ChangeBase, examined, only
from support.training_samples import PROMPT, MakeJob, examples
from tailorbird.domain.plan import PreflightFinding
from tailorbird.domain.prompt import PromptSpec
from tailorbird.ports.trainer import Example
from tailorbird.training import preflight as row_checks
from tailorbird.training.batches import TokenizedRow


def planted(make_job: MakeJob, rows_of: list[TokenizedRow]) -> row_checks.PreflightContext:
    job = make_job()
    return row_checks.PreflightContext(job, row_checks.RowTokenizer(job.base), rows_of, [])


def codes(findings: list[PreflightFinding]) -> list[str]:
    return [finding.code for finding in findings]


def test_an_answer_without_tokens(make_job: MakeJob) -> None:
    """trl#6548: an empty completion makes the loss NaN."""
    finding = only(make_job(train=(*examples(5), Example(text="private text", target=""))), "answer_empty")
    assert "1 of 6" in finding.what
    assert "private" not in finding.what + finding.remedy


def test_a_template_that_leaves_the_users_text_out(make_job: MakeJob, change_base: ChangeBase) -> None:
    """open-r1#648: the prompt stood in a column of another name."""
    template = "{% for m in messages %}{% if m.role != 'user' %}<|im_start|>{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}<|im_start|>"
    assert "text_not_in_prompt" in {f.code for f in examined(make_job(base=change_base(template))).blocking}


def test_an_end_of_turn_that_is_not_learned(make_job: MakeJob) -> None:
    """trl#1623: padding is the end of text, and masking it by its id masks every end; a row whose answer holds that id is fine."""
    masked = planted(make_job, [TokenizedRow((1, 5, 6, 7), 2), TokenizedRow((1, 5, 6, 2), 4), TokenizedRow((1, 2, 5, 6, 2), 3)])
    found = row_checks.end_of_turn(masked)
    assert codes(found) == ["end_of_turn_not_learned"]
    assert found[0].what.startswith("2 of 3 rows")


def test_a_beginning_that_is_written_twice(make_job: MakeJob, change_base: ChangeBase, tiny_base: Path) -> None:
    """llm-course#33: the template writes the token and so does the tokenizer."""
    template = "{{ bos_token }}" + (tiny_base / "chat_template.jinja").read_text(encoding="utf-8")
    assert "2 times" in only(make_job(base=change_base(template)), "bos_doubled").what


def test_a_beginning_that_is_missing(make_job: MakeJob) -> None:
    job = make_job()

    encoder = row_checks.RowTokenizer(job.base)
    encoder.tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    assert codes(row_checks.beginning(row_checks.PreflightContext(job, encoder, [TokenizedRow((5, 6, 2), 1)], []))) == ["bos_missing"]
    assert codes(row_checks.beginning(row_checks.PreflightContext(job, encoder, [TokenizedRow((1, 6, 2), 1)], []))) == []


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
