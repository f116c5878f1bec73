"""An objective is proposed for data of any shape, and plan accepts it once people have said what only they know."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.usecases import open_workspace
from tailorbird.domain.errors import InvalidInput, ObjectiveInvalid
from tailorbird.domain.objective import FILL_IN, Objective, TaskKind
from tailorbird.objective import ProvidedFacts, TaskName, read_objective, write_objective
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.dependencies import Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs.proposal import Proposal, ProposalRequest, look_at, propose
from tailorbird.usecases.runs.submit import curate

TERMS = {"origin": "our desk, 2024", "license": "proprietary, our own", "consent": "terms of service"}


def words(number: int, count: int = 9) -> str:
    return " ".join(f"w{(number * factor) % 9973}" for factor in (31, 577, 1009, 4001, 6007, 7001, 8009, 8999, 9091)[:count])


def as_csv(rows: list[list[str]], separator: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows(rows)
    return out.getvalue()


def odd_columns(folder: Path) -> str:
    """Odd names, quoted line breaks, a BOM, semicolons."""
    rows = [["Spalte 1", "Was der Kunde schrieb", "Art"]]
    rows += [[str(n), f'Guten Tag,\n"{words(n)}"; bitte', ("Rechnung", "Lieferung", "Konto; sonst")[n % 3]] for n in range(240)]
    (folder / "Export 2024.csv").write_text(as_csv(rows, ";"), encoding="utf-8-sig")
    return "Export 2024.csv"


def lists_of_labels(folder: Path) -> str:
    names = ("unfair", "vague", "one-sided")
    lines = [{"clause": words(n), "tags": [name for place, name in enumerate(names) if n >> place & 1]} for n in range(320)]
    (folder / "terms.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return "terms.jsonl"


def free_answers(folder: Path) -> str:
    """No column has a name that tells."""
    lines = [json.dumps({"q": words(n, 6), "source": "faq" if n % 2 else "mail", "a": words(n + 5000) + " so it is"}) for n in range(200)]
    (folder / "faq.jsonl").write_text("\n".join(lines))
    return "faq.jsonl"


def queries_with_passages(folder: Path) -> str:
    rows = [["query", "passage"], *([words(n, 5), f"Passage {n % 80}: " + words(n % 80 + 4000)] for n in range(240))]
    (folder / "search.csv").write_text(as_csv(rows))
    return "search.csv"


def a_column_of_splits(folder: Path) -> str:
    rows = [["text", "label", "split"]]
    rows += [[words(n), "abc"[n % 3], ("train", "train", "train", "validation", "test", "test")[n % 6]] for n in range(480)]
    (folder / "benchmark.csv").write_text(as_csv(rows))
    return "benchmark.csv"


SHAPES: list[tuple[Callable[[Path], str], TaskName, dict[str, object]]] = [
    (odd_columns, "classify", {"text": "Was der Kunde schrieb", "label": "Art"}),
    (lists_of_labels, "classify-many", {"text": "clause", "label": "tags"}),
    (free_answers, "generate", {"text": "q", "label": "a"}),
    (a_column_of_splits, "classify", {"text": "text", "label": "label"}),
    (queries_with_passages, "rank", {"text": "query", "label": "passage"}),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Dependencies:
    return open_workspace(tmp_path_factory.mktemp("proposing") / "workspace")


@pytest.fixture
def writer(workspace: Dependencies) -> Actor:
    return act_as(workspace, "acme", "author")


def objective_in(found: Proposal, folder: Path) -> Objective:
    return read_objective(write_objective(folder, found.draft.name, found.text)[1]).objective


def proposed(folder: Path, name: str, said: ProvidedFacts | None = None, documents: str = "") -> Proposal:
    asked = ProposalRequest(name, folder, "acme", said or ProvidedFacts(terms=TERMS), documents)
    return propose(asked, look_at(asked, lambda _: None), lambda _: None)


@pytest.mark.parametrize(("make", "task", "columns"), SHAPES, ids=[make.__name__ for make, _, _ in SHAPES])
def test_plan_accepts_what_is_proposed(
    tmp_path: Path, workspace: Dependencies, writer: Actor, make: Callable[[Path], str], task: TaskName, columns: dict[str, object]
) -> None:
    found = proposed(tmp_path, make(tmp_path))
    assert (found.draft.task, found.open, found.refused) == (task, (), None)
    assert {key: found.draft.source[key] for key in ("messages", "tools", "text", "label") if key in found.draft.source} == columns
    path = write_objective(tmp_path, found.draft.name, found.text)[1]
    kpi = read_objective(path).objective.kpis[0]
    assert 0.3 <= kpi.target <= 0.9
    seen = curate(workspace, writer, path, Progress())
    assert seen.manifest.quarantined <= 0.05 * seen.manifest.read


def test_what_nobody_said_is_refused_with_what_to_write(tmp_path: Path, workspace: Dependencies, writer: Actor) -> None:
    found = proposed(tmp_path, a_column_of_splits(tmp_path), ProvidedFacts(terms={"license": "CC-BY-4.0"}))
    assert found.open == ("origin", "consent")
    assert "template" not in found.text
    path = write_objective(tmp_path, found.draft.name, found.text)[1]
    with pytest.raises(ObjectiveInvalid) as refused:
        curate(workspace, writer, path, Progress())
    assert "`data.0.source.origin` still begins with FILL IN" in refused.value.message
    assert "`data.0.source.consent` still begins with FILL IN: write what the people behind it agreed to" in refused.value.message
    assert refused.value.hint.startswith("write whose data it is")
    assert refused.value.line == next(n for n, line in enumerate(path.read_text().splitlines(), start=1) if FILL_IN in line and n > 5)


@pytest.mark.parametrize("spoilt", [False, True])
def test_answers_that_are_objects_are_compared_as_such(tmp_path: Path, spoilt: bool) -> None:
    """Of the words of such an answer half are its keys, which a wrong one has, too."""
    answers = [{"insurer": words(n, 1), "a 'sum": n} | ({"due": n} if n % 2 else {}) for n in range(200)]
    lines = [{"text": words(n), "answer": "none" if spoilt and n == 7 else json.dumps(each)} for n, each in enumerate(answers)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = proposed(tmp_path, "rows.jsonl")
    objective = objective_in(found, tmp_path)
    assert objective.kpis[0].metric == ("token_f1" if spoilt else "exact_match")
    assert ("capitals, spaces and forms of Unicode do not count" in found.text) is not spoilt
    form = objective.task.format
    assert (form.json_keys if form else None) == (None if spoilt else ("insurer", "a 'sum"))


def test_documents_of_their_own(tmp_path: Path, workspace: Dependencies, writer: Actor) -> None:
    pages = [json.dumps({"doc_id": f"d{n}", "title": f"Page {n}", "text": words(n + 4000)}) for n in range(60)]
    (tmp_path / "pages.jsonl").write_text("\n".join(pages))
    (tmp_path / "q.csv").write_text(as_csv([["query", "doc_id"], *([words(n, 5), f"d{n % 60}"] for n in range(240))]))
    found = proposed(tmp_path, "q.csv", documents="pages.jsonl")
    assert (found.draft.task, found.refused) == ("rank", None)
    assert {"id": "doc_id", "title": "title", "text": "text"}.items() <= (found.draft.documents or {}).items()
    curate(workspace, writer, write_objective(tmp_path, found.draft.name, found.text)[1], Progress())
    with pytest.raises(InvalidInput) as missing:
        proposed(tmp_path, "q.csv")
    assert (missing.value.error_code, missing.value.hint) == ("invalid_input", "name them: --documents FILE")


def test_columns_and_task_may_be_said(tmp_path: Path) -> None:
    said = ProvidedFacts(task="generate", text=("q",), label=("source",), terms=TERMS)
    found = proposed(tmp_path, free_answers(tmp_path), said)
    assert (found.draft.kind, found.refused) == (TaskKind.GENERATE, None)
    with pytest.raises(InvalidInput) as wrong:
        proposed(tmp_path, "faq.jsonl", ProvidedFacts(label=("sourse",)))
    assert (wrong.value.error_code, "did you mean 'source'?" in wrong.value.hint) == ("column_missing", True)


def test_a_file_that_shows_no_task(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(90)))
    with pytest.raises(InvalidInput) as unclear:
        proposed(tmp_path, "ids.csv")
    assert unclear.value.error_code == "invalid_input"
    assert "--label COLUMN" in unclear.value.hint


def test_texts_and_labels_may_be_several_columns(tmp_path: Path, workspace: Dependencies, writer: Actor) -> None:
    rows = [[words(n, 3), words(n + 900), str(n % 2), str(int(n % 3 == 0)), "ab"[n % 2]] for n in range(240)]
    (tmp_path / "d.csv").write_text(as_csv([["title", "body", "late", "lost", "label"], *rows]))
    said = ProvidedFacts(text=("title", "body"), label=("late", "lost"), terms=TERMS)
    found = proposed(tmp_path, "d.csv", said)
    assert (found.draft.task, found.refused) == ("classify-many", None)
    assert 'text: ["title", "body"]' in found.text
    assert "The text is title and body, with a blank line between." in found.draft.instruction
    seen = curate(workspace, writer, write_objective(tmp_path, found.draft.name, found.text)[1], Progress())
    assert sorted(seen.manifest.label_counts) == ["late", "lost"]
    with pytest.raises(InvalidInput, match="'label' is no column of 0 and 1"):
        proposed(tmp_path, "d.csv", ProvidedFacts(label=("late", "label")))
