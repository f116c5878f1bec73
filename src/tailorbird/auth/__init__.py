"""Authentication and authorisation: identity keys, signatures, signed checkpoints, API keys, roles, browser checks.

In: identities, key files, secrets, request headers. Out: signatures and verdicts on them, permissions. Must not know: tables, HTTP
frameworks, what a release needs before it may move.
"""

from tailorbird.auth import signing
from tailorbird.auth.identity_history import IdentityHistory, identity_problems, is_dual_control, refusal_to_confirm
from tailorbird.auth.identity_keys import (
    PrivateKey,
    check_key,
    check_public_key,
    create_key,
    examine_key,
    fingerprint,
    load_key,
    open_key_file,
    open_key_variable,
    public_key,
    rotate_key_file,
    write_key_file,
)
from tailorbird.auth.log_seal import (
    ROTATED,
    KeyFileSealer,
    LogKey,
    check_note,
    former_key_file,
    keys_of_log,
    make_checkpoint,
    public_of_log,
    rotation_facts,
    verifier_key,
)
from tailorbird.auth.policy import ROLES_FOR, Action, authorise, demand_enabled
from tailorbird.auth.request_checks import ConcurrencyLimit, Throttle, network_of
from tailorbird.auth.signing import issue_api_key, key_id_of, secret_matches, sign, signed_bytes, verify, verify_sent

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
    "verify_sent",
    "write_key_file",
]
