"""What is changed, by subject, and the tests that should notice: the fast ones first. ``src`` and ``tests`` are relative to each folder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """Modules below ``src/tailorbird`` (patterns), and paths below ``tests``."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


SUBJECTS: dict[str, Subject] = {
    "gate": Subject(
        ("release/gate.py", "usecases/runs/sealed_test.py", "usecases/runs/provability.py"),
        ("release/test_gate*.py", "release/test_remedies.py", "usecases/runs", "usecases/test_adapt.py"),
    ),
    "paired tests": Subject(
        ("stats/paired_tests.py", "stats/sequential.py", "stats/intervals.py", "stats/power.py", "evaluation/comparison.py"),
        ("stats", "evaluation"),
    ),
    "approvals": Subject(
        (
            "release/approvals.py",
            "usecases/releases/promotion.py",
            "usecases/releases/rules.py",
            "usecases/releases/rollouts.py",
            "auth/policy.py",
        ),
        (
            "release",
            "auth",
            "usecases/test_promotion.py",
            "usecases/test_dual_control.py",
            "usecases/test_rollouts.py",
            "usecases/test_registry.py",
        ),
    ),
    "log": Subject(
        (
            "ledger/event_log.py",
            "ledger/anchors.py",
            "crypto/merkle.py",
            "crypto/anchored_rows.py",
            "crypto/log_verification.py",
            "auth/log_seal.py",
        ),
        (
            "crypto",
            "ledger/test_event_log.py",
            "ledger/test_anchors.py",
            "auth",
            "usecases/maintenance",
            "usecases/test_hostile_database.py",
        ),
    ),
    "erasure": Subject(("usecases/erasure/*.py",), ("usecases/erasure", "usecases/test_places.py")),
    "quotas": Subject(
        ("serving/quotas.py", "usecases/storage_quota.py", "domain/quota.py", "auth/request_checks.py"),
        (
            "domain/test_quota.py",
            "serving/test_quotas*.py",
            "auth",
            "usecases/test_storage_quota.py",
            "ledger/test_quota.py",
            "api/test_quota*.py",
        ),
    ),
    "splits": Subject(
        ("data/split_assignment.py", "data/shifted_part.py", "data/duplicates/exact.py"),
        ("data/test_exact.py", "data/test_given_splits.py", "data/test_split*.py", "data/test_shift*.py", "data"),
    ),
    "sandbox": Subject(
        ("system/sandbox/*.py", "system/outward_access.py"),
        ("system/test_sandbox.py", "system", "data/test_confined_reader.py"),
    ),
}
