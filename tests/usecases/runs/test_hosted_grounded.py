"""A hosted model that is shown passages: found here, sent with the rows where the documents' terms let them, told, released and erased."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.doubles import MemoryEndpoint
from support.hosted import (
    MODEL,
    NAMED,
    SECTION,
    SOURCE,
    allow,
    endpoint,
    hosting,
    last_word,
    register,
)
from support.ranking import WideReader
from support.usecases import VIEWER, write_objective
from tailorbird.domain.erasure import ObligationKind
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.prompt import Message
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure.erase import erase
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt

SECRET = "The board buys the mill by login on Friday."
WHO = "Ada Lovelace"
PASSAGES = (
    {"id": "fees", "text": "A refund takes three days.", "groups": ["everyone"]},
    {"id": "post", "text": "A delivery comes by noon.", "groups": ["everyone"]},
    {"id": "keys", "text": "A login needs a key.", "who": WHO, "groups": ["everyone"]},
    {"id": "board", "text": SECRET, "groups": ["board"]},
)
GROUNDED: dict[str, Any] = NAMED | {
    "ladder": ["hosted"],
    "hosted": SECTION | {"variants": ["grounded"]},
    "documents": [{"path": "d.jsonl", "access": "groups", "subject": "who", "source": SOURCE}],
}


def led(prompt: Sequence[Message]) -> str:
    """Knows nothing without a passage on a label."""
    return last_word(prompt) if any(each["text"] in prompt[0].content for each in PASSAGES[:3]) else "?"


def granted(deps: Dependencies, client: MemoryEndpoint) -> Dependencies:
    deps = replace(hosting(deps, client), model_reader=WideReader)
    register(deps, endpoint())
    allow(deps, "outside")
    return deps


def written(folder: Path, **changes: object) -> Path:
    path = write_objective(folder, **GROUNDED | changes)
    (path.parent / "d.jsonl").write_text("".join(json.dumps(each) + "\n" for each in PASSAGES))
    return path


def climbed(deps: Dependencies, author: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, Progress()).run.id)


def sent(deps: Dependencies) -> list[tuple[object, object]]:
    with deps.ledger.work("acme", write=False) as work:
        told = [entry.event.data for entry in work.events.entries() if entry.event.kind == "data.sent"]
    return [(each["split"], each["rows"]) for each in told]


def test_passages_are_found_here_and_shown_there(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)
    told = climbed(deps, author, written(tmp_path / "job"))
    [climb] = told.ladder.climbs
    assert (climb.rung, climb.variant) == (RungKind.HOSTED, "grounded")
    assert climb.evidence.metrics["accuracy"].value > 0.9
    with deps.ledger.work("acme", write=False) as work:
        candidate = work.records.get(Candidate, climb.candidate)
    assert (candidate.retrieval.what, candidate.retrieval.count) == ("passages", 3)
    # Nothing that not everybody may read has left the house; that passages do was written before the first did.
    assert not any(SECRET in message.content for prompt in client.asked for message in prompt)
    assert ("documents", 4) in sent(deps)
    assert [split for split, _ in sent(deps)][:3] == ["train", "dev", "documents"]
    assert sent(deps)[0] == ("train", 0), "no training row is sent"
    release = show_release(deps, VIEWER, str(told.conclusion.release))
    assert (release.content.hosted, release.content.retrieval) == (candidate.hosted, candidate.retrieval)
    card = deps.artifacts.get(release.dossier.card).decode()
    assert "(rung hosted, variant grounded)" in card
    assert candidate.retrieval.index in card
    assert "is sent there, with passages of the documents" in card
    assert client.closed


def test_a_document_that_is_erased_reaches_the_release_and_the_server(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    told = climbed(deps, author, written(tmp_path / "job"))
    release = str(told.conclusion.release)
    certificate = erase(deps, act_as(deps, "acme", "admin"), WHO).certificate
    assert certificate.reach.releases == (release,)
    assert len(certificate.reach.indexes) == 1
    duties = {duty.kind: duty for duty in certificate.duties}
    assert duties[ObligationKind.RETIRE].what in release
    processor = duties[ObligationKind.TELL_PROCESSOR]
    assert processor.what == "outside (https://llm.example)"
    assert f"documents of run {told.run.id}" in processor.why
    assert "passages that release" in processor.why
