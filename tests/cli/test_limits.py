"""``tailorbird tenant places``, ``key limit``, and the quota of storage, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

from support.cli import tailorbird


def test_places_quota_and_limits_of_a_key(tmp_path: Path) -> None:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    added = tailorbird(tmp_path, "tenant", "add", "globex", "--limit", "storage_bytes=1000000")
    assert added.returncode == 0, added.stderr
    given = tailorbird(tmp_path, "tenant", "places", "globex", "--allow", "s3://globex/data=globex-s3", "--allow", "hf://globex")
    assert given.stdout == "globex: s3://globex/data (globex-s3), hf://globex (none)\n"
    listed = json.loads(tailorbird(tmp_path, "tenant", "list", "--json").stdout)
    (globex,) = [view for view in listed if view["tenant"]["name"] == "globex"]
    assert globex["tenant"]["places"][0] == {"prefix": "s3://globex/data", "credential": "globex-s3"}
    assert globex["tenant"]["limits"]["storage_bytes"] == 1_000_000
    assert globex["storage"]["bytes"] == 0
    refused = tailorbird(tmp_path, "tenant", "places", "globex", "--allow", "s3://globex/../acme")
    assert refused.returncode == 1
    assert "one spelling" in refused.stderr
    both = "globex: s3://globex/data (globex-s3), hf://globex (none)\n"
    assert tailorbird(tmp_path, "tenant", "places", "globex").stdout == both, "who only looks revokes nothing"
    more = tailorbird(tmp_path, "tenant", "places", "globex", "--allow", "hf://globex=worker", "--revoke", "s3://globex/data")
    assert more.stdout == "globex: hf://globex (worker)\n"
    unknown = tailorbird(tmp_path, "tenant", "places", "globex", "--revoke", "s3://globex")
    assert (unknown.returncode, "not_found" in unknown.stderr) == (1, True)
    assert tailorbird(tmp_path, "tenant", "places", "globex", "--revoke", "all").stdout == "globex: no address\n"
    assert "tenant_missing" in tailorbird(tmp_path, "tenant", "places", "nobody").stderr
    assert "tenant_missing" in tailorbird(tmp_path, "tenant", "limit", "nobody", "--limit", "requests_per_minute=1").stderr

    named = tailorbird(tmp_path, "tenant", "limit", "globex", "--limit", "requests_per_minute=9")
    assert named.stdout == "globex: requests_per_minute=9, storage_bytes=1000000\n"
    assert tailorbird(tmp_path, "tenant", "limit", "globex").stdout == named.stdout, "who only looks lifts nothing"
    lifted = tailorbird(tmp_path, "tenant", "limit", "globex", "--limit", "storage_bytes=none")
    assert lifted.stdout == "globex: requests_per_minute=9\n"

    made = tailorbird(tmp_path, "key", "create", "shop", "--limit", "requests_per_minute=60")
    assert made.returncode == 0, made.stderr
    key = made.stdout.split("_")[1]
    assert json.loads(tailorbird(tmp_path, "key", "list", "--json").stdout)[0]["limits"]["requests_per_minute"] == 60
    limited = tailorbird(tmp_path, "key", "limit", key, "--limit", "tokens_per_day=5000")
    assert limited.stdout == f"key {key} (shop): requests_per_minute=60, tokens_per_day=5000\n"
    assert tailorbird(tmp_path, "key", "limit", key).stdout == limited.stdout
    ended = tailorbird(tmp_path, "key", "limit", key, "--limit", "requests_per_minute=none", "--limit", "tokens_per_day=none")
    assert ended.stdout == f"key {key} (shop): no limits of its own\n"
    assert "key_missing" in tailorbird(tmp_path, "key", "limit", "0" * 12).stderr
    unknown = tailorbird(tmp_path, "key", "limit", key, "--limit", "money=5")
    assert unknown.returncode == 1
    assert "money" in unknown.stderr


def test_endpoints_of_a_tenant(tmp_path: Path) -> None:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    address = ("--url", "https://llm.example", "--region", "EU (Example Ltd)", "--price", "0.15", "0.6", "--timeout", "20")
    added = tailorbird(tmp_path, "endpoint", "add", "outside", *address)
    assert added.stdout == "outside is registered for acme\n", added.stderr
    assert "tailorbird tenant policy --endpoint outside" in added.stderr
    assert tailorbird(tmp_path, "tenant", "policy", "--endpoint", "outside").stdout == "acme: no words; data may be sent to outside\n"
    for said in (("--keep-days", "9", "--review-share", "0.5"), ("--keep-requests", "90"), ("--review-share", "0")):
        assert tailorbird(tmp_path, "tenant", "policy", *said).returncode == 0
    shown = "acme: words for 9 days, requests for 90 days; data may be sent to outside\n"
    assert tailorbird(tmp_path, "tenant", "policy").stdout == shown, "who names one thing, or only looks, deletes nothing else"
    ended = tailorbird(tmp_path, "tenant", "policy", "--no-endpoints", "--keep-days", "0", "--keep-requests", "0").stdout
    assert ended == "acme: no words\n"
    tailorbird(tmp_path, "tenant", "policy", "--endpoint", "outside")
    (listed,) = json.loads(tailorbird(tmp_path, "endpoint", "list", "--json").stdout)
    assert (listed["endpoint"]["input_price"], listed["endpoint"]["output_price"], listed["allowed"]) == (0.15, 0.6, True)
    refused = tailorbird(tmp_path, "endpoint", "add", "plain", "--url", "http://llm.example", "--region", "nobody knows")
    assert refused.returncode == 1
    assert "https://" in refused.stderr
    assert tailorbird(tmp_path, "endpoint", "remove", "outside").stdout == "outside is taken from acme\n"
    assert json.loads(tailorbird(tmp_path, "endpoint", "list", "--json").stdout) == []
