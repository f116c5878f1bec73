"""What was sealed comes back whole or not at all: no byte, no order, no end, no name can be changed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto import sealed_stream
from tailorbird.crypto.sealed_stream import (
    CHUNK,
    HEADER,
    TAG,
    plain_size,
    read_label,
    seal_bytes,
    sealed_size,
    sealing,
    unseal_bytes,
    unsealing,
)
from tailorbird.domain.errors import Corrupt

KEY, OTHER = bytes(range(32)), bytes(32)
LABEL = b"L" * 32
WHOLE = CHUNK + TAG


def seal(data: bytes, key: bytes = KEY, context: bytes = b"name") -> bytes:
    return sealing(io.BytesIO(data), key, context, LABEL).read()


def unseal(sealed: bytes, key: bytes = KEY, context: bytes = b"name") -> bytes:
    return unsealing(io.BytesIO(sealed), key, context).read()


@pytest.fixture(scope="module")
def sealed() -> bytes:
    """Three chunks, the last one short."""
    return seal(bytes(2 * CHUNK) + b"the end")


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_what_is_sealed_comes_back_and_sizes_are_told_from_outside(size: int) -> None:
    data = bytes(size)
    sealed = seal(data)
    assert (len(sealed), plain_size(len(sealed))) == (sealed_size(size), size)
    assert unseal(sealed) == data
    assert read_label(io.BytesIO(sealed), KEY, b"name") == LABEL


@given(size=st.integers(0, 5 * CHUNK))
def test_a_size_is_that_of_one_plaintext(size: int) -> None:
    assert plain_size(sealed_size(size)) == size


@given(data=st.binary(max_size=200), pieces=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_a_stream_that_gives_little_at_once_is_sealed_whole(data: bytes, pieces: list[int]) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(pieces[self.tell() % len(pieces)], size if size and size > 0 else 1 << 30))

    sealed = sealing(Slow(data), KEY, b"name", LABEL).read()
    assert unsealing(Slow(sealed), KEY, b"name").read() == data


def test_the_same_bytes_are_never_sealed_alike() -> None:
    assert seal(b"the same") != seal(b"the same")
    assert b"the same" not in seal(b"the same")


@pytest.mark.parametrize("place", [0, 50, HEADER, HEADER + WHOLE + 5, -1])
def test_one_flipped_bit_is_refused(sealed: bytes, place: int) -> None:
    changed = bytearray(sealed)
    changed[place] ^= 1
    with pytest.raises(Corrupt):
        unseal(bytes(changed))


@pytest.mark.parametrize(
    "left",
    [
        0,
        HEADER,
        HEADER + WHOLE,
        -1,
    ],
)
def test_a_file_that_was_cut_off_is_refused(sealed: bytes, left: int) -> None:
    with pytest.raises(Corrupt) as refused:
        unseal(sealed[:left])
    at_an_edge = left in (0, 7, HEADER - 1, HEADER, HEADER + WHOLE, HEADER + 2 * WHOLE)
    assert not at_an_edge or refused.value.error_code == "corrupt"


def test_chunks_that_were_exchanged_repeated_or_dropped_are_refused(sealed: bytes) -> None:
    header, rest = sealed[:HEADER], sealed[HEADER:]
    one, two, end = rest[:WHOLE], rest[WHOLE : 2 * WHOLE], rest[2 * WHOLE :]
    for wrong in ([two, one, end], [one, one, end], [one, end], [two, end], [one, two, end, end], [end], [one, two, end, b"more"]):
        with pytest.raises(Corrupt):
            unseal(header + b"".join(wrong))


def test_chunks_of_another_file_under_the_same_key_are_refused(sealed: bytes) -> None:
    other = seal(b"x" * 2 * CHUNK + b"an end!")
    for mixed in (
        sealed[:HEADER] + other[HEADER:],
        sealed[: HEADER + WHOLE] + other[HEADER + WHOLE :],
        other[:HEADER] + sealed[HEADER:],
    ):
        with pytest.raises(Corrupt):
            unseal(mixed)


def test_another_key_and_another_name_are_refused_at_once(sealed: bytes) -> None:
    for key, context in ((OTHER, b"name"), (KEY, b"another name")):
        with pytest.raises(Corrupt) as refused:
            unseal(sealed, key, context)
        assert refused.value.error_code == "corrupt"
        with pytest.raises(Corrupt):
            read_label(io.BytesIO(sealed), key, context)


def test_what_was_read_before_a_fault_is_not_the_end(sealed: bytes) -> None:
    """Whoever reads piece by piece meets the fault before the end, and never an early end."""
    stream = unsealing(io.BytesIO(sealed[: HEADER + 2 * WHOLE]), KEY, b"name")
    assert stream.read(CHUNK) == bytes(CHUNK)
    with pytest.raises(Corrupt):
        list(iter(lambda: stream.read(1 << 16), b""))


def test_a_format_that_is_read_in_ten_years_is_read_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The salt aside, nothing is random: this file was made on 2026-11-27."""
    monkeypatch.setattr(sealed_stream.secrets, "token_bytes", lambda size: bytes(range(size)))
    assert seal(b"a text").hex() == (Path(__file__).with_name("sealed_text.hex")).read_text().strip()


@given(data=st.binary(max_size=300), place=st.integers(0, 1000))
def test_small_texts_are_sealed_as_one_piece(data: bytes, place: int) -> None:
    sealed = seal_bytes(data, KEY, b"name")
    assert unseal_bytes(sealed, KEY, b"name") == data
    changed = bytearray(sealed)
    changed[place % len(changed)] ^= 1
    for wrong, key, context in ((bytes(changed), KEY, b"name"), (sealed, OTHER, b"name"), (sealed, KEY, b"n"), (sealed[:-1], KEY, b"name")):
        with pytest.raises(Corrupt):
            unseal_bytes(wrong, key, context)
    with pytest.raises(Corrupt):
        unseal_bytes(sealed[:20], KEY, b"name")
