"""Translate S3 refusals into errors that name the reason and the way out.

A store's own text is left out where it may quote a credential.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from agr_core.disk import is_full
from orchestrator.errors import NotFoundError, StorageError, StorageFullError, StorageUnavailableError

SILENCE = (BotoConnectionError, HTTPClientError, IncompleteReadError, ConnectionError, TimeoutError)
"""Exceptions for a missing or incomplete answer."""

FAILURES = (ClientError, BotoCoreError, ResponseParserError, OSError)
"""Exceptions of boto3 for a store that refuses, does not answer, or is not S3."""

_REFUSED = {401, 403}
_BUSY = {408, 429}
_GATEWAY = {502, 503, 504}
_NOT_IMPLEMENTED = 501
_NO_ROOM = 507
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}
_NO_CAPACITY = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "BucketQuotaExceeded"}
_VIRTUAL_HOST = {"SecondLevelDomainForbidden", "VirtualHostedRequired"}
_SKEWED = {"RequestTimeTooSkewed"}
_EXPECTED_REGION = re.compile(r"expecting '([a-z0-9-]{1,40})'")
_NOT_HTTP_TLS = "WRONG_VERSION_NUMBER"


@dataclass(frozen=True)
class Target:
    """Target of a request: the storage's address, its bucket, and the endpoint without a login."""

    uri: str
    bucket: str
    endpoint: str


def code_of(error: ClientError) -> str:
    """Return the store's code of the error, such as ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def status_of(error: ClientError) -> int:
    """Return the HTTP status of the response."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_without_reason(error: Exception) -> bool:
    """Return whether the response cannot hold a reason: one to a HEAD request has no body. A 404 needs no reason."""
    return isinstance(error, ClientError) and error.operation_name.startswith("Head") and status_of(error) != 404


def refusal(operation: str, key: str, error: Exception, target: Target) -> Exception:
    """Return our error for one of ``FAILURES``, raised by ``operation`` on ``key``."""
    what = f"{operation} {key!r} in {target.uri} failed: "
    if isinstance(error, ClientError):
        return _answer(what, key, error, target)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StorageError(
            f"{what}there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            '(for the local stack: eval "$(agr stack env)"), or use the AWS files.'
        )
    if isinstance(error, SSLError) and (problem := _tls_problem(str(error), target)):
        return StorageError(f"{what}{problem}")
    if isinstance(error, SILENCE):
        return StorageUnavailableError(
            f"{what}{target.endpoint} does not answer ({type(error).__name__}). Check AWS_ENDPOINT_URL and that "
            "the store runs (`agr stack status`)."
        )
    if isinstance(error, ResponseParserError):
        return StorageError(f"{what}{_not_s3(target)}")
    if isinstance(error, OSError):
        kind, way_out = (
            (StorageFullError, "The disk of this machine is full: free some of it.")
            if is_full(error)
            else (StorageError, "Check the disk of this machine.")
        )
        return kind(f"{what}{error.strerror or error} ({error.filename}). {way_out}")
    return StorageError(f"{what}{error}. Check the AWS_* settings.")


def _not_s3(target: Target) -> str:
    return (
        f"the server at {target.endpoint} is not S3; it may be a proxy, or a network's login page. Check "
        "AWS_ENDPOINT_URL, HTTP_PROXY, HTTPS_PROXY and NO_PROXY."
    )


def _tls_problem(text: str, target: Target) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0].strip("()")
        return (
            f"the certificate of {target.endpoint} is not trusted ({reason or 'not verified'}). Set AWS_CA_BUNDLE to "
            "the PEM file of the authority that signed it."
        )
    if _NOT_HTTP_TLS in text:
        return f"{target.endpoint} does not speak TLS: write http:// in AWS_ENDPOINT_URL, or another port."
    return ""


def _answer(what: str, key: str, error: ClientError, target: Target) -> Exception:
    code, status = code_of(error), status_of(error)
    if code == "NoSuchBucket" or (status == 404 and error.operation_name == "HeadBucket"):
        hint = ""
        if target.endpoint.partition("://")[2].startswith(f"{target.bucket}."):
            hint = " AWS_ENDPOINT_URL also begins with the bucket's name: leave it out there."
        return StorageError(
            f"{what}there is no bucket {target.bucket!r} at {target.endpoint}. Create it, or correct the address.{hint}"
        )
    if status == 404:
        return NotFoundError(f"there is no object {key!r} in {target.uri} (at {target.endpoint}).")
    if reason := _known_reason(code, error, target):
        return StorageError(f"{what}{reason}")
    if code in _NO_CAPACITY or status == _NO_ROOM:
        return StorageFullError(f"{what}{target.endpoint} is full ({code}). Free some space, or use another store.")
    if status in _REFUSED:
        return StorageError(
            f"{what}{target.endpoint} refuses the credentials ({code}). Check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, their permissions, and this machine's clock."
        )
    detail = str(error.response.get("Error", {}).get("Message", "")).rstrip(".")
    text = f"{what}{target.endpoint} answered {status} {code}: {detail}."
    if status != _NOT_IMPLEMENTED and (status >= 500 or status in _BUSY):
        is_page = "html" in error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "")
        if not is_page:
            return StorageUnavailableError(f"{text} Try again later.")
        # boto3 reports an HTML page instead of XML as status 500. Gateways before a store that is down send pages too.
        if status in _GATEWAY:
            return StorageUnavailableError(f"{text} Try again later. If that does not help, {_not_s3(target)}")
        return StorageUnavailableError(f"{text} W{_not_s3(target)[1:]}")
    return StorageError(f"{text} `agr storage check {target.uri}` shows what this store can do.")


def _known_reason(code: str, error: ClientError, target: Target) -> str:
    """Return reason and way out of a common refusal; empty strings for another."""
    if code in _EXPIRED:
        return (
            f"the credentials have expired ({code}). Log in again (such as `aws sso login`), or set a new "
            "AWS_SESSION_TOKEN with its keys."
        )
    if code in _SKEWED:
        return f"{target.endpoint} refuses requests with this machine's clock, {_skew(error)}. Set the clock (NTP)."
    if code in _VIRTUAL_HOST:
        return (
            f"{target.endpoint} takes addresses of the form bucket.host only ({code}). Write `addressing_style = "
            "virtual` below `s3 =` in the AWS config file (~/.aws/config)."
        )
    if code in _ELSEWHERE or status_of(error) in (301, 307):
        region = _region(error)
        return (
            f"the bucket is in {f'region {region!r}' if region else 'another region or at another endpoint'} ({code}). "
            f"Set AWS_DEFAULT_REGION={region or 'REGION'}, and AWS_ENDPOINT_URL to that region's endpoint if it names "
            "one."
        )
    return ""


def _region(error: ClientError) -> str:
    """Return the region that the store's response names; empty if none."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
    expected = _EXPECTED_REGION.search(str(error.response.get("Error", {}).get("Message", "")))
    return str(named) if named else expected[1] if expected else ""


def _skew(error: ClientError) -> str:
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError):
        return "which is not the store's"
    return f"which is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the store's"
