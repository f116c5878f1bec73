"""The order of the story and the rules of the climb, with literals alone."""

from __future__ import annotations

from typing import Any

import pytest

from tailorbird.domain.dataset import Split
from tailorbird.domain.evidence import Comparison, Evidence, Finding, GateResult, Metric, Standing, Verdict
from tailorbird.domain.ladder import Choice, Climb, Fit, RungKind
from tailorbird.domain.objective import ExpectedTraffic, Objective, RiskTier
from tailorbird.domain.plan import Estimate, Machine, Plan, PlannedComparison, Reason, RungPlan, TokenProfile
from tailorbird.usecases.runs import transitions

D = "sha256:" + "0" * 64


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def objective(ladder: Any = "auto", hours: float = 1.0, kind: str = "classify") -> Objective:
    return Objective.model_validate(
        {
            "name": "desk",
            "tenant": "acme",
            "business": {"goal": "route", "owner": "support", "risk": "limited"},
            "task": {"kind": kind, "instruction": "Classify."},
            "data": [{"path": "a.csv", "source": {"origin": "x", "license": "Apache-2.0"}}],
            "kpis": [{"metric": "accuracy", "target": 0.8}],
            "ladder": ladder,
            "budget": {"hours": hours},
        }
    )


def rung(kind: RungKind, variant: str, hours: float = 0.01) -> RungPlan:
    time = Estimate(low=hours * 1800, likely=hours * 3600, high=hours * 7200, unit="s")
    none = Estimate(low=0, likely=0, high=0, unit="")
    return RungPlan(rung=kind, variant=variant, training=None, time=time, memory=none, money=none, reasons=())


RUNGS = (rung(RungKind.PROMPT, "zero-shot"), rung(RungKind.LORA, "r16"), rung(RungKind.FULL, "all", hours=0.9))
WHY = Reason(rule="r", text="t", source="s")
PLAN = Plan(
    objective=D,
    snapshot=D,
    base_model=D,
    machine=Machine(cores=2, memory_gb=8),
    rungs=RUNGS,
    left_out=(),
    dev_power=(),
    test_power=(),
    comparison=PlannedComparison(metric="accuracy", margin=0.02, unit="", dev_smallest=0.1, test_smallest=0.1, reason=WHY),
    memory_limit_gb=0.0,
    risk=RiskTier.LIMITED,
)


def climb(number: int, verdict: Verdict, choice: Choice = Choice.CLIMB) -> Climb:
    planned = RUNGS[number]
    evidence = Evidence(candidate=digest(number), split=Split.DEV, n=100, metrics={}, items=D, seconds=1, engine="test")
    gate = GateResult(
        verdict=verdict, split=Split.DEV, confidence=0.9, adjusted_confidence=0.9, look=1, findings=(), reason=f"gate says {verdict.value}"
    )
    return Climb(
        rung=planned.rung,
        candidate=digest(number),
        variant=planned.variant,
        trained_parameters=0,
        evidence=evidence,
        gate=gate,
        against_below=None,
        choice=choice,
        reason="",
        seconds=1,
        peak_memory_gb=0,
        money=0,
    )


def compared(standing: Standing) -> Any:
    def compare(upper: Climb, lower: Climb) -> Comparison:
        return Comparison(
            upper=upper.candidate,
            lower=lower.candidate,
            metric="accuracy",
            n=100,
            difference=0.05,
            low=0.03,
            high=0.07,
            confidence=0.9,
            wins=7,
            losses=2,
            p_value=0.18,
            margin=0.02,
            standing=standing,
            items_needed=120 if standing is Standing.NOT_PROVEN else None,
        )

    return compare


def told(goal: Objective, climbs: list[Climb], chosen: bool, stopped: str = "") -> list[str]:
    """All steps in order, as the worker would meet them; ``stopped`` is the step that a limit ends."""
    done: list[str] = []
    while len(done) < 50:
        measured = sum(name.startswith("measure") for name in done)
        plan = PLAN if "plan" in done else None
        so_far = transitions.RunProgress(done, climbs[:measured], stopped=stopped in done, chosen=chosen and "choose" in done)
        step = transitions.next_step(goal, plan, so_far)
        if step is None:
            return done
        done.append(step)
    raise AssertionError("the story does not end")


def test_the_story_is_told_in_order_and_stops_where_the_climb_stops() -> None:
    climbs = [climb(0, Verdict.FAIL), climb(1, Verdict.PASS, Choice.STOP)]
    assert told(objective(), climbs, chosen=True) == [
        "snapshot",
        "plan",
        "floor",
        "make prompt zero-shot",
        "measure prompt zero-shot",
        "make lora r16",
        "measure lora r16",
        "choose",
        "test",
        "conclude",
    ]


@pytest.mark.parametrize("choice", [Choice.STOP, Choice.REFUSE])
def test_a_floor_after_which_the_climb_ends_is_followed_by_the_choice(choice: Choice) -> None:
    done = ["snapshot", "plan", "floor"]
    steps = transitions.RunProgress(done, (), stopped=False, chosen=False, floor=choice)
    assert transitions.next_step(objective(), PLAN, steps) == "choose"
    steps = transitions.RunProgress(done, (), stopped=False, chosen=False, floor=Choice.CLIMB)
    assert transitions.next_step(objective(), PLAN, steps) == "make prompt zero-shot"


NOTHING = transitions.Spent(0, 0)
LORA, FULL = RUNGS[1:]


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_a_rung_that_does_not_pass_is_climbed_past(verdict: Verdict) -> None:
    choice, reason = transitions.decide(objective(), LORA, transitions.RungVerdict(verdict, "because", NOTHING))
    assert choice is Choice.CLIMB
    assert "lora r16 is next" in reason


def test_a_listed_ladder_is_climbed_whole_as_far_as_the_budget_reaches() -> None:
    goal = objective(ladder=["prompt", "lora", "full"])
    assert transitions.decide(goal, FULL, transitions.RungVerdict(Verdict.PASS, "because", NOTHING))[0] is Choice.CLIMB
    assert transitions.decide(goal, None, transitions.RungVerdict(Verdict.PASS, "because", NOTHING))[0] is Choice.STOP
    assert transitions.decide(goal, FULL, transitions.RungVerdict(Verdict.FAIL, "because", transitions.Spent(0.5, 0)))[0] is Choice.REFUSE


@pytest.mark.parametrize(
    ("standing", "winner"),
    [(Standing.BETTER, 2), (Standing.TIE, 1), (Standing.NOT_PROVEN, 1), (Standing.WORSE, 1)],
)
def test_a_costlier_candidate_wins_only_when_it_is_better(standing: Standing, winner: int) -> None:
    climbs = [climb(0, Verdict.FAIL), climb(1, Verdict.PASS), climb(2, Verdict.PASS, Choice.STOP)]
    chosen, reason = transitions.choose(climbs, compared(standing))
    assert chosen.candidate == digest(winner)
    assert "lora r16 is the cheapest rung that passes on dev" in reason


def test_no_passing_candidate_means_no_choice_and_a_reason() -> None:
    chosen, reason = transitions.choose([climb(0, Verdict.FAIL), climb(1, Verdict.INCONCLUSIVE, Choice.STOP)], compared(Standing.TIE))
    assert chosen is None
    assert "lora r16" in reason


KNOWN = Fit(learned=0.02, held_out=0.6)


def test_more_weights_are_refused_where_the_learned_rows_are_known_by_heart() -> None:
    hopeless = transitions.cannot_help(objective(), PLAN, {"prompt zero-shot": None, "lora r16": KNOWN})
    assert list(hopeless) == ["full all"]
    assert "loss 0.020 against 0.600" in hopeless["full all"]
    assert transitions.above(PLAN, {"prompt zero-shot", "lora r16"}, hopeless) is FULL
    found = transitions.decide(objective(), FULL, transitions.RungVerdict(Verdict.FAIL, "because", NOTHING, hopeless["full all"]))
    assert found == (Choice.REFUSE, f"because; {hopeless['full all']}")
    assert transitions.cannot_help(objective(ladder=["lora", "full"]), PLAN, {"lora r16": KNOWN}) == {}


def finding(bound: float, low: float | None, high: float | None, kind: str = "kpi", verdict: Verdict = Verdict.FAIL) -> Finding:
    return Finding(name="m", kind=kind, bound=bound, value=low, low=low, high=high, n=100, verdict=verdict, reason="")


def gate(*findings: Finding) -> GateResult:
    return climb(1, Verdict.FAIL).gate.model_copy(update={"findings": findings})


@pytest.mark.parametrize(
    ("findings", "told"),
    [
        ((finding(0.9, 0.6, 0.74),), True),
        ((finding(0.9, 0.6, 0.76),), False),  # full fine-tuning has gained as much
        ((finding(0.8, 0.7, 0.85, verdict=Verdict.INCONCLUSIVE),), False),
        ((finding(0.8, 0.7, 0.85, verdict=Verdict.INCONCLUSIVE), finding(0.9, 0.5, 0.6)), True),
        ((finding(0.5, 0.9, 1.2),), True),  # a loss, which shall be low
        ((finding(0.5, 0.6, 0.9),), False),
        ((finding(800, 900, 950, "limit"),), True),  # no weights more make it faster
        ((finding(0.9, None, None, verdict=Verdict.INCONCLUSIVE),), False),
        ((), False),
    ],
)
def test_a_target_within_reach_of_more_weights_is_climbed_for(findings: tuple[Finding, ...], told: bool) -> None:
    assert transitions.telling(KNOWN, gate(*findings)) == (KNOWN if told else None)
    assert transitions.fits_of([climb(1, Verdict.FAIL).model_copy(update={"fit": KNOWN, "gate": gate(*findings)})]) == {
        "lora r16": KNOWN if told else None
    }


# --- limits that training does not change, and what rungs cost in all --------------------------------------------------------------------


def asked(kind: RungKind, variant: str, cost: float) -> RungPlan:
    """A rung of which 1,000 requests are predicted to cost so much."""
    return rung(kind, variant).model_copy(update={"serving_cost": Estimate(low=cost / 2, likely=cost, high=cost * 2, unit="EUR")})


ASKED = (
    asked(RungKind.PROMPT, "zero-shot", 1.0),
    asked(RungKind.PROMPT, "few-shot", 1.5),
    asked(RungKind.LORA, "r16", 1.0),
    asked(RungKind.LORA, "r16 on half", 0.4),
    asked(RungKind.FULL, "all", 1.0),
)
TOKENS = TokenProfile(shared_prefix=5, prompt_mean=20, prompt_p95=30, prompt_max=40, target_mean=10.0, target_max=20, label_trie=0)
SLOW = PLAN.model_copy(update={"rungs": ASKED, "tokens": TOKENS})


def at_gate(name: str, kind: str, verdict: Verdict, value: float | None = 1200.0, bound: float = 1000.0) -> Finding:
    low, high = (None, None) if value is None else (0.95 * value, 1.2 * value)
    return Finding(
        name=name, kind=kind, bound=bound, value=value, low=low, high=high, n=80, verdict=verdict, reason=f"{name} {value} is what it is"
    )


def measured(place: int, *findings: Finding, answer_tokens: float | None = None, cost: tuple[float, float] | None = None) -> Climb:
    planned, base = ASKED[place], climb(0, Verdict.FAIL)
    metrics = {
        name: Metric(name=name, value=value, low=low, high=high, confidence=0.9, n=80, method="bootstrap-bca")
        for name, value, low, high in (
            *([("answer_tokens", answer_tokens, answer_tokens, answer_tokens)] if answer_tokens else []),
            *([("cost_per_1k_requests", sum(cost) / 2, *cost)] if cost else []),
        )
    }
    worst = next((v for v in (Verdict.FAIL, Verdict.INCONCLUSIVE) if any(each.verdict is v for each in findings)), Verdict.PASS)
    return base.model_copy(
        update={
            "rung": planned.rung,
            "variant": planned.variant,
            "candidate": digest(place),
            "evidence": base.evidence.model_copy(update={"metrics": metrics}),
            "gate": base.gate.model_copy(update={"findings": findings, "verdict": worst}),
        }
    )


LATE = at_gate("latency_p95_ms", "limit", Verdict.FAIL)
SHORT_OF_IT = at_gate("accuracy", "kpi", Verdict.FAIL, 0.5, 0.8)
GOOD = at_gate("accuracy", "kpi", Verdict.PASS, 0.9, 0.8)


@pytest.mark.parametrize("quality", [SHORT_OF_IT, GOOD])
def test_a_limit_on_answering_is_climbed_for_only_by_what_answers_faster(quality: Finding) -> None:
    refused = transitions.passed_over(objective(), SLOW, [measured(0, quality, LATE)])
    assert set(refused) == {"prompt few-shot", "lora r16", "full all"}  # but not the smaller base
    assert "latency_p95_ms 1200.0 is what it is" in refused["lora r16"]
    assert "a faster machine, a smaller base model or a looser limit" in refused["lora r16"]
    after_few_shot = transitions.passed_over(objective(), SLOW, [measured(0, quality), measured(1, quality, LATE)])
    assert after_few_shot == {}  # an adapter's prompt is shorter
    after_lora = transitions.passed_over(objective(), SLOW, [measured(0, quality), measured(1, quality), measured(2, quality, LATE)])
    assert set(after_lora) == {"full all"}


@pytest.mark.parametrize(
    ("findings", "stops"),
    [
        ((GOOD, at_gate("latency_p95_ms", "limit", Verdict.INCONCLUSIVE, 990.0)), True),  # nothing else is open
        ((GOOD, at_gate("latency_p95_ms", "limit", Verdict.INCONCLUSIVE, None)), True),  # too few requests: an adapter brings none
        ((SHORT_OF_IT, at_gate("latency_p95_ms", "limit", Verdict.INCONCLUSIVE, 990.0)), False),  # training may help, time may pass
        ((SHORT_OF_IT, at_gate("latency_p95_ms", "limit", Verdict.INCONCLUSIVE, 1010.0)), True),
        ((SHORT_OF_IT, at_gate("cost_per_1k_requests", "limit", Verdict.FAIL, 2.0, 1.0)), True),
        ((GOOD, at_gate("retention", "limit", Verdict.FAIL, 0.1, 0.02)), False),  # another way to train may forget less
    ],
)
def test_an_open_limit_on_answering_ends_the_climb_where_training_could_not_settle_it(findings: tuple[Finding, ...], stops: bool) -> None:
    assert ("full all" in transitions.passed_over(objective(), SLOW, [measured(0, *findings)])) is stops


def test_a_listed_ladder_is_climbed_whole_whatever_it_takes() -> None:
    assert transitions.passed_over(objective(ladder=["prompt", "lora", "full"]), SLOW, [measured(0, SHORT_OF_IT, LATE)]) == {}


@pytest.mark.parametrize(
    ("standing", "costs", "winner"),
    [
        (Standing.TIE, ((2.0, 2.2), (1.0, 1.2)), 2),  # the adapter is cheaper in all
        (Standing.NOT_PROVEN, ((2.0, 2.2), (1.0, 1.2)), 2),
        (Standing.WORSE, ((2.0, 2.2), (1.0, 1.2)), 1),  # and it may not be worse
        (Standing.TIE, ((2.0, 2.2), (1.9, 2.1)), 1),  # not proven: the order of the plan stands
        (Standing.TIE, ((1.0, 1.2), (2.0, 2.2)), 1),
        (Standing.BETTER, ((1.0, 1.2), (2.0, 2.2)), 2),
    ],
)
def test_of_two_that_tie_the_one_that_costs_less_in_all_as_measured_wins(
    standing: Standing, costs: tuple[tuple[float, float], tuple[float, float]], winner: int
) -> None:
    climbs = [measured(1, GOOD, cost=costs[0]), measured(2, GOOD, cost=costs[1])]
    chosen, reason = transitions.choose(climbs, compared(standing), ExpectedTraffic(per_month=1000))
    assert chosen.candidate == digest(winner)
    if winner == 2 and standing is not Standing.BETTER:
        assert "costs less in all as measured (12 to 14 against 24 to 26 for making and 12,000 requests)" in reason


def test_a_better_candidate_that_does_not_pass_is_never_chosen() -> None:
    climbs = [climb(0, Verdict.PASS), climb(1, Verdict.INCONCLUSIVE), climb(2, Verdict.FAIL, Choice.STOP)]
    chosen, _ = transitions.choose(climbs, compared(Standing.BETTER))
    assert chosen.candidate == digest(0)
