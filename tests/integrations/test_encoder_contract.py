"""What every encoder must do: the same questions to the twin and to MiniLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.doubles import MemoryEncoder
from tailorbird.ports.encoder import Encoder


@pytest.fixture(scope="module", params=["memory", pytest.param("torch", marks=pytest.mark.slow)])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "memory":
        return MemoryEncoder()
    from tailorbird.inference import open_encoder

    return open_encoder()


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, encoder: Encoder) -> Path:
    return Path("base") if isinstance(encoder, MemoryEncoder) else request.getfixturevalue("encoder_folder")


def test_vectors_have_length_one_and_do_not_depend_on_company(encoder: Encoder, folder: Path) -> None:
    texts = ["my card was lost", "please send a new card", "", "the rent of a flat " * 200]
    together = encoder.embed(folder, texts)
    assert together.shape[0] == len(texts)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-4)
    alone = np.concatenate([encoder.embed(folder, [text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-4


def test_texts_that_say_alike_lie_closer(encoder: Encoder, folder: Path) -> None:
    lost, card, flat = encoder.embed(folder, ["my bank card was lost", "i lost my card", "the rent of this flat is high"])
    assert lost @ card > lost @ flat + 0.2


def test_what_was_forgotten_is_read_again(encoder: Encoder, folder: Path) -> None:
    before = encoder.embed(folder, ["my card was lost"])
    encoder.forget(folder)
    encoder.forget(folder / "unknown")
    assert encoder.nbytes == 0
    assert (encoder.embed(folder, ["my card was lost"]) == before).all()
