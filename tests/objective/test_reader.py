"""objective.yaml: what is read, and the line, reason and nearest valid value of everything that is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.domain.base_model import EncoderPrefixes
from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import KNOWN_PREFIXES, TaskKind
from tailorbird.evaluation.metrics import AnswerKinds, answers_of
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


def test_one_base_model_or_several() -> None:
    assert parse_objective(GOOD, "o.yaml").objective.bases == ("smollm2-135m",)
    several = parse_objective(changed("margin: 0.02", "base_models: [smollm2-135m, models/wide]"), "o.yaml").objective
    assert several.bases == ("smollm2-135m", "models/wide")


def test_epochs_and_learning_rate_may_be_asked_for() -> None:
    objective = parse_objective(changed("margin: 0.02", "full: {epochs: 3, learning_rate: 2.0e-4}\nlora: {epochs: 5}"), "o.yaml").objective
    assert (objective.full.epochs, objective.full.learning_rate) == (3, 2e-4)
    assert (objective.lora.epochs, objective.lora.learning_rate) == (5, "auto")


def test_the_floor_may_read_vectors() -> None:
    assert parse_objective(changed("margin: 0.02", "floor: {vectors: true}"), "o.yaml").objective.floor.vectors is True
    assert parse_objective(GOOD, "o.yaml").objective.floor.vectors == "auto"


def test_an_adapter_of_the_encoder_may_be_asked_for() -> None:
    listed = changed("[prompt, lora]", "[floor, encoder]").replace("margin: 0.02", "encoder: {method: lora, rank: 8}")
    wishes = parse_objective(listed, "o.yaml").objective.encoder
    assert (wishes.method, wishes.rank) == ("lora", 8)
    assert "does not list the rung encoder" in refused(changed("margin: 0.02", "encoder: {method: lora}")).message
    assert "all weights are to be tuned" in refused(listed.replace("method: lora, ", "")).message


def test_an_encoder_may_be_named_whatever_the_ladder() -> None:
    asked = parse_objective(changed("margin: 0.02", "encoder: {model: models/mine, prefixes: nomic}"), "o.yaml").objective
    assert asked.models == (asked.base_model, "models/mine")
    assert asked.encoder.other_prefixes == KNOWN_PREFIXES["nomic"]
    own = parse_objective(changed("margin: 0.02", "encoder: {prefixes: {query: 'ask: '}}"), "o.yaml").objective.encoder
    assert own.other_prefixes == EncoderPrefixes(query="ask: ")
    assert own.model == "auto"
    refused(changed("margin: 0.02", "encoder: {prefixes: e6}"))


def test_a_file_is_read_from_disk_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text("\ufeff" + GOOD, encoding="utf-8")
    assert read_objective(tmp_path / "o.yaml").folder == str(tmp_path.resolve())


def test_generation_is_supported() -> None:
    text = changed("kind: classify", "kind: generate").replace("metric: accuracy", "metric: exact_match")
    text = text.replace("  - metric: recall[compromised_card]\n    target: 0.80\n", "")
    assert parse_objective(text, "o.yaml").objective.task.kind is TaskKind.GENERATE
    with pytest.raises(ObjectiveInvalid, match="is for kind: classify"):
        parse_objective(text + "floor: {vectors: true}\n", "o.yaml")


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "hint"),
    [
        ("margin:", "margn:", 20, "unknown key `margn`", "did you mean `margin`?"),
        ("margin: 0.02", "risk: high", 20, "unknown key `risk`", "`risk` belongs under `business`"),
        ("margin: 0.02", "base_models: []", 20, "`base_models` names none", "at least one"),
        ("margin: 0.02", "base_models: [a, b, a]", 20, "'a' is listed twice", "keep one"),
        ("margin: 0.02", "base_models: [a]\nbase_model: b", 20, "both `base_model` and `base_models`", "keep `base_models`"),
        ("margin: 0.02", "full: {epochs: 0}", 20, "`full.epochs` must be at least 1, not 0", "the nearest valid value is 1"),
        (
            "margin: 0.02",
            "floor: {vectors: maybe}",
            20,
            "`floor.vectors` must be true or false or auto, not a text",
            "true or false or auto",
        ),
        ("margin: 0.02", "full: {rank: 8}", 20, "unknown key `full.rank`", "`rank` belongs under `encoder`"),
        ("margin: 0.02", "full: {learning_rate: 2e-4}", 20, "a number or auto, not a text", "1e-3 is written 0.001"),
        ("margin: 0.02", "lora: {learning_rate: 1}", 20, "`lora.learning_rate` must be less than 1", "less than 1"),
        ("margin: 0.02", "zzz: 1", 20, "unknown key `zzz`", "known keys here: name, tenant"),
        ("{at_concurrency: 4, max: 800}", "{max: 800, at_concurency: 4}", 19, "`limits.latency_p95_ms.at_concurency`", "`at_concurrency`"),
        ("  risk: limited\n", "", 3, "`business` lacks the key `risk`", "add `risk:`"),
        ("kpis:\n", "kips:\n", 1, "the objective lacks the key `kpis`", "add `kpis:`"),
        ("risk: limited", "risk: hihg", 6, "`business.risk` cannot be 'hihg'", "did you mean 'high'?"),
        ("kind: classify", "kind: Classify", 8, "`task.kind` cannot be 'Classify'", "did you mean 'classify'?"),
        ("[prompt, lora]", "[prompt, lorra]", 22, "`ladder.1` cannot be 'lorra'", "did you mean 'lora'?"),
        (
            "[prompt, lora]",
            "[]",
            22,
            "the ladder has no rung",
            "encoder, prompt, nearest, grounding, hosted, prompt-search, lora, qlora, grounding+lora, full",
        ),
        ("[prompt, lora]", "[lora, lora]", 22, "the rung 'lora' is listed twice", "keep one"),
        ("[prompt, lora]", "yes", 22, "`ladder` must be auto or a list, not true or false", "auto or a list"),
        ("approvals: auto", "approvals: [aprover]", 23, "'aprover' is no role that decides", "did you mean 'approver'?"),
        ("approvals: auto", "approvals: [operator]", 23, "'operator' is no role that decides", "approver, reviewer"),
        ("target: 0.90", "target: 1.2", 15, "accuracy must be a share between 0 and 1, not 1.2", "the nearest valid value is 1"),
        ("target: 0.90", "target: 90", 15, "not 90", "write 0.9 for 90 %"),
        ("target: 0.90", "target: 0", 15, "not 0", "a number above 0"),
        ("target: 0.90", "target: high", 15, "`kpis.0.target` must be a number, not a text", "without quotes"),
        ("target: 0.90", "target: true", 15, "`kpis.0.target` must be a number, not true or false", "write a number"),
        ("target: 0.90", "target: .inf", 15, ".inf is not a finite number", "finite"),
        ("hours: 1,", "hours: 1:30,", 21, "1:30 would be read as a number to the base of 60", "plain number"),
        ("metric: accuracy", "metric: acuracy", 15, "unknown metric 'acuracy'", "did you mean 'accuracy'?"),
        ("metric: accuracy", "metric: f2", 15, "unknown metric 'f2'", "macro_f1"),
        (
            "metric: accuracy",
            "metric: 'f1[x]'",
            15,
            "does not fit a task of kind: classify",
            "accuracy, balanced_accuracy, macro_f1, precision[label]",
        ),
        ("metric: accuracy", "metric: ndcg@10", 15, "does not fit a task of kind: classify", "accuracy"),
        (
            "kind: classify",
            "kind: classify\n  labels: many",
            16,
            "'accuracy' does not fit a task of kind: classify, labels: many",
            "micro_f1, f1[label]",
        ),
        ("kind: classify", "kind: classify\n  labels: several", 9, "`task.labels` cannot be 'several'", "one, many"),
        ("kind: classify", "kind: classify\n  label_order: [low, high]", 9, "an order takes three labels", "name all labels"),
        ("kind: classify", "kind: classify\n  label_order: [1, 2, 1]", 9, "the label '1' stands twice", "each label once"),
        ("kind: classify", "kind: classify\n  label_order: [yes, no, maybe]", 9, "must be a text, not true or false", "in quotes"),
        ("kind: classify", "kind: classify\n  label_order: low", 9, "`task.label_order` must be a list, not a text", "list"),
        ("metric: accuracy", "metric: within_one", 15, "within_one needs to know the order", "`label_order: [lowest, ..., highest]`"),
        ("metric: accuracy", "metric: precision", 15, "metric 'precision' needs a label", "precision[some_label]"),
        ("metric: accuracy", "metric: 'accuracy[x]'", 15, "metric 'accuracy' takes no label", "write accuracy"),
        ("recall[compromised_card]", "recall[", 16, "does not read as name[label]", "recall[some_label]"),
        ("recall[compromised_card]", "accuracy", 16, "the metric 'accuracy' has a target already, on line 15", "keep one"),
        ("metric: accuracy", "metric: token_f1", 15, "does not fit a task of kind: classify", "accuracy"),
        ("target: 0.80", "target: -1", 17, "not -1", "above 0"),
        ("name: banking-intents", "name: Banking Intents", 1, "`name` must be a name of lower-case letters", "write 'banking-intents'"),
        ("goal: Send each message to the right team.", "goal: ''", 4, "`business.goal` must not be empty", "write"),
        ("goal: Send each message to the right team.", "goal:", 4, "`business.goal` must be a text, not empty", "write a text"),
        ("owner: support", "owner: no", 5, "`business.owner` must be a text, not true or false", "in quotes"),
        ("2020-03-01", "2020-13-45", 13, "not a date or number that can be read", "quotes"),
        ("margin: 0.02", "margin: 0.7", 20, "`margin` must be at most 0.5, not 0.7", "the nearest valid value is 0.5"),
        ("memory_gb: auto", "memory_gb: lots", 21, "`budget.memory_gb` must be a number or auto, not a text", "plain number"),
        ("memory_gb: auto", "memory_gb: 0", 21, "`budget.memory_gb` must be more than 0", "more than 0"),
        ("tenant: acme", "tenant: acme\ntenant: other", 3, "key 'tenant' stands here again; it was first given on line 2", "keep one"),
        ("margin: 0.02", "margin: [1", 21, "malformed YAML", "close every bracket"),
        ("margin: 0.02", "\tmargin: 0.02", 20, "malformed YAML", "with spaces, not with tabs"),
        ("margin: 0.02", "margin: 'x", 24, "in what begins on line 20", "quote"),
        ("margin: 0.02", "margin: \x07", 20, "a character that YAML does not allow", "remove"),
        ("margin: 0.02", "---\nmargin: 0.02", 20, "malformed YAML", "one document in one file"),
        ("margin: 0.02", "margin: !!python/object/apply:os.getcwd []", 20, "is not taken", "remove the tag"),
        ("margin: 0.02", "? [a]\n: 1", 20, "a key must be a plain word", "remove"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old: str, new: str, line: int, message: str, hint: str) -> None:
    error = refused(changed(old, new))
    first = error.message.splitlines()[0]
    assert error.line == line
    assert first.startswith(f"o.yaml:{line}: ")
    assert message in first
    assert hint in error.hint


MANY = (
    changed("kind: classify", "kind: classify\n  labels: many")
    .replace("metric: accuracy", "metric: micro_f1")
    .replace("recall[compromised_card]\n", "'f1[compromised_card]'\n")
)


def test_an_order_of_labels_is_of_one_label_an_item_and_names_all() -> None:
    order = "kind: classify\n  label_order: [1, '2', 3]"
    assert parse_objective(changed("kind: classify", order), "o.yaml").objective.task.label_order == ("1", "2", "3")
    assert "fits no task of kind: classify, labels: many" in refused(MANY.replace("kind: classify", order)).message


def test_several_labels_are_read_with_metrics_of_their_own() -> None:
    file = parse_objective(MANY, "o.yaml")
    assert (file.objective.task.labels, answers_of(file.objective.task)) == ("many", AnswerKinds.LABELS)
    for metric in ("macro_f1", "exact_match", "'precision[x]'", "'recall[x]'"):
        parse_objective(MANY.replace("micro_f1", metric), "o.yaml")
    assert "exact_match" in refused(MANY.replace("micro_f1", "accuracy")).hint


def test_only_classes_come_in_numbers() -> None:
    error = refused(
        MANY.replace("kind: classify", "kind: generate").replace("micro_f1", "token_f1").replace("'f1[compromised_card]'", "exact_match")
    )
    assert (error.line, error.message) == (9, "o.yaml:9: `task.labels` is for kind: classify, and this task is of kind generate")


def test_all_faults_are_told_at_once_first_line_first() -> None:
    text = changed("margin: 0.02", "margn: 0.02").replace("risk: limited", "risk: medium")
    error = refused(text)
    assert error.line == 6
    assert [line.split(" ")[0] for line in error.message.splitlines()] == ["o.yaml:6:", "o.yaml:20:"]
    assert "did you mean `margin`?" in error.message


def test_metrics_of_the_other_kind_are_listed() -> None:
    assert "exact_match, token_f1" in refused(changed("kind: classify", "kind: generate")).hint


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert refused(text).message.endswith(":1: the file is empty")


@pytest.mark.parametrize("text", ["- a\n- b\n", "3\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert "the objective must be a section" in refused(text).message


def test_an_alias_saves_writing() -> None:
    again = "    source: *src\n  - path: data/more.csv\n    label: category\n    source: *src\nkpis:"
    text = changed("    source: {", "    source: &src {").replace("kpis:", "  - path: b.csv\n" + again)
    assert [source.source.origin for source in parse_objective(text, "o.yaml").objective.data] == ["somewhere"] * 3


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\n",
        "a: " + "[" * 50_000,
        "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)).replace(
            "b: &b", "a: &a 1\nb: &b"
        ),
        "x" * (1 << 20) + "y",
    ],
    ids=["cycle", "nesting", "aliases", "size"],
)
def test_bombs_are_refused_quickly(text: str) -> None:
    assert refused(text).line > 0


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectiveInvalid, match="there is no such file"):
        read_objective(tmp_path / "none.yaml")
    with pytest.raises(ObjectiveInvalid, match="cannot be read"):
        read_objective(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nowner: caf\xe9\n")
    with pytest.raises(ObjectiveInvalid, match=r"latin\.yaml:2: not UTF-8"):
        read_objective(tmp_path / "latin.yaml")


LINES = GOOD.splitlines()


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_any_value_under_any_key_is_read_or_refused(value: object) -> None:
    import yaml

    for key in ("business", "data", "kpis", "budget", "ladder", "margin", "limits"):
        text = "".join(line + "\n" for line in LINES if not line.startswith((" ", key))) + yaml.safe_dump({key: value}, allow_unicode=True)
        with pytest.raises(ObjectiveInvalid):
            parse_objective(text, "o.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("metric: accuracy, target: 0.90", "metric: coverage, target: 0.90", "left to people"),
        ("metric: accuracy, target: 0.90", "metric: selective_risk, target: 0.05", "left to people"),
        ("kind: classify", "kind: classify\n  format: {json_keys: [a]}", "is for kind: generate"),
        ("kind: classify", "kind: generate\n  format: {}", "asks for nothing"),
        ("kind: classify", "kind: generate\n  format: {pattern: '('}", "cannot be used: missing )"),
        ("margin: 0.02", "referral: {max_error: 1.5}", "must be less than 1"),
    ],
)
def test_keys_that_metrics_rest_on(old: str, new: str, says: str) -> None:
    error = refused(changed(old, new))
    assert says in error.message
    assert error.line > 0


def test_format_valid_and_referral_where_they_fit() -> None:
    text = changed("margin: 0.02", "referral: {max_error: 0.05}").replace("metric: accuracy, target: 0.90", "metric: coverage, target: 0.6")
    assert parse_objective(text, "o.yaml").objective.referral is not None
    generating = changed("kind: classify", "kind: generate").replace("  - metric: recall[compromised_card]\n    target: 0.80\n", "")
    without = generating.replace("metric: accuracy", "metric: format_valid")
    assert "needs to know the form" in refused(without).message
    parse_objective(without.replace("kind: generate", "kind: generate\n  format: {json_keys: [a]}"), "o.yaml")
    by_field = generating.replace("metric: accuracy", "metric: field_score")
    assert "answers that are JSON objects" in refused(by_field.replace("kind: generate", "kind: generate\n  format: {pattern: a}")).message
    parse_objective(by_field.replace("kind: generate", "kind: generate\n  format: {json_keys: [a]}"), "o.yaml")
    assert "`referral` fits no task of kind: classify, labels: many" in refused(many()).message


SCOPED = changed("  kind: classify", "  kind: classify\n  out_of_scope: {refuse_known_at_most: 0.05}")


def test_requests_out_of_scope_are_refused_at_a_stated_share() -> None:
    objective = parse_objective(SCOPED, "o.yaml").objective
    assert objective.task.out_of_scope is not None
    assert objective.task.out_of_scope.refuse_known_at_most == 0.05


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (SCOPED.replace("kind: classify\n", "kind: classify\n  labels: many\n"), "out_of_scope_task", "may bear none of them"),
        (SCOPED.replace("kind: classify", "kind: rank"), "out_of_scope_task", "this task is of kind rank"),
        (SCOPED.replace("0.05", "0.6"), "objective_invalid", "`task.out_of_scope.refuse_known_at_most`"),
        (SCOPED.replace("0.05", "0"), "objective_invalid", "`task.out_of_scope.refuse_known_at_most`"),
        (changed("    label: category", "    out_of_scope: true"), "objective_invalid", "the task refuses nothing"),
        (changed("metric: accuracy", "metric: known_refused"), "objective_invalid", "the task refuses none"),
        (SCOPED.replace("margin: 0.02", "compare_on: out_of_scope_auroc"), "objective_invalid", "are not compared on out_of_scope_auroc"),
        (SCOPED.replace("margin: 0.02", "margin: {known_refused: 0.1}"), "objective_invalid", "are not compared on known_refused"),
    ],
)
def test_what_cannot_be_refused_as_out_of_scope_says_why(text: str, code: str, says: str) -> None:
    with pytest.raises(ObjectiveInvalid) as caught:
        parse_objective(
            text + ("documents: [{path: d.jsonl, source: {origin: o, license: MIT}}]\n" if "kind: rank" in text else ""), "o.yaml"
        )
    told = [caught.value.error_code, caught.value.message]
    assert says in told[1]
    assert told[0] == code
    assert caught.value.hint


def generating(referral: str, metric: str = "referral_recall") -> str:
    text = changed("kind: classify", "kind: generate").replace("  - metric: recall[compromised_card]\n    target: 0.80\n", "")
    return text.replace("metric: accuracy", f"metric: {metric}").replace("margin: 0.02", referral)


def test_a_generated_answer_is_referred_for_what_it_says() -> None:
    objective = parse_objective(generating("referral: {pattern: 'a colleague'}"), "o.yaml").objective
    assert objective.referral is not None
    assert objective.model_dump(mode="json", exclude_defaults=True)["referral"] == {"pattern": "a colleague"}
    parse_objective(generating("referral: {pattern: 'a colleague'}", "coverage"), "o.yaml")
    for text, says in (
        (generating("referral: {max_error: 0.05}"), "told by `pattern` alone"),
        (generating("referral: {max_error: 0.05, pattern: a}"), "told by `pattern` alone"),
        (generating("referral: {}"), "told by `pattern` alone"),
        (changed("margin: 0.02", "referral: {pattern: a}"), "told by `max_error` alone"),
        (generating("referral: {pattern: '('}"), "`referral.pattern`: the regular expression cannot be used"),
        (generating("margin: 0.02"), "left to people"),
        (generating("referral: {pattern: a}", "selective_risk"), "does not fit a task of kind: generate"),
    ):
        error = refused(text)
        assert says in error.message
        assert error.line > 0


def many() -> str:
    text = changed("kind: classify", "kind: classify\n  labels: many").replace("metric: accuracy", "metric: exact_match")
    return text.replace("margin: 0.02", "referral: {max_error: 0.05}")


def test_limits_on_writing_do_not_fit_a_ranking() -> None:
    text = changed("kind: classify", "kind: rank").replace("limits:", "limits:\n  retention: {max_drop: 0.02}")
    assert "`limits." in refused(text).message


@pytest.mark.parametrize(("written", "meant"), [("2019", "2019"), ('"2019"', "2019"), ("2019-03", "2019-03"), ("2019-03-01", "2019-03-01")])
def test_a_year_needs_no_quotes(written: str, meant: str) -> None:
    file = parse_objective(changed("collected: 2020-03-01", f"collected: {written}"), "o.yaml")
    assert str(file.objective.data[0].source.collected) == meant


def made_at(written: str) -> str:
    made = f"{{endpoint: outside, model: example-large, at: {written}}}"
    return changed("    source: {origin: somewhere,", f"    split: train\n    source: {{generated: {made}, origin: somewhere,")


@pytest.mark.parametrize(
    "written", ["2026-11-29T06:00:00+00:00", "'2026-11-29T06:00:00+00:00'", "2026-11-29T06:00:00Z", "2026-11-29T08:00:00+02:00"]
)
def test_a_moment_needs_no_quotes(written: str) -> None:
    made = parse_objective(made_at(written), "o.yaml").objective.data[0].source.generated
    assert made is not None
    assert made.at == datetime(2026, 11, 29, 6, tzinfo=UTC)


@pytest.mark.parametrize("written", ["2026-11-29T06:00:00", "'2026-11-29T06:00:00'", "2026-11-29", "'yesterday'", "[1]"])
def test_what_is_no_moment_is_told_what_one_is(written: str) -> None:
    error = refused(made_at(written))
    assert error.line == 14
    assert "`data.0.source.generated.at` must be a day and time with its zone, such as 2026-11-29T06:00:00+00:00, not " in error.message
    assert "write a day and time with its zone" in error.hint


@pytest.mark.parametrize("written", ["20190301", "20.5", "true", "[2019]"])
def test_other_numbers_are_no_year(written: str) -> None:
    error = refused(changed("collected: 2020-03-01", f"collected: {written}"))
    assert error.line == 13
    assert "`data.0.source.collected` must be a text or a date" in error.message
    assert "in quotes" in error.hint or written.startswith("[")


def test_of_one_fault_in_three_sources_the_first_line_is_named() -> None:
    source = "  - path: data/train.csv\n    label: category\n    source: {origin: somewhere, license: CC-BY-4.0, collected: 2020-03-01}\n"
    faulty = source.replace("collected: 2020-03-01", "collected: 3.5")
    error = refused(changed(source, "".join(faulty.replace("train", f"train{n}") for n in range(3))))
    assert error.line == 13
    assert [line.partition(" ")[0] for line in error.message.splitlines()] == ["o.yaml:13:", "o.yaml:16:", "o.yaml:19:"]


def test_what_is_still_open_is_refused_wherever_it_stands() -> None:
    text = changed("origin: somewhere", 'origin: "FILL IN: whose data it is"').replace("owner: support", 'owner: "FILL IN"')
    error = refused(text)
    assert error.line == 5
    assert "`business.owner` still begins with FILL IN" in error.message
    assert "o.yaml:13: `data.0.source.origin` still begins with FILL IN: write whose data it is, in its place" in error.message


@pytest.mark.parametrize(("written", "thinking"), [("on", True), ("off", False), ('"on"', True), ("true", True), ("", False)])
def test_whether_the_model_reasons(written: str, thinking: bool) -> None:
    key = f"\n  thinking: {written}" if written else ""
    text = (
        changed("kind: classify", f"kind: generate{key}").replace("accuracy", "token_f1").replace("recall[compromised_card]", "exact_match")
    )
    task = parse_objective(text, "o.yaml").objective.task
    assert task.thinking is thinking


def test_labels_are_scored_without_reasoning() -> None:
    error = refused(changed("kind: classify", "kind: classify\n  thinking: on"))
    assert (error.line, "`task.thinking` is for kind: generate" in error.message) == (9, True)


def test_memorisation_is_not_measured_of_a_model_that_reasons() -> None:
    text = changed("kind: classify", "kind: generate\n  thinking: on")
    text = text.replace("accuracy", "token_f1").replace("recall[compromised_card]", "exact_match")
    error = refused(text.replace("limits:\n", "limits:\n  memorisation: {max_extractable: 0}\n"))
    assert "what a model that reasons has memorised" in error.message


def test_what_is_learned_of_conversations() -> None:
    chats = changed("kind: classify", "kind: generate\n  learn: all").replace("label: category", "messages: chat")
    chats = chats.replace("accuracy", "token_f1").replace("recall[compromised_card]", "exact_match")
    assert parse_objective(chats, "o.yaml").objective.task.learn == "all"
    error = refused(chats.replace("messages: chat", "label: category"))
    assert (error.line, "no source has any" in error.message) == (9, True)
