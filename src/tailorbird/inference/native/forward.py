"""Native decoder: one call of ``kernels.cpp`` per step, over weights packed in the order in which a step reads them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_int32
from typing import Any

import torch

from tailorbird.base_models.adapter_format import AdapterChange
from tailorbird.inference.forward.batch import Batch
from tailorbird.inference.forward.decoder_traits import activation_of, block_norms, norm_weight, traits_of
from tailorbird.inference.forward.lazy_memory import LARGE, lazy_zeros
from tailorbird.inference.forward.weights import GROUPS, Changes, WrittenOutForward, joined, linear_shapes
from tailorbird.inference.native import library as native
from tailorbird.inference.scheduling import BLOCK

#: Numbers between the starts of two pieces: a cache line of 64 bytes.
_LINE = 32


class WeightBuffer:
    """Room for ``count`` bf16 numbers, in pieces whose sizes are multiples of 32."""

    def __init__(self, count: int) -> None:
        self._all = _room(count)
        self._taken = 0

    @property
    def nbytes(self) -> int:
        """Bytes held, to the end of the last page."""
        return _nbytes(len(self._all))

    def take(self, count: int) -> torch.Tensor:
        """The next ``count`` numbers."""
        assert count % _LINE == 0, "pieces begin at cache lines"
        piece = self._all[self._taken : self._taken + count]
        assert len(piece) == count, "more was taken than was asked for"
        self._taken += count
        return piece


def _nbytes(count: int) -> int:
    """Bytes that ``count`` numbers take: whole large pages, where they fill one."""
    return count * 2 if count * 2 < LARGE else -(-count * 2 // LARGE) * LARGE


def _room(count: int) -> torch.Tensor:
    return lazy_zeros(_nbytes(count) // 2, dtype=torch.bfloat16)[:count]


_LANES = 16
#: The activation of a gate beside ``silu`` that the kernels compute, as transformers calls it.
_GELU = "gelu_pytorch_tanh"
_ARRAYS = Batch._fields[:10]


class NativeMemory:
    """Keys and values of all layers, in the layout of the kernels."""

    def __init__(self, layers: int, blocks: int, block: int) -> None:
        self.keys = lazy_zeros(layers, blocks * block, dtype=torch.bfloat16)
        self.values = lazy_zeros(layers, blocks * block, dtype=torch.bfloat16)


class NativeAdapter:
    """An adapter packed for the kernels in int8: one ``Delta`` a layer and group. Holds what they point to: room for
    ``count`` bytes, on large pages as far as it fills them."""

    def __init__(self, layers: int, count: int) -> None:
        self.deltas = (native.NativeDelta * (layers * len(GROUPS)))()
        self._room = lazy_zeros(count, dtype=torch.uint8)
        self._taken = 0
        self._layout = native.AdapterLayout()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._room.nbytes

    def put(self, at: int, rank: int, parts: Sequence[tuple[tuple[int, int], AdapterChange | None]]) -> None:
        """The change of one group, part by part: the inputs and outputs of each, and what changes it. Ranks are filled up to ``rank``."""
        inputs, outputs = parts[0][0][0], [shape[1] for shape, _ in parts]
        # Parts behind one another are as one matrix: they are blocks of outputs.
        downs = [self._place(native.quantised_bytes(rank, inputs)) for _ in parts]
        ups = [self._place(native.quantised_bytes(size, rank, native.SHORT_RUN)) for size in outputs]
        width = -(-inputs // native.RUN) * native.RUN
        for (_, change), size, down, up in zip(parts, outputs, downs, ups, strict=True):
            self._layout.add(change and change.down_RI, (rank, width), native.RUN, 1.0, down)
            self._layout.add(change and change.up_OR, (size, rank), native.SHORT_RUN, change.scaling if change else 0.0, up)
        self.deltas[at] = native.NativeDelta(downs[0], ups[0], inputs, rank, len(parts), tuple(outputs))

    def _place(self, count: int) -> int:
        """Where the next ``count`` bytes lie, whole cache lines."""
        start, self._taken = self._taken, self._taken + count
        assert count % _LINE == 0, "pieces begin at halves of cache lines"
        assert self._taken <= len(self._room), "more is put than there is room for"
        return self._room.data_ptr() + start

    def fill(self) -> None:
        """Lays out what was put; once, and before it is used."""
        self._layout.write()
        self._layout = native.AdapterLayout()


def can_compute(model: Any, *, eight_bits: bool = False) -> bool:
    """True where the kernels compute what the model does: sizes in whole registers, SwiGLU or GeGLU, no bias on what is added to the
    stream; with ``eight_bits`` inputs in whole runs that have a scale."""
    config, layer = model.config, model.model.layers[0]
    sizes = (config.hidden_size, config.intermediate_size, config.vocab_size, *(n for pair in linear_shapes(model).values() for n in pair))
    return (
        activation_of(config) in ("silu", _GELU)
        and layer.self_attn.head_dim % 32 == 0
        and layer.self_attn.head_dim <= 512
        and all(size % _LANES == 0 for size in sizes)
        and not (eight_bits and any(inputs % native.RUN for inputs, _ in linear_shapes(model).values()))
        and layer.self_attn.o_proj.bias is None
        and layer.mlp.down_proj.bias is None
    )


class NativeForward(WrittenOutForward):
    """As ``TorchForward``, packed. ``threads`` compute a step together. With ``eight_bits`` the weights of linear layers and of the head
    are int8, with a scale for each output and 64 inputs. Adapters are held in int8.
    ``form`` is another than the processor's."""

    kernels = "native"

    def __init__(self, model: Any, threads: int, *, eight_bits: bool = False, form: native.Form | None = None) -> None:
        config = model.config
        self._library = native.library(form)
        self._eight_bits = eight_bits
        self.context: int = config.max_position_embeddings
        self.layers = config.num_hidden_layers
        self.linears = linear_shapes(model)
        self._held: list[Any] = []
        self._hidden: int = config.hidden_size
        self.vocabulary: int = config.vocab_size
        self._block = config.num_key_value_heads * model.model.layers[0].self_attn.head_dim * BLOCK
        self.token_nbytes = self.layers * 2 * self._block // BLOCK * 2
        matrices = [*list(self.linears.values()) * self.layers, (self._hidden, self.vocabulary)]
        self._shelf = WeightBuffer(sum(native.packed_size(o, i, eight_bits=eight_bits) for i, o in matrices))
        self._model = self._described(model, threads)
        self.nbytes = self._shelf.nbytes + sum(held.nbytes for held in self._held if isinstance(held, torch.Tensor))

    def memory(self, blocks: int) -> NativeMemory:
        """Room for the keys and values of ``blocks`` blocks."""
        return NativeMemory(self.layers, blocks, self._block)

    def adapt(self, changes: Changes) -> NativeAdapter:
        """An adapter laid out for the kernels. Ranks are filled up with zeros to whole registers."""
        ranks = self._ranks(changes)
        count = sum(self._change_bytes(rank, GROUPS[group]) for (_, group), rank in ranks.items())
        adapter = NativeAdapter(self.layers, count)
        for (layer, group), rank in ranks.items():
            parts = [(self.linears[name], changes.get((layer, name))) for name in GROUPS[group]]
            adapter.put(layer * len(GROUPS) + list(GROUPS).index(group), rank, parts)
        adapter.fill()
        return adapter

    def _change_bytes(self, rank: int, names: Sequence[str]) -> int:
        shapes = [self.linears[name] for name in names]
        return sum(
            native.quantised_bytes(rank, inputs) + native.quantised_bytes(outputs, rank, native.SHORT_RUN) for inputs, outputs in shapes
        )

    def _ranks(self, changes: Changes) -> dict[tuple[int, str], int]:
        """The rank of each joint product that is changed, in whole registers, in the order of a step."""
        found = {}
        for layer in sorted({layer for layer, _ in changes}):
            for group, names in GROUPS.items():
                ranks = [len(changes[layer, name].down_RI) for name in names if (layer, name) in changes]
                if ranks:
                    found[layer, group] = -(-max(ranks) // _LANES) * _LANES
        return found

    def hidden(self, batch: Batch, memory: NativeMemory) -> torch.Tensor:
        """Hidden states (ME, bf16) of the wanted tokens after the last norm; keys and values of all tokens are laid into ``memory``."""
        out = torch.empty(len(batch.wants), self._hidden, dtype=torch.bfloat16)
        groups = (native.NativeGroup * len(batch.groups))(
            *(native.NativeGroup(start, stop, ctypes.addressof(of.deltas) if of else None) for start, stop, of in batch.groups)
        )
        arrays = {name: getattr(batch, name).ctypes.data_as(POINTER(c_int32)) for name in _ARRAYS}
        given = native.NativeBatch(rows=len(batch.tokens), groups=len(groups), wanted=len(batch.wants), group=groups, **arrays)
        keys, values = memory.keys, memory.values
        self._library.hidden(byref(self._model), byref(given), keys.data_ptr(), values.data_ptr(), keys.shape[1], out.data_ptr())
        return out

    def logits(self, hidden_ME: torch.Tensor) -> torch.Tensor:
        """Logits (MV, fp32) of the tokens that could follow."""
        out = torch.empty(len(hidden_ME), self.vocabulary)
        self._library.logits(byref(self._model), hidden_ME.contiguous().data_ptr(), len(hidden_ME), out.data_ptr())
        return out

    def _described(self, model: Any, threads: int) -> native.NativeModel:
        config, attention, told = model.config, model.model.layers[0].self_attn, traits_of(model)
        tables = [[self._hold(table).data_ptr() for table in each] for each in told.positions]
        layers = (native.NativeLayer * self.layers)(
            *(self._layer(layer, tables[told.tables[at]], told.windows[at]) for at, layer in enumerate(model.model.layers))
        )
        embedding = self._hold(model.get_input_embeddings().weight.detach().contiguous())
        self._held.append(layers)
        return native.NativeModel(
            layers=self.layers,
            hidden=config.hidden_size,
            query_heads=config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            head_size=attention.head_dim,
            inner=config.intermediate_size,
            vocabulary=config.vocab_size,
            threads=threads,
            gelu=activation_of(config) == _GELU,
            epsilon=config.rms_norm_eps,
            scale=told.attention_scale,
            embedding_scale=told.embedding_scale,
            embedding=embedding.data_ptr(),
            norm=self._hold(norm_weight(model.model.norm)).data_ptr(),
            layer=layers,
            head=self._matrix(model.lm_head.weight.detach(), None),
        )

    def _layer(self, layer: Any, tables: Sequence[int], window: int) -> native.NativeLayer:
        norms = [None if norm is None else self._hold(norm).data_ptr() for norm in block_norms(layer)]
        return native.NativeLayer(*norms, *tables, window, *(self._matrix(*joined(layer, group)) for group in GROUPS))

    def _matrix(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> native.NativeMatrix:
        outputs, inputs = weight_OI.shape
        packed = self._shelf.take(native.packed_size(outputs, inputs, eight_bits=self._eight_bits))
        (native.pack_eight if self._eight_bits else native.pack)(weight_OI, packed)
        bias = self._hold(bias_O.float()).data_ptr() if bias_O is not None else None
        return native.NativeMatrix(packed.data_ptr(), bias, inputs, outputs, self._eight_bits)

    def _hold(self, tensor: torch.Tensor) -> torch.Tensor:
        self._held.append(tensor)
        return tensor
