"""A hosted model that is shown passages: found here, sent with the rows where the documents' terms let them, told, released and erased."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.doubles import MemoryEndpoint, MemoryEngine
from support.hosted import (
    DONE,
    MODEL,
    NAMED,
    SECTION,
    SOURCE,
    USAGE,
    Reply,
    ScriptedServer,
    allow,
    endpoint,
    event,
    hosting,
    last_word,
    register,
    serving,
)
from support.ranking import WideReader
from support.usecases import VIEWER, write_objective
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.erasure import ObligationKind
from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.plan import Plan
from tailorbird.domain.prompt import Message
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure.erase import erase
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases.load_verification import admit_hosted
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt, plan

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


def hosted_variants(drafted: Plan) -> list[str]:
    return [rung.variant for rung in drafted.rungs if rung.rung is RungKind.HOSTED]


def test_passages_are_found_here_and_shown_there(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)
    told = climbed(deps, author, written(tmp_path / "job"))
    assert told.ladder is not None
    [climb] = told.ladder.climbs
    assert (climb.rung, climb.variant) == (RungKind.HOSTED, "grounded")
    assert climb.evidence.metrics["accuracy"].value > 0.9
    with deps.ledger.work("acme", write=False) as work:
        candidate = work.records.get(Candidate, climb.candidate)
    assert candidate.retrieval is not None
    assert (candidate.retrieval.what, candidate.retrieval.count) == ("passages", 3)
    # Nothing that not everybody may read has left the house; that passages do was written before the first did.
    assert not any(SECRET in message.content for prompt in client.asked for message in prompt)
    assert ("documents", 4) in sent(deps)
    assert [split for split, _ in sent(deps)][:3] == ["train", "dev", "documents"]
    assert sent(deps)[0] == ("train", 0), "no training row is sent"
    assert told.conclusion is not None
    release = show_release(deps, VIEWER, str(told.conclusion.release))
    assert (release.content.hosted, release.content.retrieval) == (candidate.hosted, candidate.retrieval)
    card = deps.artifacts.get(release.dossier.card).decode()
    assert "(rung hosted, variant grounded)" in card
    assert candidate.retrieval.index in card
    assert "is sent there, with passages of the documents" in card
    assert client.closed


def test_a_release_is_admitted_with_what_it_looks_up(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    told = climbed(deps, author, written(tmp_path / "job"))
    assert told.conclusion is not None
    servable = admit_hosted(deps, LoadRequest(tenant="acme", release=str(told.conclusion.release), purpose="staging"))
    assert servable is not None
    assert servable.retrieval is not None
    assert servable.base == ""
    engine = MemoryEngine()
    engine.load(servable)
    found = {
        group: engine.retrieve(servable.id, ["the board buys the mill"], frozenset({EVERYONE, *group}), 3)[0] for group in ((), ("board",))
    }
    assert SECRET not in {one.entry.text for one in found[()]}
    assert SECRET in {one.entry.text for one in found["board",]}


@pytest.mark.parametrize("processors", [[], ["another"]])
def test_documents_whose_terms_forbid_it_do_not_leave(deps: Dependencies, author: Actor, tmp_path: Path, processors: list[str]) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)
    path = written(tmp_path / "job", documents=[{"path": "d.jsonl", "source": SOURCE | {"processors": processors}}])
    with pytest.raises(ObjectiveInvalid) as refused:
        adapt(deps, author, path, Progress())
    assert refused.value.error_code == "terms_forbid"
    assert "d.jsonl" in str(refused.value)
    assert refused.value.line == path.read_text().splitlines().index("  endpoint: outside") + 1
    assert (client.asked, sent(deps)) == ([], [])


def test_without_documents_it_is_left_out_with_the_reason(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    asked = GROUNDED | {"hosted": SECTION | {"variants": ["zero-shot", "grounded"]}}
    drafted = plan(deps, author, write_objective(tmp_path / "job", **{k: v for k, v in asked.items() if k != "documents"}), Progress()).plan
    assert hosted_variants(drafted) == ["zero-shot"]
    [refusal] = [each for each in drafted.left_out if each.variant == "grounded"]
    assert "the objective names no documents" in refusal.reason


@pytest.mark.parametrize(
    ("changes", "grounded"),
    [
        ({"ladder": "auto", "hosted": SECTION}, True),
        ({"ladder": ["grounding", "hosted"], "hosted": SECTION}, True),
        ({"ladder": ["prompt", "hosted"], "hosted": SECTION}, False),
        ({"ladder": "auto", "hosted": SECTION | {"variants": ["few-shot"]}}, False),
    ],
)
def test_it_is_planned_where_the_ladder_tries_grounding(
    deps: Dependencies, author: Actor, tmp_path: Path, changes: dict[str, Any], grounded: bool
) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    drafted = plan(deps, author, written(tmp_path / "job", **changes), Progress()).plan
    assert ("grounded" in hosted_variants(drafted)) is grounded


def test_its_passages_are_planned_and_paid_for(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    asked = SECTION | {"variants": ["zero-shot", "grounded"]}
    drafted = plan(deps, author, written(tmp_path / "job", hosted=asked), Progress())
    bare, grounded = (next(rung for rung in drafted.plan.rungs if rung.variant == variant) for variant in ("zero-shot", "grounded"))
    assert bare.serving_cost is not None
    assert grounded.serving_cost is not None
    assert grounded.serving_cost.likely > bare.serving_cost.likely
    assert (grounded.shots, grounded.grounded, bare.grounded) == (3, True, False)
    told = " ".join(reason.text for reason in grounded.reasons)
    assert "the instruction with 3 passages: rows of dev and passages leave the house, to EU (Example Ltd)" in told


def test_generated_answers_are_measured_against_their_passages(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    task = {"kind": "generate", "instruction": "Say the last word."}
    kpis = [{"metric": "exact_match", "target": 0.8}, {"metric": "groundedness", "target": 0.1}]
    told = climbed(deps, author, written(tmp_path / "job", task=task, kpis=kpis))
    assert told.ladder is not None
    [climb] = told.ladder.climbs
    assert climb.evidence.metrics["exact_match"].value > 0.9
    assert climb.evidence.metrics["groundedness"].n > 0


def test_a_document_that_is_erased_reaches_the_release_and_the_server(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    told = climbed(deps, author, written(tmp_path / "job"))
    assert told.conclusion is not None
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


class Reading(ScriptedServer):
    """A server that answers as ``led``."""

    def reply_to(self, body: dict[str, Any]) -> Reply:
        messages = [Message.model_validate(each) for each in body["messages"]]
        return Reply(parts=(event(led(messages)), event(finish_reason="stop", delta={}), USAGE, DONE))


def test_a_real_server(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    with serving(Reading(Reply())) as server:
        deps = replace(hosting(deps), model_reader=WideReader)
        deps = replace(deps, endpoint_client=lambda one, model: OpenAiEndpoint(one, model, lambda: "", first_wait=0.01))
        register(deps, endpoint(url=server.url, private=True, key=None))
        allow(deps, "outside")
        told = climbed(deps, author, written(tmp_path / "job"))
    assert told.ladder is not None
    assert told.ladder.climbs[0].evidence.metrics["accuracy"].value > 0.9
    assert SECRET not in json.dumps(server.asked)
