"""What ``tailorbird doctor`` prints of the first batch."""

from __future__ import annotations

from tailorbird.cli.doctor import batch_lines
from tailorbird.domain.preflight import Examination, ShownToken

ROW = (
    ShownToken(text="<|im_start|>", learned=False, id=1, control=True),
    ShownToken(text="assistant", learned=False, id=520),
    ShownToken(text="\n", learned=False, id=198),
    ShownToken(text=" On\u200b", learned=True, id=1913),
    ShownToken(text="<|im_end|>", learned=True, id=2, control=True),
)


def test_the_first_row_stands_token_by_token_with_its_mask() -> None:
    lines = batch_lines(Examination(findings=(), first_batch=(ROW, ROW, ROW)), 2)
    assert lines[:2] == ["the first batch, 2 of 3 rows:", "  row 1: 5 tokens, 2 of them learned"]
    assert [line.split() for line in lines[2:8]] == [
        ["place", "mask", "id", "token"],
        ["0", "read", "1", "|<|im_start|>|", "(control)"],
        ["1", "read", "520", "|assistant|"],
        ["2", "read", "198", "|\\n|"],
        ["3", "learned", "1913", "|", "On\\u200b|"],
        ["4", "learned", "2", "|<|im_end|>|", "(control)"],
    ]
    assert lines[8:] == [
        "  row 2: 5 tokens, 2 of them learned",
        "    read: <|im_start|>│assistant│⏎",
        "    learned:  On\u200b│<|im_end|>",
    ]


def test_of_a_long_stretch_both_ends_are_shown() -> None:
    read = tuple(ShownToken(text=str(place), learned=False, id=place) for place in range(1000))
    lines = batch_lines(Examination(findings=(), first_batch=((*read, ROW[-1]),)), 1)
    assert len(lines) == 3 + 40 + 1 + 40 + 1
    assert lines[43].strip() == "... 920 more tokens ..."
    assert lines[42].split()[0] == "39"
    assert lines[44].split()[0] == "960"
