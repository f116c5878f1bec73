"""Authentication and authorisation: identity keys, signatures, signed checkpoints, API keys, roles, browser checks.

In: identities, key files, secrets, request headers. Out: signatures and verdicts on them, permissions. Must not know: tables, HTTP
frameworks, what a release needs before it may move.
"""

from tailorbird.auth import origin_checks, signing
from tailorbird.auth.api_keys import issue_api_key, key_id_of, secret_matches
from tailorbird.auth.concurrency import ConcurrencyLimit
from tailorbird.auth.dual_control import is_dual_control, refusal_to_confirm
from tailorbird.auth.identity_history import IdentityHistory, identity_problems
from tailorbird.auth.identity_keys import (
    PrivateKey,
    check_key,
    check_public_key,
    create_key,
    examine_key,
    fingerprint,
    load_key,
    public_key,
)
from tailorbird.auth.log_keys import ROTATED, LogKey, keys_of_log, rotation_facts
from tailorbird.auth.log_seal import KeyFileSealer, former_key_file, public_of_log
from tailorbird.auth.policy import ROLES_FOR, Action, authorise, demand_enabled
from tailorbird.auth.signed_checkpoints import check_note, make_checkpoint, verifier_key
from tailorbird.auth.signing import sign, signed_bytes, verify
from tailorbird.auth.throttle import Throttle, network_of
from tailorbird.auth.workspace_keys import open_key_file, open_key_variable, rotate_key_file, write_key_file

__all__ = [
    "ROLES_FOR",
    "ROTATED",
    "Action",
    "ConcurrencyLimit",
    "IdentityHistory",
    "KeyFileSealer",
    "LogKey",
    "PrivateKey",
    "Throttle",
    "authorise",
    "check_key",
    "check_note",
    "check_public_key",
    "create_key",
    "demand_enabled",
    "examine_key",
    "fingerprint",
    "former_key_file",
    "identity_problems",
    "is_dual_control",
    "issue_api_key",
    "key_id_of",
    "keys_of_log",
    "load_key",
    "make_checkpoint",
    "network_of",
    "open_key_file",
    "open_key_variable",
    "origin_checks",
    "public_key",
    "public_of_log",
    "refusal_to_confirm",
    "rotate_key_file",
    "rotation_facts",
    "secret_matches",
    "sign",
    "signed_bytes",
    "signing",
    "verifier_key",
    "verify",
    "write_key_file",
]
