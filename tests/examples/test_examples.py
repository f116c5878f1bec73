"""Every example: its data are those that its program writes and name nobody, its objective can be read, and its script runs to the end."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.examples import EXAMPLES, run_script
from tailorbird.objective import read_objective

#: The program that writes an example's data, and what it writes.
PROGRAMS = {
    "enterprise_search": ("make_documents.py", "*.jsonl"),
    "regulatory_classification": ("make_clauses.py", "*.csv"),
    "sales_assistant": ("make_rows.py", "rows/*.csv"),
    "support_chatbot": ("make_conversations.py", "*.jsonl"),
    "support_desk": ("make_messages.py", "*.csv"),
}
FICTIONAL_PHONE = re.compile(r"(07700|\+44 7700) 900\d{3}|01632 960\d{3}|020 7946 0\d{3}|\+1 202 555 01\d\d")
ANY_PHONE = re.compile(r"(?<![\w-])(?:\+\d{1,3} |0)\d{2,4}[ -]\d{3,4}(?:[ -]?\d{2,4})?")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_files_are_those_that_the_program_writes(name: str, tmp_path: Path) -> None:
    program, written = PROGRAMS[name]
    shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("*.jsonl", "*.csv"))
    subprocess.run([sys.executable, tmp_path / name / program], check=True, capture_output=True)
    files = [path.relative_to(EXAMPLES) for path in sorted((EXAMPLES / name).glob(written))]
    assert files
    assert {file: (tmp_path / file).read_bytes() for file in files} == {file: (EXAMPLES / file).read_bytes() for file in files}


def test_addresses_and_telephone_numbers_are_set_aside_for_fiction() -> None:
    for path in (EXAMPLES / "support_desk" / "messages.csv", *(EXAMPLES / "sales_assistant" / "rows").glob("*.csv")):
        text = path.read_text(encoding="utf-8")
        assert [number for number in ANY_PHONE.findall(text) if not FICTIONAL_PHONE.match(number)] == []
        assert [host for host in re.findall(r"@([\w.-]+\w)", text) if not re.search(r"(^|\.)example(\.(com|org|net))?$", host)] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_objective_can_be_read(path: Path) -> None:
    if path.name != "rollout.yaml":
        tenants = (path.parent / "tenants.txt").exists()
        objective = read_objective(path, "alder" if tenants else "").objective
        assert all((path.parent / place).is_file() for place in objective.places)


@pytest.mark.jobs
@pytest.mark.usefixtures("encoder_folder")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("enterprise_search", (r"No key was shown a passage of another group\.",)),
        ("regulatory_classification", (r"→ machine_decided", r"promoted", r"the log is intact")),
        ("sales_assistant", (r"^  alder +Happy trails:", r"^  fjord +Ahoy!", r"^  juno +Clear skies! ", r"429 quota_requests")),
        ("support_chatbot", (r"→ referred to people", r"^req_\w+ is labelled Ms Varga", r"grounding\+lora", r"the log is intact")),
    ],
)
def test_the_script_goes_from_data_to_answers(name: str, told: tuple[str, ...], tmp_path: Path, base_model_folder: Path) -> None:
    shown = run_script(EXAMPLES / name / "demo.py", tmp_path / "workspace", base_model_folder.parent)
    assert [each for each in told if not re.search(each, shown, flags=re.MULTILINE)] == []
