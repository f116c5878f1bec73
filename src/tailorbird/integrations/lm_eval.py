"""EleutherAI's lm-evaluation-harness: its tasks as retention probes, answered by our engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Engine
from tailorbird.ports.harness import Harness, Rights
from tailorbird.text.harness_tasks import read_task

#: Questions of a task that are asked, at most; questions that are put to the engine in one call; the longest answer in tokens.
MOST_QUESTIONS, _CHUNK, _FREE_TOKENS = 200, 64, 128
#: By what a question counts as right, the first that a task measures.
_RIGHT = ("acc", "exact_match")


def open_harness() -> Harness:
    """The harness that is installed."""
    return LmEvalHarness()


class LmEvalHarness:
    """Implements ``Harness``."""

    def ask(self, engine: Engine, servable: Digest, tasks: Sequence[Path], tell: Callable[[int, int], None]) -> Mapping[str, Rights]:
        """As ``Harness.ask``; no few-shot examples are shown unless a task says so."""
        found = simple_evaluate(
            model=_Answering(engine, servable, tell),
            tasks=[read_task(path) for path in tasks],
            limit=MOST_QUESTIONS,
            bootstrap_iters=0,
            log_samples=True,
            verbosity="ERROR",
        )
        samples: dict[str, list[dict[str, Any]]] = found["samples"]
        return {name: _rights(name, told) for name, told in samples.items()}


def _rights(name: str, samples: Sequence[dict[str, Any]]) -> dict[str, bool]:
    metric = next((metric for metric in _RIGHT if samples and metric in samples[0]), None)
    if metric is None:
        what = f"the task {name} measures neither {' nor '.join(_RIGHT)}"
        raise InvalidInput(what, "add one of them to its metric_list", code="harness_task")
    return {f"{name}:{sample['doc_id']}": float(sample[metric]) >= 1.0 for sample in samples}


class _Answering(LM):  # type: ignore[misc]
    """A servable as the harness asks a model. Each question is one message of a user; an answer's likelihood is that of the whole answer,
    end of turn included, as labels are scored."""

    def __init__(self, engine: Engine, servable: Digest, tell: Callable[[int, int], None]) -> None:
        super().__init__()
        self._engine, self._servable, self._tell = engine, servable, tell

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Nats of each continuation. Whether it is the likeliest of all is never told: tasks that need it are refused."""
        asked = [request.args for request in requests]
        found: list[tuple[float, bool]] = []
        for start in range(0, len(asked), _CHUNK):
            part = asked[start : start + _CHUNK]
            answers = [continuation.strip() for _, continuation in part]
            found += [(one.nats, False) for one in self._engine.likelihood(self._servable, [_said(said) for said, _ in part], answers)]
            self._tell(len(found), len(asked))
        return found

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy answers, each cut where the task says."""
        asked = [request.args for request in requests]
        found: list[str] = []
        for start in range(0, len(asked), _CHUNK):
            part = asked[start : start + _CHUNK]
            made = self._engine.generate(self._servable, [_said(said) for said, _ in part], Sampling(max_tokens=_FREE_TOKENS))
            found += [_cut(one.text, settings.get("until") or ()) for one, (_, settings) in zip(made, part, strict=True)]
            self._tell(len(found), len(asked))
        return found

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Never asked for: task files are held to what is above."""
        del requests
        raise InvalidInput("tasks of whole texts are not asked", "use output_type: multiple_choice or generate_until", code="harness_task")


def _said(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _cut(text: str, stops: str | Sequence[str]) -> str:
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text.strip()
