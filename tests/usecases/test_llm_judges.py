"""A model judges beside people: asked by those who may review, run where the model is, heard only where it agrees with people."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.doubles import MemoryEngine
from support.usecases import VIEWER, open_workspace, write_disputed, write_objective
from support.workspace_ledger import close_workspace, copy_workspace
from tailorbird.data import load_rows
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.errors import Busy, Conflict, Exhausted, Forbidden, InvalidInput, ModelInvalid, NotFound
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.identity import Role
from tailorbird.domain.label_review import JudgeResult, JudgeState, Mark, ModelReview, ReviewItem, ReviewResult, ReviewSheet
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LabelScores
from tailorbird.processes.worker import StepWorker
from tailorbird.release import candidate_side, check_judge
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure.request_erasure import sheet_in
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.label_reviews import label_review, llm_judges
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import submit as climbing

ANSWERS = re.compile(r"Text: (?P<text>.*)\n\nAnswer A: (?P<a>.*)\n\nAnswer B: (?P<b>.*)\n\nWhich")


class Judging(MemoryEngine):
    """The twin, which judges as it is told: ``wants`` gives the answer that it prefers to a text, or None: then it says A."""

    def __init__(self, wants: Callable[[str], str | None]) -> None:
        super().__init__()
        self.wants, self.asked = wants, list[str]()
        self.error: BaseException | None = None

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        if tuple(labels) != ("A", "B"):
            return super().score(servable, prompts, labels)
        self._find(servable)
        if self.error is not None:
            raise self.error
        self.asked += [prompt[-1].content for prompt in prompts]
        return [self._judged(prompt[-1].content) for prompt in prompts]

    def _judged(self, asked: str) -> LabelScores:
        found = ANSWERS.search(asked)
        assert found is not None
        wanted = self.wants(found["text"])
        chosen = wanted is None or found["a"] == wanted
        return LabelScores(log_probabilities=(-0.1, -2.3) if chosen else (-2.3, -0.1), prompt_tokens=1, latency_ms=1.0)


def seated(deps: Dependencies, likes: str | None = "refund", wants: Callable[[str], str | None] | None = None) -> Judging:
    """A judge in the place of the engine, which prefers the label ``likes`` unless it ``wants`` something else."""
    engine = Judging(wants or (lambda _text: likes))
    object.__setattr__(deps, "engine", lambda: engine)
    return engine


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with a release whose sheet is long: the model takes every message of one label for another's."""
    folder = tmp_path_factory.mktemp("made")
    deps = open_workspace(folder / "workspace")
    ended = climbing.adapt(deps, act_as(deps, "acme", "author"), write_disputed(folder / "risky", every=1, target=0.5), Progress())
    deps.ledger.close()
    assert ended.conclusion is not None
    return folder, str(ended.conclusion.release)


@pytest.fixture
def reviewers(deps: Dependencies) -> list[Actor]:
    return [act_as(deps, "acme", name) for name in ("reviewer", "approver")]


@pytest.fixture
def deps(made: tuple[Path, str], tmp_path: Path) -> Iterator[Dependencies]:
    """A copy of it."""
    opened = open_workspace(copy_workspace(made[0] / "workspace", tmp_path / "workspace"))
    yield opened
    close_workspace(opened.workspace, opened.ledger)


@pytest.fixture
def release(made: tuple[Path, str]) -> str:
    return made[1]


@pytest.fixture
def judge_model(tmp_path: Path) -> str:
    """A model of another width than the one that the answers are from."""
    return model_at(tmp_path / "wide", hidden_size=16)


def model_at(folder: Path, **config: int) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


def sheet_of(deps: Dependencies, release: str) -> ReviewSheet:
    with deps.ledger.work("acme", write=False) as work:
        return sheet_in(work, str(work.releases.get(release).dossier.review))


def judged(deps: Dependencies, actor: Actor, release: str, model: str, progress: Progress | None = None) -> ModelReview:
    return llm_judges.hold(deps, actor, llm_judges.ask(deps, actor, release, model, here=True), progress or Progress())


def result_of(deps: Dependencies, release: str) -> ReviewResult:
    found = label_review.show_review(deps, VIEWER, release).result
    assert found is not None
    return found


def judge_of(deps: Dependencies, release: str) -> JudgeResult:
    [judge] = result_of(deps, release).judges
    return judge


def events(deps: Dependencies, subject: str) -> list[tuple[str, dict[str, Any]]]:
    with deps.ledger.work("acme", write=False) as work:
        return [(entry.event.kind, entry.event.data) for entry in work.events.about(subject) if entry.event.kind.startswith("judge.")]


def test_a_model_judges_each_pair_in_both_orders(deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str) -> None:
    engine, counted = seated(deps), list[tuple[int, int]]()
    found = judged(deps, reviewers[0], release, judge_model, Progress(count=lambda done, total: counted.append((done, total))))
    assert found.state is JudgeState.DONE
    assert len(engine.asked) == 2 * len(found.marks) == counted[-1][0] == counted[-1][1]
    assert len(set(engine.asked)) == len(engine.asked)
    for private in (release, "desk", "acme", "floor", "prompt", "zero-shot"):
        assert not any(private in asked for asked in engine.asked)
    assert all(mark.is_agreed for mark in found.marks)
    judge = judge_of(deps, release)
    assert (judge.agreed, judge.judged, judge.kappa.value, judge.counts) == (1, len(found.marks), None, False)
    assert judge.base == found.base
    assert not engine.loaded()
    assert [kind for kind, _ in events(deps, release)] == ["judge.asked", "judge.judged"]
    assert events(deps, release)[0][1] == {"model": judge_model, "bar": 0.4}


def test_asked_again_it_is_the_same_review(deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str) -> None:
    engine = seated(deps)
    first = judged(deps, reviewers[0], release, judge_model)
    asked = len(engine.asked)
    object.__setattr__(deps, "judge_kappa", 0.99)
    assert judged(deps, reviewers[1], release, judge_model) == first
    assert len(engine.asked) == asked
    assert len(events(deps, release)) == 2, "nothing happened the second time"
    assert judge_of(deps, release).bar == 0.4, "the bar is the one it was asked under"


def test_a_judge_replaces_nobody(deps: Dependencies, operator: Actor, reviewers: list[Actor], release: str, judge_model: str) -> None:
    seated(deps)
    before = result_of(deps, release)
    judged(deps, reviewers[0], release, judge_model)
    after = result_of(deps, release)
    assert after.model_copy(update={"judges": ()}) == before
    assert (after.verdict, after.missing, after.reviewers) == (Verdict.INCONCLUSIVE, 2, ())
    for actor in reviewers:
        promotion.sign_and_decide(deps, actor, release, "approve", "read")
    with pytest.raises(Forbidden) as caught:
        promotion.stage(deps, operator, release)
    assert caught.value.error_code == "review_missing"


def review_by(deps: Dependencies, actor: Actor, release: str, *, candidate_up_to: int = 12, tie_from: int = 33) -> None:
    """People prefer the candidate's answer on the first items, neither on the last, the other between: nothing is proven by that."""
    shown = label_review.next_shown(deps, actor, release)
    while shown.number:
        sheet = sheet_of(deps, release)
        item = sheet.items[shown.number - 1]
        side = Mark(candidate_side(sheet, actor.name, item))
        other, number = Mark.LEFT if side is Mark.RIGHT else Mark.RIGHT, item.repeat_of or item.number
        mark = side if number <= candidate_up_to else Mark.TIE if number >= tie_from else other
        shown = label_review.judge(deps, actor, release, shown.number, mark, "")


def items_of(deps: Dependencies, release: str) -> dict[str, ReviewItem]:
    """The items of a sheet by their texts."""
    sheet = sheet_of(deps, release)
    with deps.ledger.work("acme", write=False) as work:
        manifest = work.records.get(SnapshotManifest, sheet.snapshot)
    texts = {row.id: row.text for row in load_rows(manifest, deps.artifacts, Split(sheet.split))}
    return {texts[item.item]: item for item in sheet.items if item.repeat_of is None}


def like_people(item: ReviewItem) -> str | None:
    """As ``review_by``, but for four items, which it gives to the other."""
    return item.candidate if item.number <= 10 else None if item.number >= 35 else item.other


def test_a_judge_that_agrees_with_people_blocks_what_they_let_pass(
    deps: Dependencies, operator: Actor, reviewers: list[Actor], release: str, judge_model: str
) -> None:
    for actor in reviewers:
        promotion.sign_and_decide(deps, actor, release, "approve", "read")
        review_by(deps, actor, release)
    assert result_of(deps, release).verdict is Verdict.PASS
    items = items_of(deps, release)
    seated(deps, wants=lambda text: like_people(items[text]))
    judged(deps, reviewers[0], release, judge_model)
    judge, found = judge_of(deps, release), result_of(deps, release)
    assert judge.counts, judge.reason
    assert judge.common == len(items)
    assert found.verdict is Verdict.FAIL
    assert judge_model in found.reason
    with pytest.raises(Forbidden, match="agrees with people: kappa") as caught:
        promotion.stage(deps, operator, release)
    assert caught.value.error_code == "review_missing"


def test_a_judge_that_people_do_not_bear_out_changes_nothing(
    deps: Dependencies, operator: Actor, reviewers: list[Actor], release: str, judge_model: str
) -> None:
    items = items_of(deps, release)
    seated(deps, wants=lambda text: items[text].other)
    judged(deps, reviewers[0], release, judge_model)
    for actor in reviewers:
        promotion.sign_and_decide(deps, actor, release, "approve", "read")
        review_by(deps, actor, release, candidate_up_to=100, tie_from=101)
    judge = judge_of(deps, release)
    assert judge.win_rate.value == 0
    assert judge.win_rate.high is not None
    assert judge.win_rate.high < 0.5
    assert not judge.counts
    assert promotion.stage(deps, operator, release).state.value == "staged"


def test_the_author_asks_no_judge(
    deps: Dependencies, author: Actor, operator: Actor, reviewers: list[Actor], release: str, judge_model: str
) -> None:
    for actor, code in ((author, "role_missing"), (operator, "role_missing")):
        with pytest.raises(Forbidden) as caught:
            llm_judges.ask(deps, actor, release, judge_model, here=True)
        assert caught.value.error_code == code
    with deps.ledger.work("acme") as work:
        work.identities.replace(author.identity.model_copy(update={"roles": author.identity.roles | {Role.REVIEWER}}))
    with pytest.raises(Forbidden) as caught:
        llm_judges.ask(deps, act_as(deps, "acme", "author"), release, judge_model, here=True)
    assert caught.value.error_code == "own_release"
    assert result_of(deps, release).judges == ()


def test_names_that_lead_nowhere_are_refused_at_once(deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str) -> None:
    for name, here, code in (
        ("smolm2-135m", True, "model_unknown"),
        ("hf://nothing", True, "model_unknown"),
        ("no/such/folder", True, "model_unknown"),
        (judge_model, False, "model_unknown"),
        ("minilm-l6-v2", False, "model_kind"),
    ):
        with pytest.raises(ModelInvalid) as caught:
            llm_judges.ask(deps, reviewers[0], release, name, here=here)
        assert caught.value.error_code == code
        assert caught.value.hint
    assert result_of(deps, release).judges == ()


def test_a_release_without_a_sheet_has_no_judge(deps: Dependencies, author: Actor, approver: Actor, tmp_path: Path) -> None:
    ended = climbing.adapt(deps, author, write_objective(tmp_path / "job"), Progress())
    assert ended.conclusion is not None
    assert ended.conclusion.release is not None
    with pytest.raises(NotFound) as caught:
        llm_judges.ask(deps, approver, ended.conclusion.release, "smollm2-135m")
    assert caught.value.error_code == "review_none"
    with pytest.raises(NotFound):
        llm_judges.ask(deps, approver, "sha256:" + "0" * 64, "smollm2-135m")


def test_the_model_behind_the_answers_informs_and_never_counts(
    deps: Dependencies, reviewers: list[Actor], release: str, made: tuple[Path, str]
) -> None:
    items = items_of(deps, release)
    seated(deps, wants=lambda text: like_people(items[text]))
    kin = str(made[0] / "risky" / "base")
    judged(deps, reviewers[0], release, kin)
    for actor in reviewers:
        review_by(deps, actor, release)
    judge = judge_of(deps, release)
    assert judge.kappa.low is not None
    assert judge.kappa.low >= 0.4
    assert not judge.counts
    assert "made from this very model" in judge.reason
    assert result_of(deps, release).verdict is Verdict.PASS


def test_the_candidate_itself_is_refused(deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str) -> None:
    with deps.ledger.work("acme", write=False) as work:
        found = work.releases.get(release)
    own = found.model_copy(update={"content": found.content.model_copy(update={"weights": found.content.base_model})})
    with pytest.raises(Forbidden) as caught:
        check_judge(own, judge_model, found.content.base_model)
    assert caught.value.error_code == "judge_is_candidate"
    check_judge(found, judge_model, found.content.base_model)


def test_a_text_that_a_judge_cannot_read_whole_is_told(deps: Dependencies, reviewers: list[Actor], release: str, tmp_path: Path) -> None:
    engine = seated(deps)
    model = model_at(tmp_path / "narrow", hidden_size=24, max_position_embeddings=16)
    review = llm_judges.ask(deps, reviewers[0], release, model, here=True)
    object.__setattr__(engine, "count_tokens", lambda _base, prompts: [200] * len(prompts))
    with pytest.raises(InvalidInput, match="longer than the 128 tokens") as caught:
        llm_judges.hold(deps, reviewers[0], review, Progress())
    assert caught.value.error_code == "judge_context"
    assert not engine.asked
    assert "judge_context" in judge_of(deps, release).reason
    assert events(deps, release)[-1] == ("judge.failed", {"model": model, "code": "judge_context"})


def test_one_that_failed_waits_again_when_it_is_asked_again(
    deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str
) -> None:
    engine = seated(deps)
    engine.error = RuntimeError("a defect")
    with pytest.raises(RuntimeError):
        judged(deps, reviewers[0], release, judge_model)
    assert "internal" in judge_of(deps, release).reason
    engine.error = None
    assert judged(deps, reviewers[0], release, judge_model).state is JudgeState.DONE
    assert [kind for kind, _ in events(deps, release)] == ["judge.asked", "judge.failed", "judge.asked", "judge.judged"]


def test_an_interruption_gives_it_back(deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str) -> None:
    engine = seated(deps)
    engine.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        judged(deps, reviewers[0], release, judge_model)
    assert judge_of(deps, release).state is JudgeState.WAITING
    engine.error = None
    assert judged(deps, reviewers[0], release, judge_model).state is JudgeState.DONE


def test_one_process_at_a_time_and_not_for_ever(deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str) -> None:
    seated(deps)
    review = llm_judges.ask(deps, reviewers[0], release, judge_model, here=True)
    for attempt in range(llm_judges.MOST_ATTEMPTS):
        with deps.ledger.work("acme") as work:
            assert work.model_reviews.take(review, f"elsewhere:{attempt}", llm_judges.LEASE)
        with pytest.raises(Busy):
            llm_judges.hold(deps, reviewers[0], review, Progress())
        deps.clock.advance(2 * llm_judges.LEASE)  # type: ignore[attr-defined]
    with pytest.raises(Exhausted, match="5 times"):
        llm_judges.hold(deps, reviewers[0], llm_judges.ask(deps, reviewers[0], release, judge_model, here=True), Progress())
    assert judge_of(deps, release).state is JudgeState.FAILED
    assert judged(deps, reviewers[0], release, judge_model).state is JudgeState.DONE


def test_a_worker_asks_the_model_that_somebody_named(deps: Dependencies, reviewers: list[Actor], release: str, judge_model: str) -> None:
    seated(deps)
    llm_judges.ask(deps, reviewers[0], release, judge_model, here=True)
    assert "a worker asks it" in judge_of(deps, release).reason
    told = list[str]()
    StepWorker(deps, Progress(), told.append, once=True).run()
    assert judge_of(deps, release).state is JudgeState.DONE
    assert told == [f"judge {judge_model} of release {release[7:19]} of acme", f"judge {judge_model} is finished"], told
    assert next(data for kind, data in events(deps, release) if kind == "judge.judged")["model"] == judge_model


def test_there_is_an_end_to_judges(deps: Dependencies, reviewers: list[Actor], release: str) -> None:
    for place in range(8):
        llm_judges.ask(deps, reviewers[0], release, f"hf://somebody/model-{place}", here=True)
    with pytest.raises(Conflict) as caught:
        llm_judges.ask(deps, reviewers[0], release, "hf://somebody/one-more", here=True)
    assert caught.value.error_code == "judges_enough"
    assert llm_judges.ask(deps, reviewers[0], release, "hf://somebody/model-3", here=True).state is JudgeState.WAITING


@pytest.mark.slow
def test_a_real_model_judges(deps: Dependencies, reviewers: list[Actor], release: str, base_model_folder: Path) -> None:
    """Twins made the release; the judge is a model that reads, and small enough to prefer a place to an answer."""
    from tailorbird.inference import open_engine, open_model_reader

    with closing(open_engine()) as engine:
        object.__setattr__(deps, "engine", lambda: engine)
        object.__setattr__(deps, "model_reader", open_model_reader)
        review = judged(deps, reviewers[0], release, str(base_model_folder))
        assert not engine.loaded()
    assert review.state is JudgeState.DONE
    assert len(review.marks) == len(items_of(deps, release))
    for mark in review.marks:
        assert mark.as_first != 0
        assert abs(mark.as_first) < 40
    assert len({mark.as_first for mark in review.marks}) > 1, "it reads what it is asked"
    judge = judge_of(deps, release)
    assert judge.agreed is not None
    assert judge.win_rate.value == sum(mark.score for mark in review.marks) / len(review.marks)
    assert review.engine == engine.fingerprint()
