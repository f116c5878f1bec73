"""Texts labelled by a hosted model: kept where it agrees with itself, marked, in train alone, and never by one that saw the test."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.doubles import MemoryEndpoint
from support.hosted import MODEL, NAMED, SOURCE, allow, endpoint, hosting, last_word, register
from support.usecases import write_objective
from tailorbird import data
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import (
    AnswerLost,
    Conflict,
    Exhausted,
    Forbidden,
    InvalidInput,
    NotFound,
    ObjectiveInvalid,
    TailorbirdError,
)
from tailorbird.domain.prompt import Message
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.annotation import Annotations, LeftOut, annotate, rows_digest
from tailorbird.usecases.runs.submit import adapt, curate
from tailorbird.usecases.snapshots import find_snapshot

TEACHER = {"endpoint": "outside", "model": MODEL, "path": "texts.csv", "source": SOURCE}
MADE = {"endpoint": "outside", "model": MODEL, "at": "2026-01-01T00:00:00+00:00"}


def taught(deps: Dependencies, client: MemoryEndpoint) -> Dependencies:
    deps = hosting(deps, client)
    register(deps)
    allow(deps, "outside")
    return deps


def job(folder: Path, *texts: str, **changes: Any) -> Path:
    path = write_objective(folder, **({"teacher": TEACHER} | changes))
    (folder / "texts.csv").write_text("\n".join(["text", *texts]) + "\n")
    return path


def annotated(deps: Dependencies, author: Actor, path: Path) -> Annotations:
    found = list[Annotations]()
    annotate(deps, author, path, Progress(), found.append)
    return found[0]


def rows_of(deps: Dependencies) -> dict[Split, list[Row]]:
    with deps.ledger.work("acme", write=False) as work:
        manifest = find_snapshot(work, "desk").manifest
    return {split: list(data.load_rows(manifest, deps.artifacts, split)) for split in Split}


def test_what_it_labels_alike_twice_is_kept(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    def answering(prompt: Sequence[Message]) -> str:
        text, first_listed = prompt[-1].content, prompt[0].content.split("exactly one of: ")[1].split(",")[0]
        return first_listed if "either" in text else "who knows" if "nothing" in text else last_word(prompt)

    client = MemoryEndpoint(answering, model=MODEL)
    deps = replace(taught(deps, client), redact=lambda text: text.replace("ada@example.com", "[EMAIL]"))
    texts = ("please refund", "please login", "either of them", "nothing of the kind", "ada@example.com wants a refund", "please refund")
    path = job(tmp_path / "job", *texts)
    curate(deps, author, path, Progress())
    measured = rows_of(deps)[Split.TEST][0].text
    (tmp_path / "job" / "texts.csv").write_text("\n".join(["text", *texts, measured]) + "\n")
    found = annotated(deps, author, path)
    assert found.rows == (("please refund", "refund"), ("please login", "login"))
    assert (found.disagreed, found.unlabelled) == (1, 1)
    assert found.left_out == LeftOut(personal=1, repeated=1, blank=0)
    assert found.use.requests == len(client.asked) == 2 * 4
    sent = " ".join(message.content for prompt in client.asked for message in prompt)
    assert "ada@example.com" not in sent
    assert measured not in sent


def test_it_is_learned_from_and_marked(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = taught(deps, MemoryEndpoint(last_word, model=MODEL))
    path = job(tmp_path / "job")
    curate(deps, author, path, Progress())
    before = rows_of(deps)
    repeated = before[Split.TEST][0]
    with (tmp_path / "job" / "made.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), ("a wholly new wish for money back", "refund"), (repeated.text, repeated.answer)])
    generated = {"path": "made.csv", "split": "train", "source": SOURCE | {"generated": MADE}}
    content = {"data": [{"path": "rows.csv", "source": SOURCE}, generated]}
    curate(deps, author, job(tmp_path / "job", **content), Progress())
    after = rows_of(deps)
    made = [row for row in after[Split.TRAIN] if row.provenance.transforms == (f"generated:{MODEL} at outside",)]
    assert [row.text for row in made] == ["a wholly new wish for money back"]
    assert {row.id for row in after[Split.TEST]} == {row.id for row in before[Split.TEST]}
    assert not any(
        step.startswith("generated") for split in (Split.DEV, Split.TEST) for row in after[split] for step in row.provenance.transforms
    )


def test_generated_rows_are_never_measured_on(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    for split in (None, "dev", "test"):
        source = {"path": "rows.csv", "source": SOURCE | {"generated": MADE}} | ({"split": split} if split else {})
        with pytest.raises(ObjectiveInvalid) as refused:
            curate(deps, author, job(tmp_path / "job", data=[source]), Progress())
        assert "never measured on" in str(refused.value)


SHOWN_AT = "https://llm.example"


@pytest.mark.parametrize(
    ("again", "model", "seen"),
    [
        ({"url": "https://LLM.example:443/v1"}, "small", True),
        ({"url": "https://eu.llm.example"}, f"{MODEL}-2026-11-01", True),
        ({"url": "https://reseller.example"}, f"maker/{MODEL}", True),
        ({"url": "https://eu.llm.example"}, "small", False),
    ],
)
def test_a_server_that_is_registered_under_another_name_was_shown_it_too(
    deps: Dependencies, author: Actor, tmp_path: Path, again: dict[str, Any], model: str, seen: bool
) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)
    deps = taught(deps, client)
    register(deps, endpoint(name="other", **again))
    allow(deps, "outside", "other")
    teacher = TEACHER | {"endpoint": "other", "model": model, "source": SOURCE | {"processors": ["other"]}}
    path = job(tmp_path / "job", "please refund", ladder=["hosted"], teacher=teacher, **NAMED)
    adapt(deps, author, path, Progress())
    asked = len(client.asked)
    made = {"path": "made.csv", "split": "train", "source": SOURCE | {"generated": MADE | {"endpoint": "other", "model": model}}}
    with (tmp_path / "job" / "made.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), ("a wholly new wish for money back", "refund")])
    content = {"teacher": teacher, "data": [{"path": "rows.csv", "source": SOURCE}, made]}
    if not seen:
        assert annotated(deps, author, path).rows == (("please refund", "refund"),)
        curate(deps, author, job(tmp_path / "job", **content), Progress())
        return
    with pytest.raises(Conflict) as refused:
        annotated(deps, author, path)
    assert refused.value.error_code == "teacher_saw_test"
    assert len(client.asked) == asked
    with pytest.raises(ObjectiveInvalid) as late:
        curate(deps, author, job(tmp_path / "job", **content), Progress())
    assert late.value.error_code == "teacher_saw_test"


def test_what_was_labelled_before_the_test_was_shown_is_learned_from(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """The time is what the log knows, and not what the objective says."""
    deps = taught(deps, MemoryEndpoint(last_word, model=MODEL))
    path = job(tmp_path / "job", "a wholly new wish for a refund", ladder=["hosted"], **NAMED)
    curate(deps, author, path, Progress())
    found = annotated(deps, author, path)
    with deps.ledger.work("acme", write=False) as work:
        (told,) = (entry.event for entry in work.events.entries() if entry.event.kind == "data.annotated")
    assert (told.subject, told.data["url"], told.data["model"], told.data["reported"], told.data["rows"]) == (
        "outside",
        SHOWN_AT,
        MODEL,
        MODEL,
        1,
    )
    assert told.data["digest"] == rows_digest(found.rows)
    assert told.data["at"] == found.at.isoformat(timespec="seconds")
    adapt(deps, author, path, Progress())
    with (tmp_path / "job" / "made.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *found.rows])

    def with_made(at: str, model: str = MODEL) -> Path:
        made = {"path": "made.csv", "split": "train", "source": SOURCE | {"generated": MADE | {"at": at, "model": model}}}
        return job(tmp_path / "job", data=[{"path": "rows.csv", "source": SOURCE}, made])

    curate(deps, author, with_made(found.at.isoformat(timespec="seconds")), Progress())
    for elsewhere in (with_made("2025-12-31T00:00:00+00:00"), with_made(found.at.isoformat(timespec="seconds"), "another")):
        with pytest.raises(ObjectiveInvalid) as refused:
            curate(deps, author, elsewhere, Progress())
        assert refused.value.error_code == "teacher_saw_test"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"teacher": TEACHER | {"source": {"origin": "x", "license": "Apache-2.0"}}}, Forbidden),
        ({"teacher": TEACHER | {"endpoint": "other"}}, NotFound),
        ({"teacher": None}, InvalidInput),
    ],
)
def test_what_may_not_be_sent_is_not(
    deps: Dependencies, author: Actor, tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)
    deps = taught(deps, client)
    path = job(tmp_path / "job", "please refund", **changes)
    curate(deps, author, path, Progress())
    with pytest.raises(error):
        annotated(deps, author, path)
    assert client.asked == []


class Killed(BaseException):
    """Stands for what ends a process."""


@pytest.mark.parametrize("fault", [AnswerLost("the endpoint broke the answer off", "", code="endpoint_unavailable"), Killed()])
def test_what_is_labelled_when_a_call_breaks_off_is_handed_over(
    deps: Dependencies, author: Actor, tmp_path: Path, fault: BaseException
) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)
    deps = taught(deps, client)
    path = job(tmp_path / "job", *(f"case {n} wants a refund" for n in range(40)))
    curate(deps, author, path, Progress())

    def answering(prompt: Sequence[Message]) -> str | TailorbirdError:
        if len(client.asked) > 70:
            if isinstance(fault, TailorbirdError):
                return fault
            raise fault
        return last_word(prompt)

    client.answering, found = answering, list[Annotations]()
    with pytest.raises(type(fault)):
        annotate(deps, author, path, Progress(), found.append)
    assert (len(found[0].rows), found[0].unasked, client.closed) == (32, 8, 1)


def test_a_budget_that_is_used_up_ends_it(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)
    deps = taught(deps, client)
    register(deps, endpoint(input_price=1000.0))
    path = job(tmp_path / "job", *(f"case {n} wants a refund" for n in range(40)), budget={"money": 0.5, "hours": 1})
    curate(deps, author, path, Progress())
    with pytest.raises(Exhausted) as spent:
        annotated(deps, author, path)
    assert spent.value.error_code == "budget_spent"
    assert 0 < len(client.asked) < 80
