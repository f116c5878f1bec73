"""Preflight checks of conversations with tools: masks are proven, and a base whose template leaves tools out is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chat_families import TOOL_FAMILIES, write_family
from support.preflight import ChangeBase, only
from support.tools import CHAT, TOOLS
from support.training_samples import MakeJob
from tailorbird.data.readers.data_file import Record
from tailorbird.data.readers.turns import answered
from tailorbird.ports.trainer import Example
from tailorbird.training.preflight import context, row_checks, template_checks


def calling(**changes: bool) -> Example:
    text, target = answered(Record(line=1, cells={"chat": CHAT, "tools": TOOLS}), "chat", "tools")
    return Example(text=text, target=target, **changes)


@pytest.mark.parametrize("name", ["calls between marks", "calls in a channel"])
def test_masks_of_calls_are_proven_and_ended(make_job: MakeJob, tmp_path: Path, name: str) -> None:
    job = make_job(train=(calling(every_turn=True),), held_out=(calling(),))
    subject = context.read_subject(job.model_copy(update={"base": write_family(TOOL_FAMILIES[name], tmp_path / "base")}))
    codes = [finding.code for check in (row_checks.mask, row_checks.end_of_turn, template_checks.templates) for finding in check(subject)]
    assert not {"mask_unproven", "prompt_differs", "end_of_turn_not_learned", "all_masked"} & set(codes)


def test_a_template_that_leaves_tools_out_is_named(make_job: MakeJob, change_base: ChangeBase) -> None:
    found = only(make_job(base=change_base(), train=(calling(),), held_out=(calling(),)), "template_tools")
    assert found.remedy.startswith("use a base model whose chat template renders `tools`")
