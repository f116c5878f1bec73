"""The seal of the log's head: made by the key beside the database, demanded ever after, and never made good by another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.auth import KeyFileSealer, load_key, public_key
from tailorbird.domain.errors import Corrupt, NotFound
from tailorbird.domain.event import LogHead

HEAD = LogHead(size=3, root="ab" * 32, state="cd" * 32)


def sealed(folder: Path, head: LogHead = HEAD) -> str:
    return KeyFileSealer(folder).seal(head, was_sealed=False, is_new=True)


def test_a_seal_holds_for_one_head_alone(tmp_path: Path) -> None:
    seal = sealed(tmp_path)
    KeyFileSealer(tmp_path).check(HEAD, seal)
    for field, value in {"size": 4, "root": "00" * 32, "state": "00" * 32}.items():
        with pytest.raises(Corrupt):
            KeyFileSealer(tmp_path).check(HEAD.model_copy(update={field: value}), seal)


def test_a_seal_by_another_key_is_none(tmp_path: Path) -> None:
    sealed(tmp_path / "ours")
    with pytest.raises(Corrupt, match="not sealed by the key"):
        KeyFileSealer(tmp_path / "ours").check(HEAD, sealed(tmp_path / "theirs"))


def test_taking_the_seal_away_is_told_once_there_was_one(tmp_path: Path) -> None:
    KeyFileSealer(tmp_path).check(HEAD, "")
    seal = sealed(tmp_path)
    KeyFileSealer(tmp_path).check(HEAD, seal)
    with pytest.raises(Corrupt, match="it was before"):
        KeyFileSealer(tmp_path).check(HEAD, "")


def test_the_public_key_is_enough_to_check_and_not_to_seal(tmp_path: Path) -> None:
    seal = sealed(tmp_path / "first")
    other = tmp_path / "other"
    (other / "keys").mkdir(parents=True)
    with pytest.raises(NotFound):
        KeyFileSealer(other).check(HEAD, seal)
    (other / "keys" / "log.pub").write_text(public_key(load_key(tmp_path / "first" / "keys" / "log.key")) + "\n")
    KeyFileSealer(other).check(HEAD, seal)
    with pytest.raises(NotFound, match="seals this log"):
        KeyFileSealer(other).seal(HEAD, was_sealed=True, is_new=False)
    assert KeyFileSealer(other).seal(HEAD, was_sealed=False, is_new=True) == ""
    assert not (other / "keys" / "log.key").exists()


def test_a_log_that_was_signed_elsewhere_gets_no_new_key(tmp_path: Path) -> None:
    assert KeyFileSealer(tmp_path).seal(HEAD, was_sealed=False, is_new=False) == ""
    assert not (tmp_path / "keys").exists()


def test_a_log_shorter_than_was_committed_is_refused(tmp_path: Path) -> None:
    sealer = KeyFileSealer(tmp_path)
    longer = HEAD.model_copy(update={"size": 5})
    for head in (HEAD, HEAD, longer):
        sealer.check_growth(head)
    for head in (HEAD, longer, HEAD):  # of two commits at once, the earlier may be remembered last
        sealer.remember(head)
    sealer.check_growth(longer)
    for other in (HEAD, longer.model_copy(update={"root": "00" * 32})):
        with pytest.raises(Corrupt):
            sealer.check_growth(other)
