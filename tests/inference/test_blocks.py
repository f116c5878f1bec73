"""KV-cache blocks: prefixes are shared within one salt and one set of groups alone."""

from __future__ import annotations

from tailorbird.inference.scheduling import BlockPool, Scheduler, SchedulerLimits, TokenSequence, salt_of

SALTS = {"acme": salt_of("acme", "sha256:a"), "beta": salt_of("beta", "sha256:a")}


def sequence(owner: str, length: int, room: int = 0, leaves: int = 0, first: int = 0) -> TokenSequence:
    return TokenSequence(owner, SALTS[owner], [first + token for token in range(length)], room, leaves)


def run_to_end(scheduler: Scheduler, *sequences: TokenSequence) -> None:
    for each in sequences:
        scheduler.add(each)
    while step := scheduler.plan():
        scheduler.computed(step)
        for part in step:
            if part.last:
                scheduler.end(part.sequence)


def test_a_beginning_is_remembered_for_its_own_salt_alone() -> None:
    scheduler = Scheduler(BlockPool(64), SchedulerLimits())
    first, again, other = sequence("acme", 50), sequence("acme", 50), sequence("beta", 50)
    run_to_end(scheduler, first)
    run_to_end(scheduler, again)
    run_to_end(scheduler, other)
    assert (first.cached, again.cached, other.cached) == (0, 48, 0)
    scheduler.forget(SALTS["acme"])
    forgotten = sequence("acme", 50)
    run_to_end(scheduler, forgotten)
    assert forgotten.cached == 0


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
