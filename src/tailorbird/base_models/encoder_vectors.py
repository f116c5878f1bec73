"""Encoders: ``encoder.json``, which describes one beside its weights, what is read in front of a text, and how hidden states become one
vector. Training and serving make the same vectors of the same description."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tailorbird.domain.base_model import EncoderDescription, EncoderFile, Purpose
from tailorbird.domain.errors import ModelInvalid

ENCODER_FILE = "encoder.json"


def read_encoder(folder: Path) -> EncoderFile:
    """What describes the encoder in ``folder``. Raises ModelInvalid."""
    try:
        return EncoderFile.model_validate_json((folder / ENCODER_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelInvalid(
            f"the encoder in {folder.name} has no readable {ENCODER_FILE}", "pull it again: tailorbird models pull", code="encoder"
        ) from error


def encoder_json(described: EncoderFile) -> str:
    """The text of ``encoder.json``."""
    return described.model_dump_json(indent=2) + "\n"


def prefixed(texts: Sequence[str], encoder: EncoderDescription, purpose: Purpose) -> list[str]:
    """The texts as the encoder reads them."""
    prefix: str = getattr(encoder.prefixes, purpose)
    return [prefix + text for text in texts] if prefix else list(texts)


def most_tokens(model: Any, most: int) -> int:
    """``most``, or the tokens for which ``model`` has positions, where these are fewer."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return most
    padding = padding_position(model)
    return min(most, positions if padding is None else positions - padding - 1)


def padding_position(model: Any) -> int | None:
    """The position of padding, from which some families count the others: their position embedding knows it. None: counted from 0."""
    embedding = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(embedding, "padding_idx", None)
    return padding


def pooled(hidden_BTH: Any, mask_BT: Any, rule: str) -> Any:
    """One vector (B, H) a text of its tokens' hidden states (a torch tensor, as is the mask), padding left out."""
    rows = range(len(hidden_BTH))
    if rule == "cls":
        return hidden_BTH[rows, mask_BT.argmax(dim=1)]
    if rule == "lasttoken":
        return hidden_BTH[rows, mask_BT.shape[1] - 1 - mask_BT.flip(1).argmax(dim=1)]
    if rule == "max":
        return hidden_BTH.masked_fill(mask_BT[..., None] == 0, float("-inf")).amax(dim=1)
    mask_BT1 = mask_BT[..., None]
    return (hidden_BTH * mask_BT1).sum(1) / mask_BT1.sum(1)
