"""Filter of what a model reasons before it answers."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tailorbird.text.turn_frames import ReasoningMarks


class ReasoningFilter:
    """Finds where the answer begins: behind the end of reasoning that the prompt or the model has begun, behind what stands in its stead,
    or at once. ``over``: the answer has begun; ``skipped``: it began at once."""

    def __init__(self, tokenizer: Tokenizer, marks: ReasoningMarks) -> None:
        self._tokenizer, self._decoder = tokenizer, DecodeStream(skip_special_tokens=False)
        self._begin, self._end, self._none = marks.begin.strip(), marks.end.strip(), marks.none.strip()
        self._text, self._begun = "", not self._begin
        self.over = self.skipped = False

    @property
    def begun(self) -> bool:
        """True while the model reasons."""
        return self._begun and not self.over

    def feed(self, token: int) -> str:
        """What of the answer came with ``token``; empty before it begins."""
        self._text += self._decoder.step(self._tokenizer, token) or ""
        said = self._text.lstrip()
        if not self._begun:
            waits = any(mark.startswith(said) for mark in (self._begin, self._none) if mark)
            if said.startswith(self._begin):
                self._begun = True
            elif self._none and said.startswith(self._none):
                self.over = True
                return said.removeprefix(self._none)
            elif not waits:
                self.over = self.skipped = True
                return ""
        _, mark, rest = self._text.partition(self._end) if self._begun else ("", "", "")
        self.over = bool(mark)
        return rest
