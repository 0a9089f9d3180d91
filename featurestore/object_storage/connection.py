"""connect: from a URL to a bucket that answers, within seconds or with an error that says why not."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from featurestore.errors import UnreachableError, UsageError
from featurestore.object_storage.refusals import NO_CREDENTIALS, explain_refusal

if TYPE_CHECKING:
    import obstore.store
    from obstore.store import ClientConfig, RetryConfig

_AMAZON = ("s3", "s3a")
_SCHEMES = (*_AMAZON, "gs", "az", "azure", "abfs", "abfss", "adl", "memory")
_OPTIONS = ("endpoint_url", "region", "anonymous")
"""What the query of a URL may say, for S3."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_CLIENT: ClientConfig = {"connect_timeout": "3s", "read_timeout": "30s", "timeout": "10m"}
_FIRST_CLIENT: ClientConfig = {"connect_timeout": "3s", "timeout": "5s"}
"""The first request is small: a server that has not answered by then will not."""

_PATIENT: RetryConfig = {"max_retries": 10, "retry_timeout": timedelta(minutes=3)}
"""A run that has begun sits out a disturbance; obstore waits longer each time, by a random share."""

_FIRST: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=8)}


class Connection(NamedTuple):
    """A bucket that has answered.

    Attributes:
        place: URL without its query.
        objects: The objects below the prefix.
    """

    place: str
    objects: obstore.store.ObjectStore


def connect(url: str, prefix: str = "") -> Connection:
    """Reach the objects at a URL.

    Credentials are found as by Amazon's own tools: the environment, profiles, single sign-on, the role of the machine.

    Args:
        url: ``s3://bucket/prefix``, ``gs://``, ``az://`` or ``memory://``; of S3, the query may name ``endpoint_url``,
            ``region``, and ``anonymous=true``, which otherwise come from the environment.
        prefix: What is looked at below it, to see whether it answers.

    Raises:
        UsageError: The URL cannot be understood.
        UnreachableError: There are no credentials, there is no such bucket, or nobody answers.
    """
    parts = urlsplit(url)
    place = parts._replace(query="").geturl()
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise UsageError(
            "this is no URL of an object store",
            where=url,
            hint="Use a folder, or s3://BUCKET/NAME, gs://..., az://....",
        )
    if parts.scheme == "memory":
        return Connection(place, _memory(place))
    config = _amazon_config(url) if parts.scheme in _AMAZON else _no_options(url)
    _check_answer(place, _open(place, config, _FIRST_CLIENT, _FIRST), prefix)
    return Connection(place, _open(place, config, _CLIENT, _PATIENT))


@cache
def _memory(place: str) -> obstore.store.ObjectStore:
    """Objects in memory, which live as long as the process."""
    from obstore.store import MemoryStore

    del place  # one for each
    return MemoryStore()


def _open(place: str, config: dict[str, Any], client: ClientConfig, retry: RetryConfig) -> obstore.store.ObjectStore:
    from obstore.store import from_url

    allowed: ClientConfig = {"allow_http": True} if _is_loopback(config.get("endpoint")) else {}
    return from_url(place, client_options={**client, **allowed}, retry_config=retry, **config)


def _check_answer(place: str, objects: obstore.store.ObjectStore, prefix: str) -> None:
    """Ask for one name, which needs a server that answers, credentials and a bucket."""
    try:
        next(iter(objects.list(prefix or None, chunk_size=1)), None)
    except Exception as error:
        reason, hint = explain_refusal(error, place)
        raise UnreachableError(reason, where=place, hint=hint) from error


def _no_options(url: str) -> dict[str, Any]:
    if urlsplit(url).query:
        raise UsageError("only the URL of S3 has options", where=url, hint="Leave out what follows the question mark.")
    return {}


def _amazon_config(url: str) -> dict[str, Any]:
    """Endpoint, region and credentials of an S3 URL, as far as obstore does not find them in the environment."""
    options = _parse_options(url)
    named = options.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config: dict[str, Any] = {"endpoint": named, "region": options.get("region")}
    config = {name: value for name, value in config.items() if value}
    if "true" in {options.get("anonymous"), os.environ.get("AWS_SKIP_SIGNATURE", "").lower()}:
        return {**config, "skip_signature": True}
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return config
    return {**config, "credential_provider": _find_credentials(url)}


def _parse_options(url: str) -> dict[str, str]:
    options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise UsageError(f"the URL has no option {unknown[0]!r}", where=url, hint=f"There are: {', '.join(_OPTIONS)}.")
    return options


def _find_credentials(url: str) -> Any:
    """What boto3 finds, renewed when it expires."""
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except Exception as error:  # a profile that is not there, a login that has expired
        reason = NO_CREDENTIALS.reason.format(place=urlsplit(url)._replace(query="").geturl())
        more = "" if isinstance(error, ValueError) else f" ({error})"
        raise UnreachableError(f"{reason}{more}", where=url, hint=NO_CREDENTIALS.hint) from error


def _is_loopback(endpoint: str | None) -> bool:
    return endpoint is not None and urlsplit(endpoint).hostname in _LOOPBACK
