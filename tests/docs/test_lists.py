"""Lists in the documentation are those of the code, in both directions: no entry is missing, and none is left over."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from tailorbird import Workspace
from tailorbird.cli.invocation import ExitStatus
from tailorbird.cli.main import VERBS
from tailorbird.console.web import SECTIONS
from tailorbird.data.readers.data_file import FOLDER
from tailorbird.data.readers.formats import READERS
from tailorbird.domain.curation import PersonalKind, PrivacyAction, QualityRule
from tailorbird.domain.event import EVENTS
from tailorbird.domain.feedback import FeedbackKind, SignalName
from tailorbird.domain.identity import Role
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import AdapterWishes, Limits, LiveKpi, Objective, RiskTier, SplitPolicy
from tailorbird.evaluation.metrics import CATALOGUE, AnswerKinds, Pairing, lower_is_better, metrics_for
from tailorbird.objective.proposal import TEMPLATES
from tailorbird.training.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """The text of one section of a page without its fenced blocks, up to the next heading of the same level."""
    level = heading.partition(" ")[0]
    prose = re.sub(r"^```.*?^```$", "", page(name), flags=re.DOTALL | re.MULTILINE)
    _, found, rest = prose.partition(f"\n{heading}\n")
    assert found, f"docs/{name} has no section {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row in ``text``, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {lines[number - 1] for number, line in enumerate(lines) if re.fullmatch(r"[|:\s-]+", line)}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line not in heads]
    return [row for row in cells if not re.fullmatch(r"[:\s-]*", "".join(row))]


def quoted(text: str) -> list[str]:
    """Everything in backticks."""
    return re.findall(r"`([^`]+)`", text)


def column(text: str, number: int = 0) -> list[str]:
    """What stands in backticks in one column of the tables of ``text``."""
    return [name for row in rows(text) for name in quoted(row[number])]


def row_of(text: str, head: str) -> list[str]:
    (found,) = [row for row in rows(text) if row[0].strip("*`") == head]
    return found


def same(listed: Iterable[str], known: Iterable[str]) -> None:
    """Both name the same, each once."""
    assert sorted(listed) == sorted(known)


def test_concepts_name_every_rung() -> None:
    same(quoted(row_of(section("concepts.md", "## Terms"), "rung")[1]), RungKind)


def test_the_page_of_rungs_has_a_row_for_each() -> None:
    assert set(column(page("reference/rungs.md").split("\n## ")[0])) == set(RungKind)


def test_concepts_have_every_risk_tier_with_its_confidence() -> None:
    told = {row[0]: row[1] for row in rows(section("concepts.md", "## Risk tiers"))}
    assert told == {tier.value: f"{tier.confidence:.0%}".replace("%", " %") for tier in RiskTier}


def test_the_tutorial_names_every_role() -> None:
    (listed,) = re.findall(r"one per\s+role: ([^.]*)\.", page("tutorial.md"))
    same(quoted(listed), Role)


#: Keys of an objective that stand beside the metrics which need them.
KEYS = ("referral", "task.format", "task.out_of_scope", "task.label_order")
#: Columns of the table of KPIs in ``docs/reference/objective.md``.
COLUMNS = (AnswerKinds.LABEL, AnswerKinds.LABELS, AnswerKinds.TEXT, AnswerKinds.RANKING)


@pytest.mark.parametrize("number", range(len(COLUMNS)), ids=[kind.name for kind in COLUMNS])
def test_the_objective_page_lists_the_metrics_of_each_task(number: int) -> None:
    table = [row for row in rows(section("reference/objective.md", "## KPIs")) if row[number + 1].startswith("yes")]
    same((name for row in table for name in quoted(row[0]) if name not in KEYS), metrics_for(COLUMNS[number]))


@pytest.mark.parametrize(("head", "kind"), list(zip(("classify", "classify, labels: many", "generate", "rank"), COLUMNS, strict=True)))
def test_the_page_of_metrics_lists_those_of_each_task(head: str, kind: AnswerKinds) -> None:
    (row,) = [row for row in rows(section("reference/quality-metrics.md", "## Metrics")) if row[0].replace("`", "") == head]
    same((name for name in quoted(row[1]) if name not in KEYS), metrics_for(kind))


def test_the_page_of_metrics_has_direction_unit_and_margin_of_each() -> None:
    how = {Pairing.ITEMS: "item by item", Pairing.LABEL: "item by item, on the label's items", Pairing.WHOLE: "resampled"}
    known = [
        [
            f"`{CATALOGUE[name].written}`",
            "less" if lower_is_better(name) else "more",
            measure.unit,
            how[measure.pairing],
            f"{measure.margin:g}",
        ]
        for name, measure in CATALOGUE.items()
        if measure.compared
    ]
    assert rows(section("reference/quality-metrics.md", "## Comparison")) == known


def test_the_objective_page_has_every_key() -> None:
    same(column(section("reference/objective.md", "## Keys")), Objective.model_fields)


def test_the_objective_page_has_every_limit() -> None:
    same(quoted(row_of(section("reference/objective.md", "## Keys"), "limits")[1]), Limits.model_fields)


def test_the_objective_page_has_every_key_of_a_split() -> None:
    same(column(section("reference/objective.md", "## Shifted data")), SplitPolicy.model_fields)


def test_the_objective_page_has_every_live_kpi() -> None:
    listed = quoted(section("reference/objective.md", "## Live KPIs"))
    same(listed, LiveKpi.model_json_schema()["properties"]["metric"]["enum"])


def test_the_objective_page_has_every_format() -> None:
    local = [name for name in column(section("reference/objective.md", "## Data sources")) if re.fullmatch(r"messages(\.\w+|/)", name)]
    same([name.removeprefix("messages").replace("/", FOLDER) for name in local], READERS)


@pytest.mark.parametrize("path", ["README.md", "docs/tutorial.md"])
def test_the_first_pages_name_every_format(path: str) -> None:
    (sentence,) = re.findall(r"reads? CSV[^.]*", (ROOT / path).read_text(encoding="utf-8"))
    spelled = {".parquet": "Parquet"} | {kind: kind.removeprefix(".").upper() for kind in READERS if kind not in (FOLDER, ".parquet")}
    same(re.findall(r"\b(?:[A-Z]{3,}|Parquet)\b", sentence), spelled.values())
    assert "folder" in sentence


def test_the_page_on_own_data_names_every_format() -> None:
    (sentence,) = re.findall(r"^Formats: ([^;]*);", page("howto/own-data.md"), flags=re.MULTILINE)
    same(quoted(sentence), (kind for kind in READERS if kind != FOLDER))


def test_the_objective_page_has_the_policies_of_curation() -> None:
    text = section("reference/objective.md", "## Curation")
    same(column(text), PrivacyAction)
    (kinds,) = re.findall(r"^Kinds: (.*?)\bneed\s+a\s+model\b", text, flags=re.DOTALL | re.MULTILINE)
    same(quoted(kinds), PersonalKind)
    (rules,) = re.findall(r"^Quality rules: ([^.]*)\.", text, flags=re.MULTILINE)
    same(quoted(rules), QualityRule)


@pytest.mark.parametrize("path", ["README.md", "docs/reference/objective.md"])
def test_every_template_is_named(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    found = re.search(r"init --template ([a-z]+)`?\s*(?:#|\()\s*or ([^)\n]*(?:\n[^)\n]*\))?)", text)
    assert found
    same([found[1], *re.findall(r"[a-z]+(?:-[a-z]+)*", found[2].partition(")")[0])], TEMPLATES)


def test_the_cli_page_lists_every_exit_status() -> None:
    table = rows(section("reference/cli.md", "## Exit statuses"))
    assert [(row[0], row[1].strip("`")) for row in table] == [(str(status.value), status.name) for status in ExitStatus]
    assert all(row[2] for row in table)


def test_the_cli_page_lists_every_verb_as_help_does() -> None:
    listed = re.findall(r"^\| `([a-z]+)` \| (.+) \|$", page("reference/cli.md"), flags=re.MULTILINE)
    assert listed == [(verb, what) for verb, (_, what) in VERBS.items() if verb != "engine"]


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "reference.py", "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["settings", "commands", "objective-keys", "events", "metrics"])
def test_everything_that_is_listed_is_explained(name: str) -> None:
    listed = rows(page(f"reference/{name}.md"))
    assert len(listed) > 10
    assert [row[0] for row in listed if not row[-1]] == []


def test_events_are_recorded_by_the_kinds_that_are_listed() -> None:
    """What is written into a call that makes an event, and the constants beside it."""
    writers = {"record", "_record_signed", "_event", "_change", "Event"}
    recorded: set[str] = set()
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py") if path.name != "event.py"}
    for source in sources.values():
        calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
        for call in (call for call in calls if ast.unparse(call.func).rpartition(".")[2] in writers):
            constants = (node.value for node in ast.walk(call) if isinstance(node, ast.Constant))
            recorded |= {str(each) for each in constants if re.fullmatch(r"[a-z]+\.[a-z_]+", str(each))}
    assert recorded - {"response.created", "response.in_progress", "session.open"} <= EVENTS.keys()
    assert [kind for kind in EVENTS if not any(f'"{kind}"' in source for source in sources.values())] == []


def test_the_training_page_lists_every_option() -> None:
    same(column(section("reference/training.md", "## Training options")), AdapterWishes.model_fields)


def test_the_training_page_lists_every_method() -> None:
    same(column(section("reference/training.md", "## Methods")), METHODS)


def test_the_training_page_lists_every_finding_of_the_doctor() -> None:
    table = rows(section("reference/training.md", "## Findings of the doctor"))
    listed = {code: row[1] for row in table for code in quoted(row[0])}
    source = (ROOT / "src" / "tailorbird" / "training" / "preflight.py").read_text(encoding="utf-8")
    found = {code: kind for kind, code in re.findall(r'\b(blocking|warning)\("(\w+)"', source)}
    assert len(found) > 8
    assert found.items() <= listed.items()
    everything = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert [code for code in listed if f'"{code}"' not in everything] == []


def test_the_console_page_lists_every_page_of_its_menu() -> None:
    listed = re.findall(r"^\|[^|]*`(/console[^`]*)`", page("howto/console.md"), flags=re.MULTILINE)
    same(listed, (f"/console{address}" for address in SECTIONS.values()))


def test_the_page_of_signals_lists_every_signal() -> None:
    same(column(section("reference/signals.md", "## Signals")), get_args(SignalName))


def test_the_gateway_page_lists_every_kind_of_feedback() -> None:
    (listed,) = re.findall(r"^`kind` is ([^;]*);", page("reference/gateway.md"), flags=re.MULTILINE)
    same(quoted(listed), FeedbackKind)


def test_a_row_is_read_with_its_cells() -> None:
    text = "| a | b |\n|---|---|\n| `x`, `y` | 1 |\n\n| c |\n|---|\n| `z` |\n"
    assert rows(text) == [["`x`, `y`", "1"], ["`z`"]]
    assert column(text) == ["x", "y", "z"]


def test_the_page_on_python_has_every_call_with_its_parameters() -> None:
    """As it is written: name and parameters, without types."""
    calls = [call for head in ("## Opening a workspace", "## Calls") for call in column(section("reference/python.md", head))]
    methods = {name: member for name, member in vars(Workspace).items() if not name.startswith("_")}
    known = [_call(name, member) for name, member in methods.items() if name != "close"]
    known.append(_call("__init__", Workspace.__init__).replace("__init__", "Workspace"))
    same([call.removeprefix("Workspace.") for call in calls], known)


def _call(name: str, member: object) -> str:
    signature = inspect.signature(getattr(member, "__func__", member))  # type: ignore[arg-type]
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in list(signature.parameters.values())[1:]]
    written = str(inspect.Signature(parameters)).replace("'", '"')
    return f"{name}{written}"
