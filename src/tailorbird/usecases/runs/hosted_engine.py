"""Engine of a hosted candidate: the model of an endpoint, asked within a budget, and what it said of itself meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tailorbird.domain.dataset import Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.endpoint import MOST_FINGERPRINTS, Endpoint, HostedUse
from tailorbird.domain.errors import Exhausted, InvalidInput
from tailorbird.domain.evidence import TokenChances
from tailorbird.domain.ladder import Making
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.endpoint import EndpointClient, HostedAnswer
from tailorbird.ports.engine import Embeddings, Engine, Generation, LabelScores, Likelihood, ProbeRequest, Ranked
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.endpoints import demand_currency, demand_terms, tell_sent, usable_endpoint
from tailorbird.usecases.runs.context import StepContext

#: Requests under way at once, where nobody asks for more.
AT_ONCE = 4


class HostedEngine:
    """Implements ``Engine`` for the model of an endpoint: it writes answers, and does nothing else. What is looked up for a text is found
    by ``finder``, the engine of this machine, which is opened where a servable looks something up.

    ``money`` may be spent, in the endpoint's currency; ``pay`` is told after each batch what that cost, however it ended. From ``load`` on,
    the server must name what answers as it did when the candidate was made; before, as it does first. A filter before the model refuses
    without its name: that says nothing of who answers.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        client: Callable[[], EndpointClient],
        money: float,
        pay: Callable[[float], None] | None = None,
        at_once: int = AT_ONCE,
        finder: Callable[[], Engine] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._model = model
        self._open = client
        self._client: EndpointClient | None = None
        self._runner: asyncio.Runner | None = None
        self._money, self._spent, self._pay = money, 0.0, pay
        self._lost = (0, 0)
        self._at_once = at_once
        self._open_finder = finder
        self._finder: Engine | None = None
        self._answers: list[HostedAnswer] = []
        self._reported: str | None = None

    @property
    def use(self) -> HostedUse:
        """What was asked and answered so far."""
        answers, told = self._answers, self._endpoint
        prints = sorted({each.fingerprint for each in answers if each.fingerprint})
        prompt, completion = sum(each.prompt_tokens for each in answers), sum(each.completion_tokens for each in answers)
        return HostedUse(
            endpoint=told.name,
            model=self._model,
            requests=len(answers),
            refused=sum(each.refused for each in answers),
            again=sum(each.again for each in answers),
            prompt_tokens=prompt,
            completion_tokens=completion,
            money=told.cost(prompt + self._lost[0], completion + self._lost[1]),
            currency=told.currency,
            reported=tuple(sorted({each.model for each in answers if each.model})),
            fingerprints=tuple(prints[:MOST_FINGERPRINTS]),
            more_fingerprints=len(prints[MOST_FINGERPRINTS:]),
            lost=sum(self._lost),
            estimated=sum(each.estimated for each in answers),
        )

    def ask(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[HostedAnswer]:
        """One answer per prompt. Raises Exhausted (``budget_spent``: nothing is left for an endpoint that has a price), InvalidInput
        (``endpoint_model_changed``), and as the client does."""
        found, has_price = list[HostedAnswer](), self._endpoint.input_price or self._endpoint.output_price
        for start in range(0, len(prompts), self._at_once):
            if has_price and self._spent >= self._money:
                raise Exhausted(
                    f"the endpoint {self._endpoint.name} has cost {self._spent:.2f} {self._endpoint.currency}, and the budget is used up",
                    "the climb goes on with what was measured; a larger budget in the objective is a new run",
                    code="budget_spent",
                )
            found += self._ask_at_once(prompts[start : start + self._at_once], sampling)
        return found

    def load(self, servable: Servable) -> None:
        """From here on, answers must come from what the servable was made with."""
        if servable.hosted is not None:
            self._reported = servable.hosted.reported
        if servable.retrieval is not None and self._open_finder is not None:
            self._finder = self._open_finder()
            self._finder.load(servable)

    def unload(self, servable: Digest) -> None:
        """Closes the connections."""
        if self._finder is not None:
            self._finder.unload(servable)
        if self._runner is not None and self._client is not None:
            self._runner.run(self._client.close())
            self._runner.close()
        self._runner = self._client = None

    def loaded(self) -> tuple[Digest, ...]:
        """Nothing is held here."""
        return ()

    def generate(
        self,
        servable: Digest,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        """One answer per prompt; that of a prompt which the server refused is empty."""
        del servable, on_text
        return [
            Generation(
                text="" if each.refused else each.text,
                finish_reason=each.finish_reason,
                prompt_tokens=each.prompt_tokens,
                completion_tokens=each.completion_tokens,
                latency_ms=each.latency_ms,
            )
            for each in self.ask(prompts, sampling)
        ]

    def fingerprint(self) -> str:
        """The endpoint and the model, as asked for and as it answered."""
        use = self.use
        named = f" as {', '.join(use.reported)}" if use.reported else ""
        told = f" ({use.named_fingerprints()})" if use.fingerprints else ""
        return f"hosted: {self._model} at {self._endpoint.name}{named}{told}"

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        """Refused: the protocol gives no probabilities of given answers."""
        del servable, prompts, labels
        raise _unable("scores no labels")

    def likelihood(
        self, servable: Digest, prompts: Sequence[Sequence[Message]], answers: Sequence[str], against: Digest | None = None
    ) -> list[Likelihood]:
        """Refused, as ``score``."""
        del servable, prompts, answers, against
        raise _unable("tells no likelihoods")

    def probe(self, request: ProbeRequest) -> list[TokenChances]:
        """Refused, as ``score``."""
        del request
        raise _unable("tells no first tokens")

    def count_tokens(self, base: Path, prompts: Sequence[Sequence[Message]]) -> list[int]:
        """Refused: its tokenizer is not known here."""
        del base, prompts
        raise _unable("counts no tokens")

    def retrieve(self, servable: Digest, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        """As the engine of this machine finds it. Raises InvalidInput where nothing is to be looked up."""
        if self._finder is None:
            raise _unable("looks nothing up")
        return self._finder.retrieve(servable, texts, groups, count)

    def rank(self, servable: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """Refused: nothing is ranked there."""
        del servable, text, documents, count
        raise _unable("ranks nothing")

    def embed(self, servable: Digest, texts: Sequence[str]) -> Embeddings:
        """Refused: no vectors are made there."""
        del servable, texts
        raise _unable("makes no vectors")

    def _ask_at_once(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[HostedAnswer]:
        """Raises what the first raises that failed. Whatever ends it, answers that came are paid for."""
        if self._runner is None or self._client is None:
            self._runner, self._client = asyncio.Runner(), self._open()
        client, before = self._client, self._client.lost
        came: dict[int, HostedAnswer] = {}

        async def ask(place: int) -> None:
            came[place] = await client.answer(prompts[place], sampling)

        async def ask_all() -> list[BaseException | None]:
            # One that fails ends no other: what was sent is paid for.
            return await asyncio.gather(*map(ask, range(len(prompts))), return_exceptions=True)

        try:
            faults = self._runner.run(ask_all())
        finally:
            answers = [came[place] for place in sorted(came)]
            read, written = client.lost[0] - before[0], client.lost[1] - before[1]
            self._answers += answers
            self._lost = self._lost[0] + read, self._lost[1] + written
            read, written = read + sum(each.prompt_tokens for each in answers), written + sum(each.completion_tokens for each in answers)
            cost = self._endpoint.cost(read, written)
            self._spent += cost
            if self._pay is not None:
                self._pay(cost)
        for error in (*faults, *map(self._of_another_model, answers)):
            if error is not None:
                raise error
        return answers

    def _of_another_model(self, answer: HostedAnswer) -> InvalidInput | None:
        """The error for an answer of another model than before."""
        if answer.refused and not answer.model:
            return None
        if self._reported is None:
            self._reported = answer.model
        if answer.model == self._reported:
            return None
        return InvalidInput(
            f"the endpoint {self._endpoint.name} answers as {answer.model or 'nobody'}, and did as {self._reported or 'nobody'}",
            "its model was changed under one name: name a version of it, and adapt again",
            code="endpoint_model_changed",
        )


#: As what passages are told that leave the house, beside the names of splits.
DOCUMENTS = "documents"


def engine_for(context: StepContext, servable: Servable, rows: Mapping[str, int]) -> Engine:
    """The engine that answers for a candidate: the machine's own, or the hosted model of the run's objective, or of the release that it is
    compared with, to which at most so many ``rows`` of each split are sent, and passages of the documents where it is shown some. That they
    are is written first.

    Raises NotFound, Forbidden (policy, terms), InvalidInput (``endpoint_changed``: its address is not the one of the plan, or that the
    candidate was made with).
    """
    hosted = servable.hosted
    if hosted is None:
        return context.deps.engine()
    passages = {DOCUMENTS: len(context.documents)} if servable.retrieval is not None else {}
    return _admitted(context, hosted.endpoint, hosted.model, hosted.url, {**rows, **passages})


@contextmanager
def asked_for_rung(context: StepContext, rung: RungPlan) -> Iterator[HostedEngine | None]:
    """The hosted model that a rung asks to make its candidate; None for a rung of this machine alone. Raises as ``engine_for``."""
    wishes = context.objective.hosted
    if wishes is None or rung.endpoint is None:
        yield None
        return
    # Who answers is asked without rows; those that are demonstrations stand in every prompt from then on.
    shown = {Split.TRAIN.value: 0 if rung.grounded else rung.shots}
    engine = _admitted(context, wishes.endpoint, wishes.model, rung.endpoint.url, shown)
    try:
        yield engine
    finally:
        engine.unload("")


def _admitted(context: StepContext, name: str, model: str, url: str, rows: Mapping[str, int]) -> HostedEngine:
    """The model of an endpoint within what is left of the budget, where all who have to agree do now, and what is sent was written."""
    deps, objective = context.deps, context.objective
    endpoint = usable_endpoint(deps, context.run.tenant, name)
    demand_terms(objective, name)
    if url != endpoint.url:
        raise InvalidInput(
            f"the endpoint {name} has another address than was planned, or than the candidate was made with",
            "adapt again: what answers there was not measured",
            code="endpoint_changed",
        )
    demand_currency(deps, endpoint, objective)
    with deps.ledger.work(context.run.tenant) as work:
        for split, most in rows.items():
            facts: Facts = {"objective": objective.name, "run": context.run.id, "split": split, "rows": most, "model": model}
            tell_sent(work, context.actor.name, deps, endpoint, facts)
    left = max(0.0, objective.budget.money - context.spent.money)
    pay = context.payments.pay if context.payments else None
    return HostedEngine(
        endpoint, model, lambda: deps.endpoint_client(endpoint, model), left, pay, max(AT_ONCE, context.concurrency), deps.engine
    )


def paid(making: Making, asked: HostedEngine | None) -> Making:
    """What a step leaves, with what a hosted model was asked meanwhile, and paid."""
    if asked is None:
        return making
    return making.model_copy(update={"hosted": asked.use, "money": making.money + asked.use.money})


def _unable(what: str) -> InvalidInput:
    return InvalidInput(f"a hosted model {what}", "use a rung of this machine for that")
