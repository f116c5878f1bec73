"""Answer service: from a conversation to the answer of the chosen release."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Literal

from tailorbird.chat.prompts import messages_for, without_reasoning
from tailorbird.chat.tool_calls import offered_tools
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.errors import InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Message, PromptSpec, RetrievedEntry, Sampling, ToolCall
from tailorbird.domain.value import Value
from tailorbird.ports.engine import (
    EmbedRequest,
    EngineDriver,
    GenerateRequest,
    RankRequest,
    RetrieveRequest,
    ScoreRequest,
    TokenLogprob,
)
from tailorbird.serving.alias_routes import AliasRoutes, TrafficArm
from tailorbird.serving.hosted_models import NOT_ASKED, STOOD_IN_FOR
from tailorbird.text.label_rules import answered_label, decide_label, is_blank, is_outside, is_referred, scope_scores
from tailorbird.text.regex import occurs


class RankedDocument(Value):
    """Document with its score, comparable within one answer alone."""

    id: str
    title: str
    score: float


class AnswerPiece(Value):
    """Piece of an answer. The last one carries ``finish_reason`` and the counts; a label's probabilities come with the label.

    ``prompt_tokens`` and ``completion_tokens`` count as the engine does; a label is scored, not generated, so it has no completion tokens.
    ``cached_tokens`` of those read were known from an earlier request of the tenant; ``reasoning_tokens`` of those written are reasoning.
    ``referred`` says that a person should take over: the release is not sure enough of the label, or hands the conversation over by what it
    wrote. ``passages`` are those that the answer was given, best first, and all of them such as its asker may read.
    ``tool_calls`` come with the last. ``fallback``: the release before answers in place of a hosted model.
    ``out_of_scope``: none of the labels fits, so that there is no text; it is ``referred``.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    probabilities: dict[str, float] | None = None
    ranking: tuple[RankedDocument, ...] = ()
    referred: bool = False
    out_of_scope: bool = False
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    passages: tuple[RankedDocument, ...] = ()
    fallback: bool = False


def told_text(piece: AnswerPiece) -> str:
    """What a piece says, its calls as ``name(arguments)``: how answers are kept, and compared."""
    calls = "\n".join(f"{call.name}({call.arguments})" for call in piece.tool_calls)
    return f"{piece.text}\n{calls}" if piece.text and calls else piece.text + calls


#: How a hosted model is asked for a label, as in evaluation.
LABEL_SAMPLING = Sampling(max_tokens=256)

#: Documents of an answer, at most.
MOST_DOCUMENTS = 100


class AnswerService:
    """Answers by the engine. ``doubt`` is told of a name for which the engine lacks a release that it should hold."""

    def __init__(self, driver: EngineDriver, routes: AliasRoutes, doubt: Callable[[str], None]) -> None:
        self._driver = driver
        self._routes = routes
        self._doubt = doubt

    async def pieces(
        self, arm: TrafficArm, messages: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[AnswerPiece, None]:
        """The answer of ``arm``, piece by piece; closing the iterator cancels it. What is looked up for it is what somebody in ``groups``
        may read, or everybody.

        Raises InvalidInput (no user message, a prompt longer than the context),
        Unavailable (the engine is away, or has just been restarted and lacks the release).
        """
        with self._held(arm):
            if arm.task is TaskKind.CLASSIFY:
                yield await (self._written_label(arm, messages, groups) if arm.hosted else self._label(arm, messages, groups))
            elif arm.task is TaskKind.GENERATE:
                async with aclosing(self._text(arm, messages, sampling, groups)) as text:
                    async for piece in text:
                        yield piece
            else:
                yield await self._ranking(arm, last_user_text(messages), sampling.max_tokens, groups | {EVERYONE})

    async def vectors(
        self, arm: TrafficArm, messages: Sequence[Message], sampling: Sampling, groups: frozenset[str]
    ) -> AsyncGenerator[AnswerPiece, None]:
        """Each message as ``arm`` reads a query, all in one piece. Raises as ``pieces``; InvalidInput where it makes no vectors."""
        del sampling, groups
        with self._held(arm):
            found = await self._driver.ask(EmbedRequest(release=arm.release, texts=tuple(message.content for message in messages)))
            yield AnswerPiece(text="", finish_reason="stop", prompt_tokens=found.prompt_tokens, vectors=found.vectors)

    async def ranked(
        self, documents: Sequence[str], arm: TrafficArm, messages: Sequence[Message], sampling: Sampling, groups: frozenset[str]
    ) -> AsyncGenerator[AnswerPiece, None]:
        """``documents``, which the caller sent, in the order in which ``arm`` ranks its own; their ids are their places. Raises as
        ``pieces``; InvalidInput where it ranks nothing."""
        del groups
        if arm.task is not TaskKind.RANK:
            raise InvalidInput("this model ranks no documents", "ask a model of rank", code="retrieval_missing", param="model")
        with self._held(arm):
            asked = {"text": last_user_text(messages), "documents": tuple(documents), "count": sampling.max_tokens}
            found = await self._driver.ask(RankRequest(release=arm.release, **asked))
            ranking = tuple(
                RankedDocument(id=str(place), title="", score=score) for place, score in zip(found.places, found.scores, strict=True)
            )
            text = "\n".join(one.id for one in ranking)
            yield AnswerPiece(text=text, finish_reason="stop", prompt_tokens=found.prompt_tokens, ranking=ranking)

    @contextmanager
    def _held(self, arm: TrafficArm) -> Iterator[None]:
        """Keeps the release loaded; what the engine lacks is said to be on its way."""
        with self._routes.using(arm.release):
            try:
                yield
            except NotFound as error:
                self._doubt(arm.path)
                raise Unavailable("the model is being loaded again", "try again in a few seconds", code="model_loading") from error

    async def _ranking(self, arm: TrafficArm, text: str, most: int, readable: frozenset[str]) -> AnswerPiece:
        """Documents in order, of those that may be read: one a line by its id, and their scores."""
        asked = RetrieveRequest(release=arm.release, text=text, groups=readable, count=min(most, MOST_DOCUMENTS))
        found = await self._driver.ask(asked)
        ranking = tuple(map(_named, found))
        return AnswerPiece(text="\n".join(one.id for one in ranking), finish_reason="stop", ranking=ranking)

    async def _label(self, arm: TrafficArm, messages: Sequence[Message], groups: frozenset[str]) -> AnswerPiece:
        text = last_user_text(messages)
        found = await self._found(arm, text, groups)
        asked = messages_for(arm.prompt, text, [one.entry for one in found])
        request = ScoreRequest(release=arm.release, prompt=tuple(asked), labels=tuple(arm.prompt.answers), groups=groups)
        scores = await self._driver.ask(request)
        decided = decide_label(arm.prompt, scores.log_probabilities)
        outside = False
        if arm.scope is not None:  # one that refuses any refuses what is blank
            told, scorer = scope_scores(arm.prompt, scores), arm.scope.scorer
            if scorer not in told:  # every request would be refused, and nobody would know why
                raise Unavailable(
                    f"the engine does not tell the {scorer.value} by which this release refuses requests out of scope",
                    "serve the release with the engine torch of this version",
                    code="scope_untold",
                )
            outside = is_blank(text) or is_outside(told, arm.scope)
        return AnswerPiece(
            text="" if outside else decided.answer,
            finish_reason="stop",
            prompt_tokens=scores.prompt_tokens,
            probabilities=decided.probabilities,
            referred=outside or is_referred(decided, arm.refer_below),
            out_of_scope=outside,
            passages=_quoted(found),
        )

    async def _written_label(self, arm: TrafficArm, messages: Sequence[Message], groups: frozenset[str]) -> AnswerPiece:
        """The label that a hosted model writes; without one alone, a person should look. It has no probabilities."""
        text = last_user_text(messages)
        found = await self._found(arm, text, groups)
        asked = messages_for(arm.prompt, text, [one.entry for one in found])
        written, read, wrote = "", 0, 0
        request = GenerateRequest(release=arm.release, prompt=tuple(asked), sampling=LABEL_SAMPLING)
        async with aclosing(await self._driver.ask(request)) as chunks:
            async for chunk in chunks:
                written, read, wrote = written + chunk.text, read + chunk.prompt_tokens, max(wrote, chunk.completion_tokens)
        label = answered_label(arm.prompt, written)
        return AnswerPiece(
            text=label,
            finish_reason="stop",
            prompt_tokens=read,
            completion_tokens=wrote,
            probabilities={},
            referred=not label,
            passages=_quoted(found),
        )

    async def _text(
        self, arm: TrafficArm, messages: Sequence[Message], sampling: Sampling, groups: frozenset[str]
    ) -> AsyncGenerator[AnswerPiece, None]:
        found = await self._found(arm, last_user_text(messages), groups)
        asked = conversation_for(arm.prompt, messages, [one.entry for one in found])
        said: list[str] = []
        request = GenerateRequest(release=arm.release, prompt=asked, sampling=sampling, groups=groups)
        async with aclosing(await self._driver.ask(request)) as chunks:
            async for chunk in chunks:
                ends = chunk.finish_reason is not None
                said.append(chunk.text)
                yield AnswerPiece(
                    text=chunk.text,
                    tool_calls=chunk.tool_calls,
                    finish_reason=chunk.finish_reason,
                    prompt_tokens=chunk.prompt_tokens,
                    completion_tokens=chunk.completion_tokens,
                    cached_tokens=chunk.cached_tokens,
                    reasoning_tokens=chunk.reasoning_tokens,
                    logprobs=chunk.logprobs,
                    referred=bool(ends and arm.refer_pattern and occurs(arm.refer_pattern, "".join(said))),
                    passages=_quoted(found) if ends else (),
                )

    async def _found(self, arm: TrafficArm, text: str, groups: frozenset[str]) -> list[RetrievedEntry]:
        """What the release looks up for the text, of what somebody in ``groups`` may read, or everybody."""
        if arm.retrieval is None:
            return []
        asked = RetrieveRequest(release=arm.release, text=text, groups=groups | {EVERYONE}, count=arm.retrieval.count)
        return await self._driver.ask(asked)


def _named(found: RetrievedEntry) -> RankedDocument:
    return RankedDocument(id=found.entry.id, title=found.entry.title, score=found.score)


def _quoted(found: Sequence[RetrievedEntry]) -> tuple[RankedDocument, ...]:
    """Passages that stood in the prompt; rows shown as examples have no name that callers know."""
    return tuple(_named(one) for one in found if not one.entry.target)


def last_user_text(messages: Sequence[Message]) -> str:
    """Text that a classify release labels: the last user message. Raises InvalidInput when there is none."""
    for message in reversed(messages):
        if message.role == "user":
            return message.content
    raise InvalidInput("there is no user message", "send the text as a message with role user", param="messages")


def conversation_for(prompt: PromptSpec, messages: Sequence[Message], context: Sequence[Entry] = ()) -> tuple[Message, ...]:
    """What a generate release reads: its own instruction, then the caller's (in one system message), its demonstrations, the conversation.

    Raises InvalidInput when the last word is not the user's.
    """
    turns = [without_reasoning(message).model_copy(update={"tools": ""}) for message in messages if message.role != "system"]
    if not turns or turns[-1].role not in ("user", "tool"):
        raise InvalidInput(
            "the conversation does not end with a user message",
            "let the last message have role user, or role tool behind a call",
            param="messages",
        )
    system, *shown, _ = messages_for(prompt, "", context)
    instructions = [system.content, *(message.content for message in messages if message.role == "system")]
    return (Message(role="system", content="\n\n".join(instructions), tools=offered_tools(messages)), *shown, *turns)


_log = logging.getLogger("tailorbird.serving")

#: The answer of an arm to a conversation, piece by piece.
Answers = Callable[[TrafficArm, Sequence[Message], Sampling, frozenset[str]], AsyncGenerator[AnswerPiece, None]]


async def with_fallback(
    answers: Answers, arm: TrafficArm, messages: Sequence[Message], sampling: Sampling, groups: frozenset[str], *, whole: bool
) -> AsyncGenerator[AnswerPiece, None]:
    """The answer of a hosted ``arm``, or of its fallback where the endpoint fails before anything was given.

    ``whole``: pieces are held back until the last is there, so that an answer that breaks off is replaced, too; otherwise one whose first
    words were given ends with the error. Pieces of the fallback say so.
    """
    held: list[AnswerPiece] = []
    given = False
    try:
        async with aclosing(answers(arm, messages, sampling, groups)) as pieces:
            async for piece in pieces:
                if whole:
                    held.append(piece)
                else:
                    given = True
                    yield piece
    except TailorbirdError as error:
        if arm.fallback is None or given or error.error_code not in STOOD_IN_FOR:
            raise
        if error.error_code != NOT_ASKED:  # the log tells once of an endpoint that is not asked
            told = (short(arm.release), error.error_code, error.message, short(arm.fallback.release))
            _log.warning("release %s did not answer (%s: %s): %s answers", *told)
    else:
        for piece in held:
            yield piece
        return
    async with aclosing(answers(arm.fallback, messages, sampling, groups)) as pieces:
        async for piece in pieces:
            yield piece.model_copy(update={"fallback": True})
