"""A chat template is a known one or a file beside the objective; everything else is refused with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tailorbird.chat.templates import TEMPLATES
from tailorbird.domain.errors import Forbidden, ModelInvalid, ObjectiveInvalid
from tailorbird.objective import ObjectiveFile, chat_template_of, parse_objective
from tailorbird.system.outward_access import SourceAccess, restrict_sources


def objective(**changes: Any) -> ObjectiveFile:
    content: dict[str, Any] = {
        "name": "desk",
        "tenant": "acme",
        "business": {"goal": "Answer.", "owner": "support", "risk": "minimal"},
        "task": {"kind": "generate", "instruction": "Answer."},
        "data": [{"path": "rows.csv", "source": {"origin": "o", "license": "CC0-1.0"}}],
        "kpis": [{"metric": "exact_match", "target": 0.5}],
    }
    return parse_objective(yaml.safe_dump(content | changes), "objective.yaml")


@pytest.mark.parametrize("name", ["chatlm", "/etc/passwd"])
def test_a_name_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(ObjectiveInvalid) as caught:
        objective(chat_template=name)
    assert caught.value.error_code == "chat_template_unknown"


def test_known_names_and_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "form.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert chat_template_of(objective().objective, tmp_path) is None
    assert chat_template_of(objective(chat_template="alpaca").objective, tmp_path) == TEMPLATES["alpaca"]
    assert chat_template_of(objective(chat_template="form.jinja").objective, tmp_path) == "{{ messages }}"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_is_no_template_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "form.jinja").write_bytes(content)
    with pytest.raises(ModelInvalid) as caught:
        chat_template_of(objective(chat_template="form.jinja").objective, tmp_path)
    assert caught.value.error_code == "chat_template"


@pytest.mark.parametrize("name", ["../form.jinja", "/srv/form.jinja"])
def test_submitted_work_reads_no_file_of_this_machine(name: str, tmp_path: Path) -> None:
    (tmp_path / "form.jinja").write_text("{{ messages }}", encoding="utf-8")
    (tmp_path / "inputs").mkdir()
    with restrict_sources(SourceAccess(tenant="acme", places=())), pytest.raises(Forbidden) as caught:
        chat_template_of(objective(chat_template=name).objective, tmp_path / "inputs")
    assert caught.value.error_code == "upload_missing"
