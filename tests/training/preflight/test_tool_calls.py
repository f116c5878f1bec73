"""Preflight checks of conversations with tools: masks are proven, and a base whose template leaves tools out is named."""

from __future__ import annotations

from support.preflight import ChangeBase, only
from support.tools import CHAT, TOOLS
from support.training_samples import MakeJob
from tailorbird.data.readers.cells import answered
from tailorbird.data.readers.data_file import Record
from tailorbird.ports.trainer import Example


def calling(**changes: bool) -> Example:
    text, target = answered(Record(line=1, cells={"chat": CHAT, "tools": TOOLS}), "chat", "tools")
    return Example(text=text, target=target, **changes)


def test_a_template_that_leaves_tools_out_is_named(make_job: MakeJob, change_base: ChangeBase) -> None:
    found = only(make_job(base=change_base(), train=(calling(),), held_out=(calling(),)), "chat_template")
    assert found.remedy.startswith("use a base model whose chat template renders `tools`")
