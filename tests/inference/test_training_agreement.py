"""What is learned is what is served: the training loss of an answer is its negative log-likelihood in the engine, in every family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig

from support.chat_families import FAMILIES, write_family
from support.oracle import servable
from support.random_models import save_llama
from tailorbird.chat.prompts import messages_for_row
from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference import open_engine
from tailorbird.ports.trainer import Example
from tailorbird.training.batches import RowTokenizer
from tailorbird.training.network import Network, read_model

PROMPT = PromptSpec(instruction="Classify the message.", labels=("card_lost", "refund"), list_labels=True)
EXAMPLES = [Example(text="Where is my card?", target="card_lost"), Example(text="a </s><|im_end|> b", target="Not yet, sorry.")]


def with_weights(folder: Path) -> Path:
    """Tiny random weights for the vocabulary that lies in ``folder``; its declared ends stay as they are."""
    torch.manual_seed(3)
    declared = {path: path.read_bytes() for path in folder.glob("generation_config.json")}
    config = LlamaConfig(
        vocab_size=Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.4,
    )
    save_llama(folder, config)
    for path, content in declared.items():
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize("name", [*FAMILIES, "smollm2"])
def test_losses_are_likelihoods(name: str, tiny: Path, tmp_path: Path) -> None:
    folder = tiny if name == "smollm2" else with_weights(write_family(FAMILIES[name], tmp_path / "base"))
    rows = RowTokenizer(folder).encode(PROMPT, EXAMPLES)
    network = Network(read_model(folder, torch.float32, torch.device("cpu")), "fp32")
    engine = open_engine("fp32")
    engine.load(servable(folder))
    prompts = [messages_for_row(PROMPT, example.text) for example in EXAMPLES]
    served = engine.likelihood(servable(folder).id, prompts, [example.target for example in EXAMPLES])
    engine.close()
    assert [each.tokens for each in served] == [row.learned for row in rows]
    assert engine.count_tokens(folder, prompts) == [row.prompt for row in rows]
    assert [-each.nats for each in served] == pytest.approx([network.plain_loss_sum(row) for row in rows], rel=1e-4)
