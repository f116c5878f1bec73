"""Answers, token by token, for a batch of prompts.

In: a model, a shared prefix, what each prompt adds to it, an ``Answer`` to fill for each. Out: filled answers. Must not know: servables,
messages. Axes: B rows still in the batch, K tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from tailorbird.inference.batching import pad_left
from tailorbird.inference.memory import Growing, Prefix
from tailorbird.inference.model import Model
from tailorbird.inference.sampling import Drawer
from tailorbird.inference.textstream import TextStream


class Answer:
    """One answer in the making. ``row`` is its place in the call, ``room`` the most tokens it may have."""

    def __init__(self, row: int, room: int, stream: TextStream, ends: frozenset[int], show: Callable[[str], bool]) -> None:
        self.row = row
        self.room = room
        self.text = ""
        self.tokens: list[int] = []
        self.reason: Literal["stop", "length"] | None = None
        self._stream = stream
        self._ends = ends
        self._show = show

    def take(self, token: int) -> None:
        """Adds a token, and ends the answer where it must end."""
        self.tokens.append(token)
        if token in self._ends:
            return self._end("stop")
        wanted = self._emit(self._stream.feed(token))
        if not wanted or self._stream.stopped:
            self.reason = "stop"
        elif len(self.tokens) >= self.room:
            self._end("length")
        return None

    def _end(self, reason: Literal["stop", "length"]) -> None:
        self._emit(self._stream.finish())
        self.reason = reason

    def _emit(self, text: str) -> bool:
        self.text += text
        return self._show(text) if text else True


def fill_answers(model: Model, prefix: Prefix, rows: Sequence[Sequence[int]], answers: Sequence[Answer], drawer: Drawer) -> None:
    """Generates until every answer has ended. ``answers[i]`` answers the prompt ``prefix`` + ``rows[i]``."""
    device = model.shape.device
    prompts = pad_left(rows, prefix.length, device)
    room = max(answer.room for answer in answers)
    memory = Growing(prefix, len(rows), len(prompts.tokens_BT[0]) + room)
    seen_BTK = prompts.seen_BTK(prefix.length)
    hidden_BE = model.hidden(prompts.tokens_BT, prompts.positions_BT, seen_BTK, memory)[:, -1]
    # From here on one column a step: the last prompt token's sight, and every column since.
    real_BK, position_B = seen_BTK[:, -1], prompts.positions_BT[:, -1]
    batch = list(answers)
    while True:
        tokens = drawer.draw(model.logits(hidden_BE), [answer.row for answer in batch])
        for answer, token in zip(batch, tokens, strict=True):
            if answer.reason is None:
                answer.take(token)
        live = [place for place, answer in enumerate(batch) if answer.reason is None]
        if not live:
            return
        tokens_B = torch.tensor(tokens, device=device)
        # Ended rows are carried along until half the batch is idle: dropping rows copies the memory.
        if len(live) * 2 <= len(batch):
            keep = torch.tensor(live, device=device)
            memory.keep(keep)
            real_BK, position_B, tokens_B = real_BK[keep], position_B[keep], tokens_B[keep]
            batch = [batch[place] for place in live]
        position_B = position_B + 1
        real_BK = torch.cat([real_BK, real_BK.new_ones(len(batch), 1)], dim=1)
        hidden_BE = model.hidden(tokens_B.unsqueeze(1), position_B.unsqueeze(1), real_BK.unsqueeze(1), memory)[:, -1]
