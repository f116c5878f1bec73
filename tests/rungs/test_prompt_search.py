"""Search of a prompt: what it finds, what it may ask, and that a kill changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.rungs import LABELS, KeywordEngine, build_context, make_objective, make_plan_of, make_rows
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.prompt import Message
from tailorbird.ports.engine import Generation, LabelScores
from tailorbird.rungs import RungContext, RungResult, make_candidate
from tailorbird.rungs.context import hold_out
from tailorbird.rungs.prompt_search import JUDGED

Build = Callable[..., RungContext]


@pytest.fixture
def make_context(tmp_path: Path) -> Build:
    """Builds a context in a folder of this test."""
    return partial(build_context, tmp_path)


def planned(calls: int = 300, shots: int = 6) -> RungPlan:
    return make_plan_of("prompt-search", f"{calls} calls", shots=shots).model_copy(update={"calls": calls})


class CountingEngine(KeywordEngine):
    """Counts what it was asked, and dies after so many."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.dies_after = 0, 10**9

    def score(self, servable: str, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        if self.asked + len(prompts) > self.dies_after:
            raise Unavailable("the machine goes down", "start it again")
        self.asked += len(prompts)
        return super().score(servable, prompts, labels)


def made(make_context: Build, engine: KeywordEngine, **changes: Any) -> RungResult:
    return make_candidate(make_context(planned(), **({"engine": lambda: engine} | changes)))


def test_it_finds_demonstrations_that_help(make_context: Build) -> None:
    engine = CountingEngine()
    found = made(make_context, engine)
    candidate, log = found.candidate, found.search
    assert (candidate.rung, candidate.variant, candidate.adapter, candidate.weights) == (RungKind.PROMPT_SEARCH, "300 calls", None, None)
    assert len(candidate.prompt.demonstrations) > 2, "more than it began with"
    assert engine.held == []
    assert log is not None
    [chosen] = [tried for tried in log.tried if tried.prompt == log.chosen]
    assert chosen.low == log.low > 0
    assert log.sentence.endswith("in probability of the right labels against the prompt it began with")
    assert found.training is None


def test_rows_that_judge_are_never_shown_and_dev_is_not_asked(make_context: Build) -> None:
    engine, dev = CountingEngine(), make_rows(600)[500:]
    found = made(make_context, engine, dev=dev)
    shown_from, judged = hold_out(make_rows(120), make_objective().seed, JUDGED)
    texts = {row.text for row in judged}
    shown = {message.content for call in engine.seen for prompt in call for message in prompt[:-1]}
    asked = {prompt[-1].content for call in engine.seen for prompt in call}
    assert not shown & texts
    assert not asked & {row.text for row in dev}
    assert {one.row_id for one in found.candidate.prompt.demonstrations} <= {row.id for row in shown_from}


def test_it_keeps_to_its_calls_and_counts_them(make_context: Build) -> None:
    engine = CountingEngine()
    log = made(make_context, engine).search
    assert log is not None
    assert log.calls <= log.budget == 300
    # Beside the calls of the search three texts without content are scored.
    assert engine.asked - 3 == log.calls


def test_the_same_rows_give_the_same_prompt_and_log_in_any_order(make_context: Build) -> None:
    one, other = made(make_context, CountingEngine()), made(make_context, CountingEngine(), train=tuple(reversed(make_rows(120))))
    assert one.candidate == other.candidate
    assert one.search == other.search


@pytest.mark.parametrize("sealed", ["", "7a" * 32])
def test_after_a_kill_at_most_one_batch_is_asked_again(tmp_path: Path, sealed: str) -> None:
    whole = CountingEngine()
    expected = make_candidate(build_context(tmp_path / "whole", planned(), engine=lambda: whole))
    killed = CountingEngine()
    context = build_context(tmp_path / "killed", planned(), engine=lambda: killed, seal_key=sealed)
    for dies_after in (100, 200):
        killed.dies_after = dies_after
        with pytest.raises(Unavailable):
            make_candidate(context)
    killed.dies_after = 10**9
    again = make_candidate(context)
    assert (again.candidate, again.search) == (expected.candidate, expected.search)
    assert killed.asked == whole.asked
    kept = b"".join(path.read_bytes() for path in (tmp_path / "killed").rglob("*") if path.is_file())
    assert (expected.search.tried[0].prompt.encode() in kept) is not bool(sealed)


def test_a_search_over_other_rows_does_not_go_on_with_the_answers(make_context: Build) -> None:
    engine = CountingEngine()
    made(make_context, engine)
    first = engine.asked
    made(make_context, engine, snapshot="sha256:" + "1" * 64)
    assert engine.asked == 2 * first


class Short(CountingEngine):
    """Reads prompts of at most so many messages, and none whose text is among ``unread``."""

    def __init__(self, messages: int = 99, unread: Sequence[str] = ()) -> None:
        super().__init__()
        self.messages, self.unread = messages, unread

    def score(self, servable: str, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        if any(len(prompt) > self.messages or prompt[-1].content in self.unread for prompt in prompts):
            raise InvalidInput("the prompt is too long", "shorten it")
        return super().score(servable, prompts, labels)


def test_a_prompt_that_the_model_does_not_read_is_dropped(make_context: Build) -> None:
    log = made(make_context, Short(messages=9)).search
    assert log is not None
    assert log.dropped["not read by the model"] > 0
    assert all(len(tried.demonstrations) <= 4 for tried in log.tried)


def test_a_generate_task_is_searched_by_its_kpi(make_context: Build) -> None:
    class Echo(CountingEngine):
        def generate(self, servable: str, prompts: Sequence[Sequence[Message]], *more: Any) -> list[Generation]:
            said = [label for prompt in prompts for label in LABELS if label in prompt[-1].content]
            texts = [label if len(prompt) > 2 else "nothing" for label, prompt in zip(said, prompts, strict=True)]
            return [Generation(text=t, finish_reason="stop", prompt_tokens=1, completion_tokens=1, latency_ms=1.0) for t in texts]

    objective = make_objective("generate").model_copy(update={"compare_on": "rouge_l"})
    engine = Echo()
    given = {"engine": lambda: engine, "objective": objective, "labels": ()}
    found = make_candidate(make_context(planned(calls=600), **given))
    assert found.search is not None
    assert found.search.metric == "rouge_l"
    scores = {len(tried.demonstrations) > 0: tried.score for tried in found.search.tried}
    assert scores == {True: 1.0, False: 0.0}
    assert found.candidate.prompt.demonstrations


class Copying(CountingEngine):
    """Says what it was shown of the subject of a text, with ``more`` behind it; of others nothing."""

    def __init__(self, more: str = "") -> None:
        super().__init__()
        self.more = more

    def generate(self, servable: str, prompts: Sequence[Sequence[Message]], *more: Any) -> list[Generation]:
        shown = [{message.content for message in prompt if message.role == "assistant"} for prompt in prompts]
        wanted = [f"our reply on {prompt[-1].content.split()[0]}" for prompt in prompts]
        texts = [answer + self.more if answer in known else "nothing" for answer, known in zip(wanted, shown, strict=True)]
        return [Generation(text=t, finish_reason="stop", prompt_tokens=1, completion_tokens=1, latency_ms=1.0) for t in texts]


def replies(subjects: int) -> tuple[Row, ...]:
    """Texts on so many subjects, to each of which there is one reply."""
    said = [(row, f"subject{at % subjects}") for at, row in enumerate(make_rows(144))]
    return tuple(row.model_copy(update={"text": f"{on} {row.text}", "target": f"our reply on {on}"}) for row, on in said)


def searched_replies(make_context: Build, engine: KeywordEngine, metric: str) -> RungResult:
    objective = make_objective("generate").model_copy(update={"compare_on": metric})
    given = {"engine": lambda: engine, "objective": objective, "labels": (), "train": replies(12)}
    return make_candidate(make_context(planned(shots=12), **given))


def test_every_answer_is_shown_where_there_is_room(make_context: Build) -> None:
    found = searched_replies(make_context, Copying(), "rouge_l")
    assert len({one.target for one in found.candidate.prompt.demonstrations}) == 12
    assert found.search is not None
    assert found.search.low > 0.3, "it began with three of twelve answers"
