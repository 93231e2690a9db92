"""Create boto3 clients: the AWS configuration applies, and unset options get defaults that every store accepts."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from orchestrator.errors import StorageError

CONNECTIONS = 16

_LIMITS = Config(connect_timeout=5, read_timeout=60, max_pool_connections=2 * CONNECTIONS)
_ATTEMPTS = 5


def open_client(bucket: str) -> Any:
    """Return a new S3 client, configured by the environment and the AWS files.

    Raises:
        StorageError: If the configuration makes every request impossible.
        BotoCoreError: If boto3 refuses the configuration.
    """
    try:
        session = boto3.session.Session()
        _check_credentials(session)
        client = session.client("s3", config=_config(session))
    except ValueError as error:  # boto3's own text quotes the address, which may hold a password
        raise StorageError("AWS_ENDPOINT_URL is not an address: write http://host:port or https://host.") from error
    _check_endpoint(str(client.meta.endpoint_url), bucket)
    return client


def probing_config() -> Config:
    """Return the options for a store of this machine that may be starting: one attempt, a short timeout, no proxy."""
    return _LIMITS.merge(
        Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=10,
            proxies={},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        )
    )


def without_login(endpoint: str) -> str:
    """Return scheme, host and port of an endpoint, without a login in it."""
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def _config(session: boto3.session.Session) -> Config:
    """Return the options that neither the environment nor the AWS files set."""
    options: dict[str, Any] = {}
    configured = session._session.get_scoped_config()  # boto3 offers no other way to ask whether something was set
    if not (os.environ.get("AWS_MAX_ATTEMPTS") or "max_attempts" in configured):
        options["retries"] = {"total_max_attempts": _ATTEMPTS}
    # Checksums beyond what S3 demands are refused by some stores; data sets carry their own SHA-256.
    for name in ("request_checksum_calculation", "response_checksum_validation"):
        if not (os.environ.get(f"AWS_{name.upper()}") or name in configured):
            options[name] = "when_required"
    s3 = configured.get("s3")
    if not (isinstance(s3, dict) and "addressing_style" in s3):
        # Works everywhere but on OSS; bucket.host needs a DNS entry for each bucket.
        options["s3"] = {"addressing_style": "path"}
    return _LIMITS.merge(Config(**options))


def _check_credentials(session: boto3.session.Session) -> None:
    """Refuse keys that no header can carry; the HTTP library would quote them in its error."""
    keys = session.get_credentials()
    if keys is None:
        return
    frozen = keys.get_frozen_credentials()
    named = {
        "AWS_ACCESS_KEY_ID": frozen.access_key,
        "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
        "AWS_SESSION_TOKEN": frozen.token,
    }
    for name, value in named.items():
        wrong = next((character for character in value or "" if not "!" <= character <= "~"), None)
        if wrong is not None:
            raise StorageError(
                f"{name} (in the environment or the AWS files) contains {_NAMES.get(wrong, repr(wrong))}, which no key "
                "contains: copy it again without."
            )


_NAMES = {"\n": "a line break", "\r": "a carriage return", " ": "a space", "\t": "a tab"}


def _check_endpoint(endpoint: str, bucket: str) -> None:
    """Refuse an endpoint that already names the bucket: the bucket would be addressed inside itself."""
    path = urlsplit(endpoint).path.rstrip("/")
    if path.rpartition("/")[2] == bucket:
        raise StorageError(
            f"AWS_ENDPOINT_URL ends in the bucket's name {bucket!r}, which s3://{bucket} names again: leave it out of "
            f"AWS_ENDPOINT_URL ({without_login(endpoint)}{path.rpartition('/')[0]})."
        )
