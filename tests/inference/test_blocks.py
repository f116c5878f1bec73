"""KV-cache blocks: prefixes are shared within one salt and one set of groups alone."""

from __future__ import annotations

from tailorbird.inference.scheduling import BlockPool, Scheduler, SchedulerLimits, TokenSequence, salt_of

SALTS = {"acme": salt_of("acme", "sha256:a"), "beta": salt_of("beta", "sha256:a")}


def run_to_end(scheduler: Scheduler, *sequences: TokenSequence) -> None:
    for each in sequences:
        scheduler.add(each)
    while step := scheduler.plan():
        scheduler.computed(step)
        for part in step:
            if part.last:
                scheduler.end(part.sequence)


def test_keys_of_one_tenant_with_different_groups_share_no_beginning() -> None:
    """By the time that an answer takes, one could tell which documents another was shown."""
    scheduler = Scheduler(BlockPool(64), SchedulerLimits())

    def asked_for(*groups: str) -> TokenSequence:
        return TokenSequence("acme", SALTS["acme"], list(range(50)), groups=frozenset(groups))

    cached = []
    for groups in ((), ("board",), ("board",), ("board", "sales"), ("sales", "board"), ("boardsales",), ("board\0sales",), ()):
        each = asked_for(*groups)
        run_to_end(scheduler, each)
        cached.append(each.cached)
    assert cached == [0, 0, 48, 0, 48, 0, 0, 48]
    scheduler.forget(SALTS["acme"])
    forgotten = asked_for("board")
    run_to_end(scheduler, forgotten)
    assert forgotten.cached == 0
