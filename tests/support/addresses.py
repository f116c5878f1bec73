"""Places of a tenant, and spellings that are no address."""

from __future__ import annotations

from tailorbird.domain.endpoint import AllowedPlace

PLACES = (
    AllowedPlace(prefix="s3://acme"),
    AllowedPlace(prefix="s3://acme/board", credential="board"),
    AllowedPlace(prefix="s3://shared/exports/", credential="worker"),
    AllowedPlace(prefix="https://data.acme.example/exports"),
    AllowedPlace(prefix="https://data.acme.example:8443"),
    AllowedPlace(prefix="hf://datasets/acme"),
    AllowedPlace(prefix="hf://acme/tiny", credential="hub"),
    AllowedPlace(prefix="az://box@acme"),
)


NO_ADDRESS = [
    "s3://acme/../other/rows.csv",
    "s3://acme/./rows.csv",
    "s3://acme//rows.csv",
    "s3://acme/%2e%2e/other/rows.csv",
    "s3://acme/%252e%252e/other/rows.csv",
    "s3://acme/a%2f..%2f..%2fother/rows.csv",
    "s3://acme/..%5cother/rows.csv",
    "s3://acme\\..\\other/rows.csv",
    "s3://acme%2fboard/rows.csv",
    "s3://user:secret@acme/rows.csv",
    "s3://user@acme/rows.csv",
    "s3://acme/rows.csv?versionId=1",
    "s3://acme/rows.csv#x",
    "s3://acme/x::file:///etc/passwd",
    "s3://acme/rows.csv\n",
    "s3:///acme/rows.csv",
    "s3:acme/rows.csv",
    "https://data.acme.example@evil.example/exports/rows.csv",
    "https://evil.example\\@data.acme.example/exports/rows.csv",
    "https://data.acme.example/exports/..%2f..%2fsecret.csv",
    "https://data.acme.example/exports/..;/secret.csv",
    "https://data.acme.example/exports/..;x=1/secret.csv",
    "https://data.acme.example/exports/ ../secret.csv",
    "https://data.acme.example./exports/rows.csv",
    "https://[::1]/exports/rows.csv",
    "https://dаta.acme.example/exports/rows.csv",  # a Cyrillic а
    "http://data.acme.example/exports/rows.csv",
    "file:///etc/passwd",
    "memory://acme/rows.csv",
    "simplecache::s3://other/rows.csv",
    "/etc/passwd",
    "rows.csv",
    "",
]
