"""The bundle names everything an answer depends on, and parts that do not belong together make none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from support.release import NOW, base, content, made, name_of, objective, parts
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import InvalidInput
from tailorbird.release import ReleaseParts, assemble, release_digest


def test_a_bundle_holds_the_digests_of_its_parts() -> None:
    bundle = content()
    assert bundle.objective == digest_of(objective())
    assert bundle.candidate == digest_of(made())
    assert (bundle.adapter, bundle.weights) == (name_of("adapter"), None)
    assert (bundle.base_model, bundle.tokenizer, bundle.chat_template) == (name_of("base"), name_of("tokenizer"), name_of("template"))
    assert (bundle.author, bundle.risk.value, bundle.rung.value) == ("author", "limited", "lora")


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
    ("wrong", "says"),
    [
        (parts("floor"), "measured for reference"),
        (replace(parts(), base=base().model_copy(update={"digest": name_of("other base")})), "another base model"),
        (replace(parts(), objective=objective(margin=0.1)), "another objective"),
        (replace(parts(), run=parts().run.model_copy(update={"tenant": "rival"})), "another tenant"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(wrong: ReleaseParts, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        assemble(wrong)
