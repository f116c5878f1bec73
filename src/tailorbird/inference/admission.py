"""Request admission: servable held, prompt tokenized, length checked, job built."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from tailorbird.chat.tool_calls import offered_tools
from tailorbird.domain.errors import InvalidInput, TailorbirdError
from tailorbird.domain.prompt import REASONING_TOKENS, Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.inference.forward_factory import Forward
from tailorbird.inference.jobs import EngineJob, GenerationFormat, GenerationJob, LabelScoring, TextScoring, WeightLease
from tailorbird.inference.registry import Loaded, Registry
from tailorbird.inference.scheduling import TokenSequence
from tailorbird.inference.text.decoding import Constraint, RowSampler
from tailorbird.inference.worker import EngineWorker
from tailorbird.ports.engine import LabelScores, Told

Conversation = Sequence[Message]
#: Is told everything of a request; False: nobody wants more.
Tell = Callable[[Told], bool]
Cancel = Callable[[], None]
#: The groups of whoever asks from outside; None for this process itself, which is never told to come back later.
Asker = frozenset[str] | None


class Followed(NamedTuple):
    """A text's tokens, the hidden states that predict them, and what makes logits of those."""

    tokens: tuple[int, ...]
    hidden_RE: torch.Tensor
    logits: Callable[[torch.Tensor], torch.Tensor]


class ProbedBy(NamedTuple):
    """How a probe is asked: of the ``bare`` decoder, without its adapter, or not; ``name``, which nobody else has, keeps it apart."""

    bare: bool
    name: str


class _Given(NamedTuple):
    """What a job is made from."""

    loaded: Loaded
    tokens: list[int]
    holding: WeightLease
    started: float
    groups: frozenset[str]

    def sequence(self, tokens: list[int], *, room: int = 0, leaves: int = 0, watched: int = -1) -> TokenSequence:
        """``tokens`` as the scheduler takes them: the tenant's share, the release's memory, as far as the groups share it."""
        return TokenSequence(self.loaded.servable.tenant, self.loaded.salt, tokens, room, leaves, watched, groups=self.groups)


class RequestAdmission:
    """Begins jobs. Every method returns a way to cancel, and raises NotFound (not loaded), InvalidInput (cannot be computed) and, for an
    ``asker`` (the groups of somebody outside), Exhausted (too many wait)."""

    def __init__(self, registry: Registry, worker: EngineWorker) -> None:
        self._registry = registry
        self._worker = worker

    def score(self, servable: Digest, prompt: Conversation, labels: Sequence[str], tell: Tell, *, asker: Asker = None) -> Cancel:
        """The labels' log-probabilities after ``prompt``."""

        def make(given: _Given) -> EngineJob:
            tree = given.loaded.trees.of(labels)
            _check_length(len(given.tokens), tree.depth, given.loaded)
            sequence = given.sequence(given.tokens, leaves=len(tree.tokens))

            def scored(nats: tuple[float, ...], energy: float) -> None:
                tell(
                    LabelScores(
                        log_probabilities=nats,
                        energy=energy,
                        prompt_tokens=sequence.prompt,
                        latency_ms=(time.perf_counter() - given.started) * 1000,
                        cached_tokens=sequence.cached,
                    )
                )

            return LabelScoring(sequence, given.holding, tree, scored)

        return self._begin(servable, prompt, make, tell, asker=asker, at_once=True)

    def follow(
        self,
        servable: Digest,
        prompt: Conversation,
        answer: str,
        tell: Callable[[Followed | TailorbirdError], object],
        probed: ProbedBy | None = None,
    ) -> Cancel:
        """Hidden states that predict each token of ``answer``, the end of the turn included, after ``prompt``."""

        def make(given: _Given) -> EngineJob:
            chat = given.loaded.chat
            [tokens] = chat.answers_to([prompt], [("", answer)]) if offered_tools(prompt) else chat.answers([answer])
            _check_length(len(given.tokens), len(tokens), given.loaded)
            sequence = given.sequence(given.tokens + tokens[:-1], watched=len(given.tokens) - 1)
            sequence.patient = probed is not None
            forward: Forward = given.loaded.decoder.content
            return TextScoring(sequence, given.holding, lambda hidden: tell(Followed(tuple(tokens), hidden, forward.logits)))

        return self._begin(servable, prompt, make, tell, at_once=True, probed=probed)

    def answer(self, servable: Digest, prompt: Conversation, drawn: tuple[Sampling, int], tell: Tell, *, asker: Asker = None) -> Cancel:
        """An answer to ``prompt``; ``drawn`` says how, and the prompt's place in its call."""
        sampling, place = drawn
        if sampling.max_tokens < 1:
            raise InvalidInput("max_tokens must be at least 1", "ask for one token or more", code="max_tokens")

        def make(given: _Given) -> EngineJob:
            loaded = given.loaded
            # What the form of the answer, or a call that must come, allows.
            tools = offered_tools(prompt)
            if sampling.json_schema is not None:
                constraint: Constraint | None = loaded.grammars.constraint(sampling.json_schema)
            elif not tools or sampling.tool_choice == "auto":
                constraint = None
            else:
                grammar = loaded.chat.tools.grammar(tools, sampling.tool_choice)
                if grammar is None:
                    raise InvalidInput(
                        "this model's chat template writes calls in a form that no grammar here holds it to",
                        "leave tool_choice out: the model then calls a function where it sees fit",
                        code="tools_unsupported",
                        param="tool_choice",
                    )
                constraint = loaded.grammars.call_constraint(grammar)
            # Whether a model reasons is told by what it writes: too late for a grammar, which is about the answer from its first token.
            tokens = [*given.tokens, *loaded.chat.reasoning_begun()] if constraint is not None else given.tokens
            _check_length(len(tokens), 1, loaded)
            wanted = sampling.max_tokens + (REASONING_TOKENS if loaded.chat.marks else 0)
            room = min(wanted, loaded.context - len(tokens))
            writing = GenerationFormat(loaded.chat, RowSampler(sampling, place, constraint), room, offered_tools(prompt))
            return GenerationJob(given.sequence(tokens, room=room), writing, given.holding, tell)

        return self._begin(servable, prompt, make, tell, asker=asker)

    def _begin(
        self,
        servable: Digest,
        prompt: Conversation,
        make: Callable[[_Given], EngineJob],
        tell: Callable[[Any], object],
        *,
        asker: Asker = None,
        at_once: bool = False,
        probed: ProbedBy | None = None,
    ) -> Cancel:
        """``at_once``: the answer follows without reasoning, as one that is scored does."""
        started = time.perf_counter()
        if not prompt:
            raise InvalidInput("a conversation has no messages", "send at least one message")
        loaded = self._registry.hold(servable)
        begun: list[EngineJob] = []

        def over() -> None:
            for job in begun:
                self._worker.drop(job)
            self._registry.release(loaded)

        holding = WeightLease(loaded, over, tell, bare=probed is not None and probed.bare)
        # What is remembered of a prompt is that of one model: a probe shares it with nobody, not even with the same probe before.
        groups = frozenset({probed.name}) if probed is not None else asker or frozenset()
        try:
            read = loaded.chat.prompts_without_reasoning if at_once else loaded.chat.prompts
            [tokens] = read([prompt])
            job = make(_Given(loaded, tokens, holding, started, groups))
            begun.append(job)
            self._worker.add(loaded, job, bounded=asker is not None)
        except BaseException:
            holding.end()
            raise

        def cancel() -> None:
            holding.end()

        return cancel


def _check_length(prompt: int, answer: int, loaded: Loaded) -> None:
    if prompt + answer > loaded.context:
        raise InvalidInput(
            f"a prompt of {prompt} tokens leaves no room for an answer of {answer} in the model's context of {loaded.context}",
            "shorten the text, the instruction or the demonstrations",
            code="prompt_too_long",
        )
