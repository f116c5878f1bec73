"""API keys: a secret is shown once, only its hash is kept, and it opens one key alone."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.auth import issue_api_key, key_id_of, secret_matches
from tailorbird.domain.errors import InvalidInput, Unauthenticated

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_secret_leads_to_its_key() -> None:
    key, secret = issue_api_key("acme", "desk", NOW)
    assert secret.startswith(f"tb_{key.id}_")
    assert key_id_of(secret) == key.id
    assert secret_matches(key, secret)
    assert (key.tenant, key.name, key.created_at, key.expires_at) == ("acme", "desk", NOW, None)


def test_only_the_hash_is_kept() -> None:
    key, secret = issue_api_key("acme", "desk", NOW)
    assert key.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in key.model_dump_json()
    assert secret.split("_", 2)[2] not in key.model_dump_json()


def test_expiry_is_kept_and_must_lie_ahead() -> None:
    key, _ = issue_api_key("acme", "desk", NOW, NOW + timedelta(days=1))
    assert key.is_valid(NOW)
    assert not key.is_valid(NOW + timedelta(days=1))
    with pytest.raises(InvalidInput):
        issue_api_key("acme", "desk", NOW, NOW)


@given(text=st.one_of(st.text(max_size=80), st.from_regex(r"\Atb_[0-9a-f]{0,14}_[A-Za-z0-9_-]{0,50}\Z")))
def test_what_is_not_of_the_form_is_refused(text: str) -> None:
    if text.startswith("tb_") and len(text) == 59 and text[15] == "_" and "_" not in text[3:15]:
        assert key_id_of(text) == text[3:15]
    else:
        with pytest.raises(Unauthenticated) as caught:
            key_id_of(text)
        assert caught.value.error_code == "unauthenticated"
        assert text not in caught.value.message or len(text) < 20
