"""Grounding by a released ranking: named, checked, recorded, and followed when that release is taken back or a person erased."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryEncoder
from support.ranking import EncoderReader, WideReader, write_ranking
from support.usecases import VIEWER, write_objective
from tailorbird.domain.erasure import ObligationKind
from tailorbird.domain.errors import Conflict, ObjectiveInvalid
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.run import RunState
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure.erase import erase
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt, plan, submit

ORIGIN = {"origin": "written for this test", "license": "Apache-2.0"}
WHO = "Ada Lovelace"


@pytest.fixture
def ranking(deps: Dependencies) -> Dependencies:
    encoder = MemoryEncoder()
    return replace(deps, model_reader=EncoderReader, encoder=lambda: encoder)


@pytest.fixture
def answering(ranking: Dependencies) -> Dependencies:
    return replace(ranking, model_reader=WideReader)


def released(deps: Dependencies, author: Actor, path: Path) -> Release:
    ended = adapt(deps, author, path, Progress())
    assert ended.conclusion.release is not None
    return show_release(deps, VIEWER, ended.conclusion.release)


def write_tuned(folder: Path, **changes: object) -> Path:
    """A ranking whose only rung tunes an encoder."""
    return write_ranking(folder, ladder=["bi-encoder"], **changes)


def approve(deps: Dependencies, release: Release) -> None:
    promotion.sign_and_decide(deps, act_as(deps, "acme", "approver"), release.digest, "approve", "read")


def promote(deps: Dependencies, release: Release) -> None:
    operator = act_as(deps, "acme", "operator")
    approve(deps, release)
    promotion.stage(deps, operator, release.digest)
    promotion.promote(deps, operator, release.digest)


def write_grounded(folder: Path, encoder: str, **changes: object) -> Path:
    changes = {"ladder": ["grounding"], "grounding": {"encoder": encoder}} | changes
    path = write_objective(folder, documents=[{"path": "d.jsonl", "access": "groups", "source": ORIGIN}], **changes)
    fees = {"id": "fees", "text": "A refund takes three days.", "groups": ["everyone"]}
    (folder / "d.jsonl").write_text(json.dumps(fees) + "\n")
    return path


def refused(deps: Dependencies, author: Actor, path: Path) -> ObjectiveInvalid:
    with pytest.raises(ObjectiveInvalid) as told:
        submit(deps, author, path, RunState.PLANNING)
    lines = path.read_text().splitlines()
    assert told.value.line
    assert "encoder" in lines[told.value.line - 1] or "grounding" in lines[told.value.line - 1]
    return told.value


def climbed(deps: Dependencies, author: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, Progress()).run.id)


def test_passages_are_found_by_the_release_that_answers_under_the_alias(
    ranking: Dependencies, answering: Dependencies, author: Actor, tmp_path: Path
) -> None:
    lender = released(ranking, author, write_tuned(tmp_path / "ranking"))
    promote(ranking, lender)
    told = climbed(answering, author, write_grounded(tmp_path / "desk", "acme/search"))
    (rung,) = told.plan.rungs
    assert (rung.ranker.release, rung.ranker.objective) == (lender.digest, "search")
    assert rung.variant == "1 by search" or rung.variant.endswith(" by search")
    assert any(lender.digest[7:19] in reason.text for reason in rung.reasons)
    assert told.conclusion.release is not None
    own, lent = show_release(answering, VIEWER, told.conclusion.release).content.retrieval, lender.content.retrieval
    assert (own.what, own.release) == ("passages", lender.digest)
    assert (own.encoder, own.tuned, own.ways) == (lent.encoder, lent.tuned, lent.ways)
    assert own.tuned is not None
    assert own.index != lent.index


def test_a_release_that_nobody_approved_is_refused(ranking: Dependencies, answering: Dependencies, author: Actor, tmp_path: Path) -> None:
    lender = released(ranking, author, write_tuned(tmp_path / "ranking"))
    told = refused(answering, author, write_grounded(tmp_path / "desk", lender.digest))
    assert told.error_code == "forbidden"
    assert "release approve" in told.hint


def test_a_release_of_another_tenant_is_refused_by_alias_and_unknown_by_digest(
    answering: Dependencies, author: Actor, tmp_path: Path
) -> None:
    assert refused(answering, author, write_grounded(tmp_path / "desk", "beta/search")).error_code == "other_tenant"
    assert refused(answering, author, write_grounded(tmp_path / "digest", "sha256:" + "ab" * 32)).error_code == "encoder_missing"
    assert refused(answering, author, write_grounded(tmp_path / "alias", "acme/search")).error_code == "encoder_missing"


def test_what_uses_a_release_that_was_taken_back_is_not_staged_and_what_answers_goes_on(
    ranking: Dependencies, answering: Dependencies, author: Actor, tmp_path: Path
) -> None:
    lender = released(ranking, author, write_tuned(tmp_path / "ranking"))
    promote(ranking, lender)
    first = released(answering, author, write_grounded(tmp_path / "desk", "acme/search"))
    promote(answering, first)
    second = released(answering, author, write_grounded(tmp_path / "help", "acme/search", name="help"))
    approve(answering, second)
    operator = act_as(answering, "acme", "operator")
    promotion.roll_back(ranking, operator, "search", "it found the wrong pages", withdraw=True)
    with pytest.raises(Conflict) as told:
        promotion.stage(answering, operator, second.digest)
    assert told.value.error_code == "conflict"
    assert show_release(answering, VIEWER, first.digest).state is ReleaseState.PRODUCTION


def test_a_person_who_is_erased_is_followed_through_the_encoder_that_was_lent(
    ranking: Dependencies, answering: Dependencies, author: Actor, tmp_path: Path
) -> None:
    path = write_tuned(tmp_path / "ranking", data=[{"path": "queries.csv", "subject": "who", "source": ORIGIN}])
    rows = (path.parent / "queries.csv").read_text().splitlines()
    named = [f"{row},{WHO if place <= 20 else f'person {place}'}" for place, row in enumerate(rows[1:], 1)]
    (path.parent / "queries.csv").write_text("\n".join([f"{rows[0]},who", *named]) + "\n")
    lender = released(ranking, author, path)
    promote(ranking, lender)
    borrower = released(answering, author, write_grounded(tmp_path / "desk", "acme/search"))
    waiting = plan(answering, author, write_grounded(tmp_path / "help", "acme/search", name="help"), Progress()).run
    certificate = erase(answering, act_as(answering, "acme", "admin"), WHO).certificate
    assert {lender.digest, borrower.digest} <= set(certificate.reach.releases)
    due = {duty.what: duty for duty in certificate.duties if duty.kind is ObligationKind.RETRAIN}
    assert borrower.digest[7:19] in due
    assert lender.digest[7:19] in due[borrower.digest[7:19]].why
    with answering.ledger.work("acme", write=False) as work:
        assert work.runs.get(waiting.id).state is RunState.CANCELLED
    told = refused(answering, author, write_grounded(tmp_path / "new", "acme/search", name="new"))
    assert told.error_code == "conflict"
