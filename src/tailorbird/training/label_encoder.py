"""Encoder tuning for labels: each text moves towards a vector that stands for its label, and away from those of the others.

Every step compares its texts with all labels at once (a softmax over cosines with learned prototypes, as in Wang et al. 2018, arXiv
1801.05599; Movshovitz-Attias et al. 2017, arXiv 1703.07464), so that no pairs need to be drawn and a batch may be small. Prototypes begin
as the means of their texts, and are kept beside the encoder. Where a text bears one label those of several encoders are averaged and are
the head (``averaged_encoder.py``, docs/decisions/0114); where it may bear several they judge beside words (docs/decisions/0115).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tailorbird.domain.errors import InvalidInput
from tailorbird.ports.trainer import LabelJob, LabelledText, ReportProgress, TrainedModel
from tailorbird.text.label_rules import LabelPrototypes, write_prototypes
from tailorbird.training.encoder import TEMPERATURE, EncoderRows, TrainableEncoder, save, tuned

#: How many times faster prototypes learn than the encoder, whose weights are tens of times larger.
PROTOTYPES_RATE = 10.0
#: Texts that are read at once, of like length: padding costs as much as words.
_TOGETHER = 8
#: Where a text may bear several labels: texts without one that are learned in a pass for each with one.
WITHOUT = 1


class TowardsLabels:
    """-log softmax(v · P / 0.05) at the label of each text; where a text may bear several, the mean over labels of the binary cross-entropy
    of v · P / 0.05 + b. ``prototypes_KH`` and ``biases_K`` learn beside the encoder."""

    def __init__(self, encoder: TrainableEncoder, job: LabelJob, rows: EncoderRows[LabelledText]) -> None:
        self._encoder, self._alone = encoder, job.alone
        self._together = job.settings.batch_size if rows.length is not None else _TOGETHER
        self._places = {label: place for place, label in enumerate(job.labels)}
        # Rows without a label, of which each pass learns others, stand for no prototype.
        train = rows.train if rows.length is None else tuple(sorted(rows.train, key=rows.length))
        borne_NK = self.wanted(train)
        with torch.no_grad():
            vectors_NH = torch.cat([self._vectors(train[start : start + 64]) for start in range(0, len(train), 64)])
            sums_KH = borne_NK.T @ vectors_NH
            # A label that no row bears begins anywhere: a vector of length 0 has no direction to learn.
            sums_KH[borne_NK.sum(0) == 0] = torch.randn(sums_KH.shape[1])
            share_K = ((borne_NK.sum(0) + 1) / rows.in_a_pass).clamp(max=0.9)
        self.prototypes_KH = nn.Parameter(nn.functional.normalize(sums_KH, dim=-1))
        self.biases_K = nn.Parameter(torch.log(share_K / (1 - share_K)) - 0.5 / TEMPERATURE)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns beside the encoder, by name."""
        return {"prototypes": self.prototypes_KH} | ({"biases": self.biases_K} if self._alone else {})

    def kept(self) -> LabelPrototypes:
        """What gives a text's log-odds."""
        with torch.no_grad():
            weights_KH = nn.functional.normalize(self.prototypes_KH, dim=-1) / TEMPERATURE
            return LabelPrototypes(weights_KH.double().numpy(), self.biases_K.double().numpy())

    def of(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """As ``EncoderLoss.of``."""
        rows = sorted(rows, key=lambda row: len(row.text))
        scores_BK, wanted_BK = self.scores(rows), self.wanted(rows)
        if self._alone:
            return nn.functional.binary_cross_entropy_with_logits(scores_BK + self.biases_K, wanted_BK)
        return nn.functional.cross_entropy(scores_BK, wanted_BK)

    def scores(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """Cosines with the prototypes by the temperature (B, K), in the order of ``rows``."""
        return self._vectors(rows) @ nn.functional.normalize(self.prototypes_KH, dim=-1).T / TEMPERATURE

    def _vectors(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """Vectors of length 1 (N, H), in the order of ``rows``, of which neighbours should be of like length."""
        parts = [rows[start : start + self._together] for start in range(0, len(rows), self._together)]
        return nn.functional.normalize(torch.cat([self._encoder.texts([row.text for row in part], "text") for part in parts]), dim=-1)

    def wanted(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """(N, K): 1 where a text bears a label."""
        wanted_NK = torch.zeros(len(rows), len(self._places))
        for row, text in enumerate(rows):
            wanted_NK[row, [self._places[label] for label in text.labels]] = 1.0
        return wanted_NK


def tune(job: LabelJob, report: ReportProgress) -> TrainedModel:
    """As ``Trainer.tune`` for labels."""
    if not job.train:
        raise InvalidInput("there are no training rows", "give at least one row of the train split", code="no_train_rows")
    if not job.held_out:
        raise InvalidInput("no row is held out", "hold out a few rows, to choose the best weights by", code="no_held_out_rows")
    torch.manual_seed(job.settings.seed)
    encoder = TrainableEncoder(job.base, job.settings.lora, job.settings.precision, job.settings.max_length)
    rows = rows_of(job)
    loss = TowardsLabels(encoder, job, rows)
    beside = loss.parameters()
    rates = dict.fromkeys(beside, PROTOTYPES_RATE)
    told = tuned(job, rows, encoder.parameters() | beside, loss, report, rates)
    learned = told.trained_parameters - sum(parameter.numel() for parameter in beside.values())
    folder = save(job, encoder, None)
    if job.alone:
        write_prototypes(loss.kept(), folder)
    return TrainedModel(folder=folder, report=told.model_copy(update={"trained_parameters": learned}))


def rows_of(job: LabelJob) -> EncoderRows[LabelledText]:
    """The rows of the job. Where most bear none of several labels, they would take most of the time and teach the same thing: so many are
    learned in a pass as ``WITHOUT`` says, others each time."""
    bearing = tuple(row for row in job.train if row.labels)
    if not job.alone or not bearing:
        return EncoderRows(job.train, job.held_out)
    others = tuple(row for row in job.train if not row.labels)
    return EncoderRows(bearing, job.held_out, others, WITHOUT * len(bearing), lambda row: len(row.text), whole=True)
