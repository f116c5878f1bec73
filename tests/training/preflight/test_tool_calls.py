"""Preflight checks of conversations with tools: masks are proven, and a base whose template leaves tools out is named."""

from __future__ import annotations

from pathlib import Path

from support.chat_families import TOOL_FAMILIES, write_family
from support.preflight import ChangeBase, only
from support.tools import CHAT, TOOLS
from support.training_samples import MakeJob
from tailorbird.data.readers.cells import answered
from tailorbird.data.readers.data_file import Record
from tailorbird.ports.trainer import Example
from tailorbird.training import preflight as row_checks


def calling(**changes: bool) -> Example:
    text, target = answered(Record(line=1, cells={"chat": CHAT, "tools": TOOLS}), "chat", "tools")
    return Example(text=text, target=target, **changes)


def test_masks_of_calls_are_proven_and_ended(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(train=(calling(every_turn=True),), held_out=(calling(),))
    subject = row_checks.read_subject(
        job.model_copy(update={"base": write_family(TOOL_FAMILIES["calls between marks"], tmp_path / "base")})
    )
    codes = [finding.code for check in (row_checks.mask, row_checks.end_of_turn) for finding in check(subject)]
    assert not {"end_of_turn_not_learned", "all_masked"} & set(codes)


def test_a_template_that_leaves_tools_out_is_named(make_job: MakeJob, change_base: ChangeBase) -> None:
    found = only(make_job(base=change_base(), train=(calling(),), held_out=(calling(),)), "chat_template")
    assert found.remedy.startswith("use a base model whose chat template renders `tools`")
