"""The bundle names everything an answer depends on, and parts that do not belong together make none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from support.release import NOW, base, content, name_of, objective, parts
from tailorbird.domain.errors import InvalidInput
from tailorbird.release import ReleaseParts, assemble, release_digest


def test_the_same_parts_have_the_same_name_and_any_other_part_another() -> None:
    assert release_digest(content()) == release_digest(content())
    names = {release_digest(assemble(replace(parts(), snapshot=name_of("other"))))}
    names |= {release_digest(content(kind)) for kind in ("lora", "full", "prompt")}
    names |= {release_digest(content(author="somebody-else"))}
    assert len(names) == 5


def test_when_a_run_was_made_does_not_change_the_name() -> None:
    later = replace(parts(), run=parts().run.model_copy(update={"created_at": NOW + timedelta(days=1)}))
    assert assemble(later) == content()


@pytest.mark.parametrize(
    "wrong",
    [
        (parts("floor")),
        (replace(parts(), base=base().model_copy(update={"digest": name_of("other base")}))),
        (replace(parts(), objective=objective(margin=0.1))),
        (replace(parts(), run=parts().run.model_copy(update={"tenant": "rival"}))),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(wrong: ReleaseParts) -> None:
    with pytest.raises(InvalidInput):
        assemble(wrong)
