"""objective.yaml: what is read, and the line, reason and nearest valid value of everything that is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.objective import parse_objective, read_objective

GOOD = """\
name: banking-intents
tenant: acme
business:
  goal: Send each message to the right team.
  owner: support
  risk: limited
task:
  kind: classify
  instruction: Classify the message.
data:
  - path: data/train.csv
    label: category
    source: {origin: somewhere, license: CC-BY-4.0, collected: 2020-03-01}
kpis:
  - {metric: accuracy, target: 0.90, because: routing is 90 % right}
  - metric: recall[compromised_card]
    target: 0.80
limits:
  latency_p95_ms: {at_concurrency: 4, max: 800}
margin: 0.02
budget: {money: 5, hours: 1, memory_gb: auto}
ladder: [prompt, lora]
approvals: auto
"""


def refused(text: str) -> ObjectiveInvalid:
    with pytest.raises(ObjectiveInvalid) as caught:
        parse_objective(text, "o.yaml")
    return caught.value


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_file_is_read_with_lines() -> None:
    file = parse_objective(GOOD, "team/o.yaml")
    objective = file.objective
    assert (objective.name, objective.task.kind) == ("banking-intents", TaskKind.CLASSIFY)
    assert objective.ladder == (RungKind.PROMPT, RungKind.LORA)
    assert objective.data[0].source.collected == "2020-03-01"
    assert file.folder == "team"
    assert (file.line_of("kpis.0.target"), file.line_of("kpis.1.target"), file.line_of("limits.latency_p95_ms.max")) == (15, 17, 19)
    assert file.line_of("kpis.1.because") == 16
    assert file.line_of("seed") == 1


def test_an_adapter_of_the_encoder_may_be_asked_for() -> None:
    listed = changed("[prompt, lora]", "[floor, encoder]").replace("margin: 0.02", "encoder: {method: lora, rank: 8}")
    wishes = parse_objective(listed, "o.yaml").objective.encoder
    assert (wishes.method, wishes.rank) == ("lora", 8)
    assert refused(changed("margin: 0.02", "encoder: {method: lora}")).line == 20
    assert refused(listed.replace("method: lora, ", "")).line == 20


def test_a_file_is_read_from_disk_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text("\ufeff" + GOOD, encoding="utf-8")
    assert read_objective(tmp_path / "o.yaml").folder == str(tmp_path.resolve())


@pytest.mark.parametrize(
    ("old", "new", "line", "nearest"),
    [
        ("margin:", "margn:", 20, "margin"),
        ("margin: 0.02", "risk: high", 20, ""),
        ("margin: 0.02", "base_models: [a, b, a]", 20, ""),
        ("margin: 0.02", "full: {epochs: 0}", 20, "1"),
        ("  risk: limited\n", "", 3, ""),
        ("risk: limited", "risk: hihg", 6, "high"),
        ("[prompt, lora]", "[prompt, lorra]", 22, "lora"),
        ("[prompt, lora]", "[]", 22, ""),
        ("approvals: auto", "approvals: [operator]", 23, ""),
        ("target: 0.90", "target: 1.2", 15, "1"),
        ("target: 0.90", "target: 90", 15, "0.9"),
        ("metric: accuracy", "metric: acuracy", 15, "accuracy"),
        ("metric: accuracy", "metric: 'f1[x]'", 15, ""),
        ("kind: classify", "kind: classify\n  label_order: [yes, no, maybe]", 9, ""),
        ("metric: accuracy", "metric: token_f1", 15, ""),
        ("margin: 0.02", "margin: 0.7", 20, "0.5"),
        ("margin: 0.02", "margin: [1", 21, ""),
        ("margin: 0.02", "margin: \x07", 20, ""),
        ("margin: 0.02", "margin: !!python/object/apply:os.getcwd []", 20, ""),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_nearest_valid_value(old: str, new: str, line: int, nearest: str) -> None:
    error = refused(changed(old, new))
    assert (error.line, error.message.startswith(f"o.yaml:{line}: ")) == (line, True)
    assert error.hint
    assert nearest in error.hint


def test_all_faults_are_told_at_once_first_line_first() -> None:
    text = changed("margin: 0.02", "margn: 0.02").replace("risk: limited", "risk: medium")
    error = refused(text)
    assert error.line == 6
    assert [line.split(" ")[0] for line in error.message.splitlines()] == ["o.yaml:6:", "o.yaml:20:"]


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "- a\n- b\n", "just words\n"])
def test_a_file_that_is_empty_or_no_mapping_is_refused(text: str) -> None:
    assert refused(text).line >= 1


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectiveInvalid):
        read_objective(tmp_path / "none.yaml")
    with pytest.raises(ObjectiveInvalid):
        read_objective(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nowner: caf\xe9\n")
    with pytest.raises(ObjectiveInvalid) as caught:
        read_objective(tmp_path / "latin.yaml")
    assert caught.value.line == 2


LINES = GOOD.splitlines()


@given(st.integers(0, len(LINES) - 1), st.integers(0, 60), st.text(max_size=6))
def test_a_damaged_file_is_read_or_refused_with_a_line_in_it(row: int, column: int, noise: str) -> None:
    damaged = [*LINES]
    damaged[row] = damaged[row][:column] + noise + damaged[row][column + len(noise) :]
    text = "\n".join(damaged)
    error = refusal(text)
    if error is not None:
        assert 1 <= error.line <= sum(text.count(end) for end in "\n\r\x85\u2028\u2029") + 2
        assert error.message.startswith(f"o.yaml:{error.line}: ")
        assert error.hint


def refusal(text: str) -> ObjectiveInvalid | None:
    try:
        parse_objective(text, "o.yaml")
    except ObjectiveInvalid as error:
        return error
    return None


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_any_value_under_any_key_is_read_or_refused(value: object) -> None:
    import yaml

    for key in ("business", "data", "kpis", "budget", "ladder", "margin", "limits"):
        text = "".join(line + "\n" for line in LINES if not line.startswith((" ", key))) + yaml.safe_dump({key: value}, allow_unicode=True)
        with pytest.raises(ObjectiveInvalid):
            parse_objective(text, "o.yaml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("metric: accuracy, target: 0.90", "metric: selective_risk, target: 0.05"),
        ("kind: classify", "kind: classify\n  format: {json_keys: [a]}"),
        ("kind: classify", "kind: generate\n  format: {pattern: '('}"),
        ("margin: 0.02", "referral: {max_error: 1.5}"),
    ],
)
def test_keys_that_metrics_rest_on(old: str, new: str) -> None:
    assert refused(changed(old, new)).line > 0


def test_format_valid_and_referral_where_they_fit() -> None:
    text = changed("margin: 0.02", "referral: {max_error: 0.05}").replace("metric: accuracy, target: 0.90", "metric: coverage, target: 0.6")
    assert parse_objective(text, "o.yaml").objective.referral is not None
    generating = changed("kind: classify", "kind: generate").replace("  - metric: recall[compromised_card]\n    target: 0.80\n", "")
    without = generating.replace("metric: accuracy", "metric: format_valid")
    refused(without)
    parse_objective(without.replace("kind: generate", "kind: generate\n  format: {json_keys: [a]}"), "o.yaml")
    by_field = generating.replace("metric: accuracy", "metric: field_score")
    refused(by_field.replace("kind: generate", "kind: generate\n  format: {pattern: a}"))
    parse_objective(by_field.replace("kind: generate", "kind: generate\n  format: {json_keys: [a]}"), "o.yaml")
    refused(many())


SCOPED = changed("  kind: classify", "  kind: classify\n  out_of_scope: {refuse_known_at_most: 0.05}")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (SCOPED.replace("kind: classify\n", "kind: classify\n  labels: many\n"), "out_of_scope_task"),
        (SCOPED.replace("kind: classify", "kind: rank"), "out_of_scope_task"),
        (changed("    label: category", "    out_of_scope: true"), "objective_invalid"),
        (changed("metric: accuracy", "metric: known_refused"), "objective_invalid"),
    ],
)
def test_what_cannot_be_refused_as_out_of_scope_is_refused(text: str, code: str) -> None:
    assert parse_objective(SCOPED, "o.yaml").objective.task.out_of_scope is not None
    assert (
        refused(text + ("documents: [{path: d.jsonl, source: {origin: o, license: MIT}}]\n" if "rank" in text else "")).error_code == code
    )


def generating(referral: str, metric: str = "referral_recall") -> str:
    text = changed("kind: classify", "kind: generate").replace("  - metric: recall[compromised_card]\n    target: 0.80\n", "")
    return text.replace("metric: accuracy", f"metric: {metric}").replace("margin: 0.02", referral)


def test_a_generated_answer_is_referred_for_what_it_says() -> None:
    objective = parse_objective(generating("referral: {pattern: 'a colleague'}"), "o.yaml").objective
    assert objective.referral is not None
    parse_objective(generating("referral: {pattern: 'a colleague'}", "coverage"), "o.yaml")
    for text in (
        generating("referral: {max_error: 0.05, pattern: a}"),
        changed("margin: 0.02", "referral: {pattern: a}"),
        generating("referral: {pattern: '('}"),
        generating("margin: 0.02"),
        generating("referral: {pattern: a}", "selective_risk"),
    ):
        assert refused(text).line > 0


def many() -> str:
    text = changed("kind: classify", "kind: classify\n  labels: many").replace("metric: accuracy", "metric: exact_match")
    return text.replace("margin: 0.02", "referral: {max_error: 0.05}")


def made_at(written: str) -> str:
    made = f"{{endpoint: outside, model: example-large, at: {written}}}"
    return changed("    source: {origin: somewhere,", f"    split: train\n    source: {{generated: {made}, origin: somewhere,")


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-29T08:00:00+02:00",
    ],
)
def test_a_moment_needs_no_quotes(written: str) -> None:
    made = parse_objective(made_at(written), "o.yaml").objective.data[0].source.generated
    assert made is not None
    assert made.at == datetime(2026, 11, 29, 6, tzinfo=UTC)


@pytest.mark.parametrize("written", ["2026-11-29T06:00:00", "2026-11-29"])
def test_what_is_no_moment_is_told_what_one_is(written: str) -> None:
    error = refused(made_at(written))
    assert error.line == 14


def test_what_is_still_open_is_refused_wherever_it_stands() -> None:
    text = changed("origin: somewhere", 'origin: "FILL IN: whose data it is"').replace("owner: support", 'owner: "FILL IN"')
    error = refused(text)
    assert error.line == 5
    assert "\no.yaml:13: " in error.message


def test_what_is_learned_of_conversations() -> None:
    chats = changed("kind: classify", "kind: generate\n  learn: all").replace("label: category", "messages: chat")
    chats = chats.replace("accuracy", "token_f1").replace("recall[compromised_card]", "exact_match")
    assert parse_objective(chats, "o.yaml").objective.task.learn == "all"
    error = refused(chats.replace("messages: chat", "label: category"))
    assert error.line == 9
