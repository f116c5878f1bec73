"""Context of the preflight checks: a job with its rows as token ids, and the findings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tailorbird.domain.preflight import PreflightFinding, PreflightSeverity
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training.tokenization import RowTokenizer, TokenizedRow


@dataclass(frozen=True)
class PreflightContext:
    """A job whose rows were encoded; ``rows`` are those to learn and those held out."""

    job: TrainingJob
    encoder: RowTokenizer
    train: Sequence[TokenizedRow]
    held_out: Sequence[TokenizedRow]

    @property
    def rows(self) -> list[TokenizedRow]:
        """All rows, those to learn first."""
        return [*self.train, *self.held_out]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The base model's config.json."""
        return self.read_json("config.json")

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the base model; empty where there is none."""
        path = self.job.base / name
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    @property
    def limit(self) -> int:
        """Tokens a row may have: the settings' limit, or the model's context where that is less."""
        most = self.job.settings.max_length
        return min(most, int(self.text_config.get("max_position_embeddings") or most))

    @property
    def text_config(self) -> dict[str, Any]:
        """The part of the config that describes the decoder: all of it, or the text part of a multimodal model's."""
        found = self.config.get("text_config")
        return found if isinstance(found, dict) else self.config


def read_subject(job: TrainingJob) -> PreflightContext:
    """Encodes the job's rows. Raises InvalidInput, ModelInvalid as the encoder does."""
    encoder = RowTokenizer(job.base, thinking=job.prompt.thinking)
    return PreflightContext(job, encoder, encoder.encode(job.prompt, job.train), encoder.encode(job.prompt, job.held_out))


def blocking(code: str, what: str, remedy: str) -> PreflightFinding:
    """A finding that stands in the way."""
    return PreflightFinding(code=code, severity=PreflightSeverity.BLOCKING, what=what, remedy=remedy)


def warning(code: str, what: str, remedy: str) -> PreflightFinding:
    """A finding to know before going on."""
    return PreflightFinding(code=code, severity=PreflightSeverity.WARNING, what=what, remedy=remedy)
