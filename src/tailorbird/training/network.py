"""Base model: read, moved to its device, and run on packed rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging as transformers_verbosity

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.plan import PassLayout
from tailorbird.system.machine import resident_gib, return_growth
from tailorbird.system.model_load import model_load
from tailorbird.training.architecture import blocks, model_class, turning_of, window_of
from tailorbird.training.batches import Packed, RowLayout, pack
from tailorbird.training.decoder import Decoder, is_written_out
from tailorbird.training.devices import is_gpu
from tailorbird.training.forward_proof import proof_of, transformers_hidden, transformers_logits
from tailorbird.training.loss import answer_loss, answer_losses
from tailorbird.training.process_group import ProcessGroup, divide_model, forget_gathered
from tailorbird.training.tokenization import TokenizedRow
from tailorbird.training.tree_attention import TREE_ATTENTION, install_tree_attention

#: transformers leaves these functions untyped.
_logging: Any = transformers_verbosity

_TOLD = {
    RowLayout.TREE: "rows packed behind their shared prefix",
    RowLayout.PADDED: "rows padded and sorted by length",
    RowLayout.SINGLE: "one row at a time",
}

Precision = Literal["bf16", "fp32"]
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def read_model(folder: Path, dtype: torch.dtype, device: torch.device, quantisation: Any = None) -> PreTrainedModel:
    """The model in ``folder``, in training mode, without dropout; with ``quantisation``, its linear layers are quantised as they are read.

    Raises ModelInvalid.
    """
    before = resident_gib()
    install_tree_attention()
    _logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        packs = proof_of(config).layout is RowLayout.TREE
        with model_load:
            model: Any = model_class(config).from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                **({"attn_implementation": TREE_ATTENTION} if packs else {}),
                **({"quantization_config": quantisation, "device_map": {"": device}} if quantisation else {}),
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelInvalid(
            f"the base model in {folder.name} cannot be read ({type(error).__name__})",
            "fetch the base model again: tailorbird models pull",
            code="model_unreadable",
        ) from error
    placed: PreTrainedModel = model.to(device).eval()
    return_growth(before)  # experts as they were read, one by one, before they were joined
    return placed


def output_head(model: Any) -> Any:
    """The layer that turns hidden states into logits."""
    return model.get_output_embeddings()


def layout_within(config: Any, layout: RowLayout, rows: Sequence[TokenizedRow]) -> RowLayout:
    """``layout``, or the one that ``rows`` take where the longest exceeds what ``layout`` was proven for.

    Beyond a window rows are padded instead of packed. Where rotary factors follow from the longest row of a pass, each row is alone.
    """
    return layout_for(config, layout, max(len(row.ids) for row in rows))


def layout_for(config: Any, layout: RowLayout, longest: int) -> RowLayout:
    """As ``layout_within``, for rows of at most ``longest`` tokens."""
    turned, window = turning_of(config), window_of(config)
    if turned is not None and longest > turned:
        return RowLayout.SINGLE
    if layout is RowLayout.TREE and window is not None and longest > window:
        return RowLayout.PADDED
    return layout


_NAMES: dict[RowLayout, PassLayout] = {RowLayout.TREE: "packed", RowLayout.PADDED: "padded", RowLayout.SINGLE: "single"}


def row_layout(source: Path, longest: int) -> PassLayout:
    """As ``Trainer.row_layout``. An architecture that the proof cannot build is padded, as every decoder may be."""
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        return _NAMES[layout_for(config, proof_of(config).layout, longest)]
    except Exception:  # noqa: BLE001 - it is told by the training, or by the description of the model
        return "padded"


def _look_up_between_layers(model: Any) -> None:
    """Lets signals in between the layers of a backward pass too: torch goes through it without Python, where nothing asks for Python."""

    def hook(_layer: Any, _inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            hidden.register_hook(_pass_by)

    for layer in blocks(model):
        layer.register_forward_hook(hook)


def _pass_by(_gradient: torch.Tensor) -> None:
    """Changes nothing; Python answers signals whenever it runs."""


class Network:
    """A model that computes in ``precision``, whatever type its weights are held in."""

    def __init__(self, model: PreTrainedModel, precision: Precision, team: ProcessGroup | None = None) -> None:
        self.model = model
        self.team = team or ProcessGroup()
        self.device = model.device
        self.dtype = TYPES[precision]
        self._head = output_head(model)
        self._autocast = model.dtype is not self.dtype
        proof = proof_of(model.config)
        #: How rows are laid out for a pass.
        self.layout = proof.layout
        self._head_scale = proof.head_scale
        # Matmuls written out by hand are the CPU's; a GPU has better kernels for whole attention.
        self._llama = proof.written_out and is_written_out(model) and not is_gpu(self.device)
        self._decoder: Decoder | None = None
        if not self._llama:
            _look_up_between_layers(model)
        #: Whether activations are computed again in the backward pass instead of kept: slower by a third, exact, little memory.
        self.recompute = False
        #: Called before each pass.
        self.before_pass: Callable[[], object] = lambda: None
        self._tied = False
        #: Whether the processes of the team share the weights. Each must then take as many passes as the others.
        self.divided = False

    def divide(self, device: torch.device) -> None:
        """Divides the weights among the processes of the team; this one computes on ``device``."""
        self._tied = self._head.weight is self.model.get_input_embeddings().weight
        divide_model(self.model, self.team, device)
        self.device, self.divided = device, True
        # The written-out pass goes past the modules whose hooks gather weights.
        self._llama = False

    def settle(self, rows: Sequence[TokenizedRow]) -> None:
        """Gives up a layout that one of ``rows`` is too long for: ``layout_within``. Raises ModelInvalid where a row has a token that the
        model does not embed."""
        self._check_embedded(rows)
        packed, self.layout = self.layout is RowLayout.TREE, layout_within(self.model.config, self.layout, rows)
        if packed and self.layout is not RowLayout.TREE:
            self.model.set_attn_implementation("sdpa" if self.model._supports_sdpa else "eager")
            if self._llama:
                self._llama = False
                _look_up_between_layers(self.model)

    def _check_embedded(self, rows: Sequence[TokenizedRow]) -> None:
        table: Any = self.model.get_input_embeddings()
        highest, embedded = max(max(row.ids) for row in rows), int(table.weight.shape[0])
        if highest >= embedded:
            raise ModelInvalid(
                f"the tokenizer of the base model gives the token {highest:,}, and the model embeds {embedded:,} tokens",
                "fetch model and tokenizer from one place: these do not belong together",
                code="model_tokenizer",
            )

    @property
    def pass_told(self) -> dict[str, str]:
        """How rows are computed, where it is not by the written-out pass."""
        return {} if self._llama else {"pass": f"transformers, {_TOLD[self.layout]}"}

    def pack(self, rows: Sequence[TokenizedRow]) -> Packed:
        """``rows`` laid out for a pass."""
        return pack(rows, self.dtype, self.device, self.layout)

    def loss_sum(self, packed: Packed) -> torch.Tensor:
        """The loss of all answer tokens, summed, in nats: a scalar in fp32. Rows never see one another."""
        if self._head_scale is None:
            return cross_entropy(self._own_logits(packed), packed.targets_A, reduction="sum")
        hidden_AH = self._hidden(packed)
        loss: torch.Tensor = answer_loss(hidden_AH, self._head_weight(), packed.targets_A, self.dtype)
        return loss

    @torch.no_grad()
    def answer_losses(self, packed: Packed) -> torch.Tensor:
        """The loss of each answer token, in nats: (A,) in fp32, without gradients."""
        if self._head_scale is None:
            losses_A = cross_entropy(self._own_logits(packed), packed.targets_A, reduction="none")
        else:
            hidden_AH = self._hidden(packed)
            losses_A = answer_losses(hidden_AH, self._head_weight(), packed.targets_A, self.dtype)
        if self.divided:
            forget_gathered(self.model)
        return losses_A

    def _head_weight(self) -> torch.Tensor:
        """The head, after a pass: where it is divided, the embeddings it is tied to were gathered by then."""
        holder: Any = self.model.get_input_embeddings() if self.divided and self._tied else self._head
        weight: torch.Tensor = holder.weight
        return weight

    def _hidden(self, packed: Packed) -> torch.Tensor:
        """Hidden states (A, H) that predict answer tokens."""
        self.before_pass()
        if self._llama and packed.tree is not None:
            return self._written_out()(packed, recompute=self.recompute and torch.is_grad_enabled())
        return self._as_transformers_does(packed)

    def _written_out(self) -> Decoder:
        """Made anew once layers were exchanged for adapted ones."""
        if self._decoder is None or self._decoder.outdated:
            self._decoder = Decoder(self.model, self.dtype)
        return self._decoder

    @property
    def can_recompute(self) -> bool:
        """True where ``recompute`` has an effect."""
        return not self.divided

    def _as_transformers_does(self, packed: Packed) -> torch.Tensor:
        self._keep_little(self.recompute and torch.is_grad_enabled())
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self._autocast):
            hidden_AH = transformers_hidden(self.model, packed)
        return hidden_AH if self._head_scale == 1.0 else hidden_AH * (self._head_scale or 1.0)

    def _own_logits(self, packed: Packed) -> torch.Tensor:
        """Logits (A, V) in fp32, where the model does more than multiply with its head."""
        self.before_pass()
        self._keep_little(self.recompute and torch.is_grad_enabled())
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self._autocast):
            return transformers_logits(self.model, packed, None).float()

    def _keep_little(self, little: bool) -> None:
        """Turns transformers' own recomputation on or off. It heeds layers in training mode; what lies in them stays without dropout."""
        model: Any = self.model
        if little:
            # Newer versions of transformers have renamed it.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        for layer in blocks(model):
            layer.training = little

    @torch.no_grad()
    def plain_loss_sum(self, row: TokenizedRow) -> float:
        """The same for one row by the model's own forward pass: no packing, no tree, all logits."""
        ids_1T = torch.tensor([row.ids], device=self.device)
        places_A = torch.tensor([place for start, end in row.spans for place in range(start, end)], device=self.device)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self._autocast):
            logits_TV = self.model(input_ids=ids_1T[:, :-1], use_cache=False).logits[0, places_A - 1]
        return float(cross_entropy(logits_TV.float(), ids_1T[0, places_A], reduction="sum"))
