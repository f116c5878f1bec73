"""Losses of encoders that are tuned for ``kind: rank``: bi- and cross-encoders over judged queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.errors import InvalidInput
from tailorbird.ports.trainer import JudgedQuery, RankingJob, ReportProgress, TrainedModel
from tailorbird.text.search_index import SearchIndex
from tailorbird.training.encoder import TEMPERATURE, EncoderLoss, EncoderRows, TrainableEncoder, save, tuned

#: Documents that a question is compared with at once by a cross-encoder, the relevant ones among them, and how deep they are drawn from.
CANDIDATES, DEPTH = 12, 50


class TowardsDocuments:
    """-Σ p log softmax(q · D / 0.05) over all documents of the index, p in proportion to the grades: only the side of the questions
    learns, so the index stays as it is and need not be made anew."""

    def __init__(self, encoder: TrainableEncoder, index: SearchIndex) -> None:
        assert index.vectors is not None
        self._encoder = encoder
        documents_DH = torch.from_numpy(np.asarray(index.vectors, dtype=np.float32))
        # What compares products has longer vectors than the temperature is made for.
        longer = 1.0 if encoder.described.normalised else float(documents_DH.norm(dim=-1).mean())
        self._documents_DH = documents_DH / longer
        self._places = {entry.id: place for place, entry in enumerate(index.entries)}

    def of(self, queries: Sequence[JudgedQuery]) -> torch.Tensor:
        """As ``EncoderLoss.of``."""
        q_BH = torch.nn.functional.normalize(self._encoder.texts([query.text for query in queries], "query"), dim=-1)
        log_p_BD = torch.log_softmax(q_BH @ self._documents_DH.T / TEMPERATURE, dim=-1)
        return -(self._wanted(queries) * log_p_BD).sum(1).mean()

    def _wanted(self, queries: Sequence[JudgedQuery]) -> torch.Tensor:
        wanted_BD = torch.zeros(len(queries), len(self._documents_DH))
        for row, query in enumerate(queries):
            for document, grade in query.relevant.items():
                if document in self._places:
                    wanted_BD[row, self._places[document]] = max(0.0, grade)
        return wanted_BD / wanted_BD.sum(1, keepdim=True).clamp(min=1e-9)


class AgainstCandidates:
    """-Σ p log softmax(score) over one relevant document and those that words find first without being relevant (listwise,
    Cao et al. 2007). ``head`` turns the vector of a pair into its score."""

    def __init__(self, encoder: TrainableEncoder, index: SearchIndex, head: nn.Linear, found: dict[str, tuple[str, ...]]) -> None:
        self._encoder, self._head, self._found = encoder, head, found
        self._texts = {entry.id: f"{entry.title} {entry.text}".strip() for entry in index.entries}

    def of(self, queries: Sequence[JudgedQuery]) -> torch.Tensor:
        """As ``EncoderLoss.of``; the relevant document of the highest grade stands first."""
        losses = []
        for query in queries:
            candidates = self._candidates(query)
            if len(candidates) > 1:
                scores_K = self._head(self._encoder.vectors([(query.text, self._texts[one]) for one in candidates])).squeeze(1)
                losses.append(-torch.log_softmax(scores_K, dim=0)[0])
        return torch.stack(losses).mean() if losses else torch.zeros((), requires_grad=True)

    def _candidates(self, query: JudgedQuery) -> list[str]:
        relevant = [name for name in sorted(query.relevant, key=lambda name: (-query.relevant[name], name)) if name in self._texts]
        others = [name for name in self._found[query.text] if name not in query.relevant]
        # Neighbours in the first ranking differ little: every fourth is drawn, so that the list reaches deep.
        return relevant[:1] + others[:: max(1, len(others) // CANDIDATES)][: CANDIDATES - 1]


def tune(job: RankingJob, report: ReportProgress) -> TrainedModel:
    """As ``Trainer.tune`` for judged queries."""
    if not job.train or not job.held_out:
        raise InvalidInput("there are no judged queries to learn from", "give queries with relevant documents", code="no_judged_queries")
    torch.manual_seed(job.settings.seed)
    encoder, head = TrainableEncoder(job.base, job.settings.lora, most=job.settings.max_length), None
    index = SearchIndex(job.index)
    parameters = encoder.parameters()
    if job.kind == "cross-encoder":
        head = nn.Linear(encoder.width, 1)
        parameters |= {f"head.{name}": parameter for name, parameter in head.named_parameters()}
        loss: EncoderLoss[JudgedQuery] = AgainstCandidates(encoder, index, head, _first_found(index, [*job.train, *job.held_out]))
    else:
        loss = TowardsDocuments(encoder, index)
    told = tuned(job, EncoderRows(job.train, job.held_out), parameters, loss, report)
    return TrainedModel(folder=save(job, encoder, head), report=told)


def _first_found(index: SearchIndex, queries: Sequence[JudgedQuery]) -> dict[str, tuple[str, ...]]:
    """What words find first for each question: hard candidates."""
    groups = frozenset(group for entry in index.entries for group in entry.access) | {EVERYONE}
    return {query.text: tuple(one.entry.id for one in index.find(query.text, (), groups, DEPTH)) for query in queries}
