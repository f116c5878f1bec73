"""A person is forgotten beyond the rows: in documents and indexes, in prompts, and in the words that serving keeps."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import support.ledger_samples as sample
from support.ranking import WideReader
from support.usecases import everything, on_both_databases, somebody, write_objective
from tailorbird import data
from tailorbird.chat.conversations import fold_answer, fold_turns
from tailorbird.chat.tool_calls import tools_text
from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.crypto.merkle import Proof, TreeHead, verify_membership
from tailorbird.data.privacy import OwnDetector
from tailorbird.domain.dataset import JOINED, Provenance, Row, SnapshotManifest
from tailorbird.domain.deployment import FORGOTTEN, Alias, AliasTarget, RequestRow
from tailorbird.domain.erasure import Certificate, Erasure, ErasureState, ObligationKind
from tailorbird.domain.errors import NotFound
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind, KeptWords, Review, ReviewReason
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.prompt import Message, ToolCall, with_reasoning
from tailorbird.serving.alias_routes import experiment_unit
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.erasure.lineage import SubjectData
from tailorbird.usecases.erasure.places import texts_of
from tailorbird.usecases.feedback import give_feedback, redact, settle_review
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases.promotion import sign_and_decide
from tailorbird.usecases.runs.submit import adapt, plan
from tailorbird.usecases.snapshots import find_snapshot

WHO = "Ada Lovelace"
SAID = "Ada keeps the keys of the mill under the third stone by the gate."
ORIGIN = {"origin": "written for this test", "license": "Apache-2.0"}


@pytest.fixture
def admin(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "admin")


def forget(deps: Dependencies, admin: Actor, who: str = WHO) -> tuple[Erasure, Certificate]:
    found = erase.erase(deps, admin, who)
    return found.erasure, found.certificate


def manifest_of(deps: Dependencies, name: str) -> SnapshotManifest:
    with deps.ledger.work("acme", write=False) as work:
        return find_snapshot(work, name).manifest


@pytest.fixture
def grounded(tmp_path: Path) -> Path:
    """An objective with two documents: one of the person, one of nobody."""
    documents = [{"path": "d.jsonl", "subject": "who", "source": ORIGIN}]
    path = write_objective(tmp_path / "grounded", ladder=["grounding"], documents=documents)
    lines = [{"id": "fees", "text": "A refund takes three days.", "who": None}, {"id": "keys", "text": SAID, "who": WHO}]
    (path.parent / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_documents_go_and_both_ends_are_proved(deps: Dependencies, author: Actor, admin: Actor, grounded: Path) -> None:
    wide = replace(deps, model_reader=WideReader)
    plan(wide, author, grounded, Progress())
    before = manifest_of(deps, "desk")
    _, certificate = forget(deps, admin)
    after = manifest_of(deps, "desk")
    assert [document.id for document in data.load_documents(after, deps.artifacts)] == ["fees"]
    assert (after.parent, after.size, after.rows) == (digest_of(before), before.size, before.rows)
    (rewritten,) = certificate.snapshots
    assert rewritten.rows == ()
    told = rewritten.documents
    assert (told.count, told.old_size, told.new_size) == (1, 2, 1)
    (proof,) = told.proofs
    was, gone = Proof.model_validate_json(proof.was), Proof.model_validate_json(proof.is_gone)
    assert (was.present, gone.present, was.key) == (True, False, gone.key)
    assert verify_membership(was, TreeHead(root=told.old_root, size=told.old_size))
    assert verify_membership(gone, TreeHead(root=told.new_root, size=told.new_size))
    assert (certificate.reach.documents, certificate.reach.passages) == (1, 1)
    (source,) = (duty for duty in certificate.duties if duty.kind is ObligationKind.CLEAN_SOURCE)
    assert (source.what, "line 2" in source.why) == ("d.jsonl", True)
    assert SAID not in everything(deps)
    assert "A refund takes three days." in everything(deps)
    again = plan(wide, author, grounded, Progress()).manifest
    assert [document.id for document in data.load_documents(again, deps.artifacts)] == ["fees"]


@on_both_databases
def test_an_index_goes_once_no_release_needs_it(deps: Dependencies, author: Actor, approver: Actor, admin: Actor, grounded: Path) -> None:
    ended = adapt(replace(deps, model_reader=WideReader), author, grounded, Progress())
    release = str(ended.conclusion.release)
    asked, first = forget(deps, admin)
    (index,) = first.reach.indexes
    assert (first.reach.releases, first.reach.runs) == ((release,), (ended.run.id,))
    assert [duty.kind for duty in first.duties if duty.what in release] == [ObligationKind.RETIRE]
    assert deps.artifacts.exists(index)
    assert SAID in everything(deps)
    erase.certify(deps, admin, asked.id, digest_of(first), admin.sign(erase.PURPOSE, digest_of(first)))
    assert forget(deps, admin)[1] == first
    sign_and_decide(deps, approver, release, "reject", "a person was erased")
    asked, second = forget(deps, admin)
    assert (second.earlier, asked.state, asked.signature) == (digest_of(first), ErasureState.OPEN, None)
    assert set(first.purged) < set(second.purged)
    assert not [duty for duty in second.duties if duty.kind is ObligationKind.RETIRE]
    assert {duty.kind for duty in second.duties} == {ObligationKind.CLEAN_SOURCE, ObligationKind.EXPIRE_BACKUPS}
    assert not deps.artifacts.exists(index)
    assert SAID not in everything(deps)
    done = erase.certify(deps, admin, asked.id, digest_of(second), admin.sign(erase.PURPOSE, digest_of(second)))
    assert done.state is ErasureState.DONE
    assert forget(deps, admin)[1] == second


def test_a_prompt_that_no_release_uses_goes_and_one_in_use_is_marked(
    deps: Dependencies, author: Actor, approver: Actor, admin: Actor, tmp_path: Path
) -> None:
    source = [{"path": "rows.csv", "subject": "who", "source": ORIGIN}]
    path = write_objective(tmp_path / "job", data=source, ladder=["prompt"], kpis=[{"metric": "accuracy", "target": 0.7}])
    place = path.parent / "rows.csv"
    header, *lines = place.read_text().splitlines()
    place.write_text("\n".join([f"{header},who", *(f"{line},person {n // 10}" for n, line in enumerate(lines))]) + "\n")
    ended = adapt(deps, author, path, Progress())
    with deps.ledger.work("acme", write=False) as work:
        candidates = {digest: work.records.get(Candidate, digest) for digest in work.records.digests(Candidate)}
        used = work.releases.get(ended.conclusion.release).content.candidate if ended.conclusion.release else None
    shown = next(found.prompt.demonstrations[0] for found in candidates.values() if found.prompt.demonstrations)
    (number,) = (n for n, line in enumerate(lines) if line.startswith(shown.text))
    _, certificate = forget(deps, admin, f"person {number // 10}")
    reached = set(certificate.reach.prompts)
    assert reached == {digest for digest, found in candidates.items() if shown in found.prompt.demonstrations}
    assert set(certificate.forgotten) == reached - {used}
    assert (ObligationKind.RETIRE in {duty.kind for duty in certificate.duties}) == (used in reached)
    if used in reached:
        sign_and_decide(deps, approver, str(ended.conclusion.release), "reject", "a person was erased")
        assert forget(deps, admin, f"person {number // 10}")[1].forgotten == (used,)
    with deps.ledger.work("acme", write=False) as work:
        assert reached.isdisjoint(work.records.digests(Candidate))
    other = next(n for n, line in enumerate(lines) if n // 10 != number // 10 and line.split(",")[0] != shown.text)
    assert forget(deps, admin, f"person {other // 10}")[1].reach.runs


# ------------------------------------------------------------------------------------------------ words of requests


def row(request: str, **changes: object) -> RequestRow:
    return sample.request("acme").model_copy(update={"id": request, "alias": "acme/desk"} | changes)


class Desk:
    """A desk that was asked things, and keeps the words."""

    def __init__(self, deps: Dependencies) -> None:
        self.deps = deps
        self.now = deps.clock.now()
        with deps.ledger.work("acme") as work:
            for version, salt in ((1, ""), (2, "pepper")):
                target = AliasTarget(release=digest_bytes(b"release"))
                stood = {"tenant": "acme", "name": "desk", "moved_at": self.now, "moved_by": "operator"}
                self.alias = Alias(targets=(target,), version=version, salt=salt, **stood)
                work.aliases.put(self.alias)

    def asked(self, request: str, text: str, answer: str = "refund", user: str = "") -> None:
        """As the journal writes it."""
        unit = experiment_unit(self.alias, user) if user else ""
        until = self.now + timedelta(days=30)
        with self.deps.ledger.work("acme") as work:
            work.requests.add([row(request, at=self.now, unit=unit, release=None)])
            work.contents.add([KeptWords(tenant="acme", request=request, text=text, answer=answer, at=self.now, expires_at=until)])
            work.reviews.add([Review(tenant="acme", request=request, alias="acme/desk", reason=ReviewReason.SAMPLE, queued_at=self.now)])


@pytest.fixture
def person(deps: Dependencies, author: Actor, tmp_path: Path) -> str:
    """An objective with one row of the person, and what it says."""
    path = write_objective(tmp_path / "job", data=[{"path": "rows.csv", "subject": "who", "source": ORIGIN}])
    place = path.parent / "rows.csv"
    header, *lines = place.read_text().splitlines()
    said = "the parcel that I sent to mill road on monday was opened by somebody else"
    theirs = f"{said},delivery,{WHO}"
    place.write_text("\n".join([f"{header},who", *(f"{line}," for line in lines), theirs]) + "\n")
    plan(deps, author, path, Progress())
    return said


@on_both_databases
def test_words_of_the_person_go_and_others_stay(deps: Dependencies, admin: Actor, person: str) -> None:
    desk = Desk(deps)
    desk.asked("same", person.upper() + "!")
    desk.asked("within", f"Hello, {person}. Can you help?")
    desk.asked("answer", "what happened?", answer=f"You said: {person}")
    desk.asked("named", f"tell {WHO} that I called")
    desk.asked("sent", "something else altogether", user=WHO)
    desk.asked("labelled", "what did they say?")
    desk.asked("stranger", "the parcel that I sent was opened", user="Charles Babbage")
    give_feedback(deps, somebody("key-1"), FeedbackGiven(request="labelled", kind=FeedbackKind.LABEL, value=person))
    give_feedback(deps, somebody("key-1"), FeedbackGiven(request="same", kind=FeedbackKind.THUMB, value="down"))
    settle_review(deps, act_as(deps, "acme", "reviewer"), "sent", "WORDS OF A REVIEWER")
    _, certificate = forget(deps, admin)
    went = {each.request: (each.why, each.what) for each in certificate.words}
    every = ("kept", "review", "trace")
    assert went == {
        "answer": ("held", every),
        "labelled": ("held", ("kept", "feedback", "review", "trace")),
        "named": ("held", every),
        "same": ("held", every),
        "sent": ("sent", ("kept", "feedback", "review", "trace")),
        "within": ("held", every),
    }
    assert all(len(each.key) == 64 for each in certificate.words)
    with deps.ledger.work("acme", write=False) as work:
        assert [one.request for one in work.contents.page("", 9)] == ["stranger"]
        left_of = {one.id: (one.unit, one.sketch, one.prediction) for one in work.requests.latest() if one.id != "stranger"}
        assert left_of == dict.fromkeys(went, ("", "", None)) | {"sent": (FORGOTTEN, "", None)}
        assert work.requests.get("stranger").unit
        assert Counter(work.reviews.get(request).state for request in went) == {"dropped": 5, "settled": 1}
        assert [(said.kind, said.value) for said in work.feedback.of("same")] == [(FeedbackKind.THUMB, "down")]
    left = everything(deps)
    assert not [words for words in (person, person.upper(), WHO, "WORDS OF A REVIEWER", "something else altogether") if words in left]
    assert "the parcel that I sent was opened" in left
    assert forget(deps, admin)[1] == certificate


def test_who_only_asked_is_forgotten_too_and_found_again_later(deps: Dependencies, admin: Actor) -> None:
    desk = Desk(deps)
    with pytest.raises(NotFound):
        erase.erase(deps, admin, WHO)
    desk.asked("first", "where is it", user=WHO)
    first_asked, first = forget(deps, admin)
    assert ([each.request for each in first.words], first.snapshots) == (["first"], ())
    desk.asked("second", "where is it", user=WHO)
    asked, second = forget(deps, admin)
    assert ([each.request for each in second.words], second.earlier, asked.id) == (["second"], digest_of(first), first_asked.id)


@pytest.mark.parametrize("who", ["มด", "지수"])
def test_a_name_too_short_to_look_for_is_said_on_the_certificate(deps: Dependencies, admin: Actor, who: str) -> None:
    """Kept words that named the person stayed, and the certificate said that kept words had been searched."""
    desk = Desk(deps)
    desk.asked("named", f"ask {who} about it")
    with pytest.raises(NotFound) as refused:
        erase.erase(deps, admin, who)
    assert "not searched for the name" in refused.value.message
    assert "longer name" in (refused.value.hint or "")
    desk.asked("sent", "where is it", user=who)
    _, certificate = forget(deps, admin, who)
    assert [each.request for each in certificate.words] == ["sent"]
    places = ("uploads", "prompts and label reviews", "requests")
    (limit,) = certificate.not_looked_for
    assert (limit.places, "fewer than five letters" in limit.why) == (places, True)
    hows = {place.name: place.how for place in certificate.places}
    assert all("NOT searched for the person's name" in hows[name] for name in places)
    (duty,) = [duty for duty in certificate.duties if duty.kind is ObligationKind.FIND_BY_HAND]
    assert (duty.what, "longer name" in duty.why) == (", ".join(places), True)
    assert who not in certificate.model_dump_json()
    assert forget(deps, admin, who)[1] == certificate


def test_redacted_words_are_recognised(deps: Dependencies, author: Actor, admin: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "job", data=[{"path": "rows.csv", "subject": "who", "source": ORIGIN}])
    place = path.parent / "rows.csv"
    header, *lines = place.read_text().splitlines()
    said = "write to ada.l@example.org when the parcel that was opened has been found again"
    place.write_text("\n".join([f"{header},who", *(f"{line}," for line in lines), f"{said},delivery,{WHO}"]) + "\n")
    plan(deps, author, path, Progress())
    Desk(deps).asked("redacted", said.replace("ada.l@example.org", "[EMAIL]"))
    assert [each.request for each in forget(replace(deps, redact=redact), admin)[1].words] == ["redacted"]


def test_an_erasure_ends_where_a_detector_fails(
    deps: Dependencies, author: Actor, admin: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "İSSMRA85T10A562S is my code"
    path = write_objective(tmp_path / "job", data=[{"path": "rows.csv", "subject": "who", "source": ORIGIN}])
    place = path.parent / "rows.csv"
    header, *lines = place.read_text().splitlines()
    place.write_text("\n".join([f"{header},who", *(f"{line}," for line in lines), f"{said},delivery,{WHO}"]) + "\n")
    plan(deps, author, path, Progress())
    Desk(deps).asked("as-read", said)

    def fails(*_: object) -> None:
        raise KeyError(said)

    monkeypatch.setattr(OwnDetector, "detect", fails)
    _, certificate = forget(replace(deps, redact=redact), admin)
    assert [each.request for each in certificate.words] == ["as-read"]
    (limit,) = certificate.not_looked_for
    assert (limit.places, "1 texts" in limit.what, "detector" in limit.why) == (("requests",), True, True)
    (duty,) = [duty for duty in certificate.duties if duty.kind is ObligationKind.FIND_BY_HAND]
    assert "longer name" not in duty.why
    assert said not in certificate.model_dump_json()


def test_what_rows_say_is_looked_for_as_requests_keep_it() -> None:
    """A question that offers functions is folded, and an answer has its reasoning before it: neither was found in what was kept."""
    said = ToolCall(name="f", arguments='{"to": "Marta"}')
    question = Message(role="user", content="where is it?", tools=tools_text([{"name": "f"}]))
    target = with_reasoning("hm", fold_answer(Message(role="assistant", content="", tool_calls=(said,))))
    plainly = Provenance.model_construct(transforms=())
    row = Row.model_construct(text=fold_turns([question]), target=target, provenance=plainly)
    looked_for = set(texts_of({"": SubjectData([row])}, answers=True))
    assert {"where is it?", "user: where is it?", 'f({"to": "Marta"})', target} <= looked_for
    plain = Row.model_construct(text="where is it?", target=with_reasoning("hm", "In the mill."), provenance=plainly)
    assert set(texts_of({"": SubjectData([plain])}, answers=True)) == {"where is it?", plain.target, "In the mill."}


def test_texts_of_several_columns_are_looked_for_one_by_one() -> None:
    """In an upload each stands in a cell of its own."""
    body = "The mill at the brook has been closed since the flood."
    joined = Row.model_construct(text=f"The mill\n\n{body}", target="a", provenance=Provenance.model_construct(transforms=(JOINED,)))
    assert set(texts_of({"": SubjectData([joined])}, answers=False)) == {joined.text, body}


def test_what_was_answered_within_a_conversation_is_looked_for() -> None:
    earlier = "Your claim for the roof of the mill was approved on Friday."
    held = SubjectData((), (), tuple(Row.model_construct(text="and?", target=said) for said in (earlier, "You are welcome.")))
    looked_for = set(texts_of({"sha256:" + "0" * 64: held}, answers=True))
    assert earlier in looked_for
    assert "You are welcome." not in looked_for  # anybody's
    assert earlier not in set(texts_of({"sha256:" + "0" * 64: held}, answers=False))
