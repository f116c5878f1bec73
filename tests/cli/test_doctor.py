"""What ``tailorbird doctor`` prints of the first batch."""

from __future__ import annotations

from tailorbird.cli.adapt import batch_lines
from tailorbird.domain.plan import Examination, ShownToken

ROW = (
    ShownToken(text="<|im_start|>", learned=False, id=1, control=True),
    ShownToken(text="assistant", learned=False, id=520),
    ShownToken(text="\n", learned=False, id=198),
    ShownToken(text=" On\u200b", learned=True, id=1913),
    ShownToken(text="<|im_end|>", learned=True, id=2, control=True),
)


def test_a_row_is_shown_as_what_is_read_and_what_is_learned() -> None:
    lines = batch_lines(Examination(findings=(), first_batch=(ROW, ROW, ROW)), 1)
    assert lines == [
        "the first batch, 1 of 3 rows:",
        "  row 1: 5 tokens, 2 of them learned",
        "    read: <|im_start|>│assistant│⏎",
        "    learned:  On\u200b│<|im_end|>",
    ]
