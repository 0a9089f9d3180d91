"""explain_refusal: one line out of what an object store answers, or does not answer."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """One way in which a request fails.

    Attributes:
        signs: Any of these stands in the text of the error.
        reason: What that means; ``{place}`` is the URL.
        hint: What the user can do.
    """

    signs: tuple[str, ...]
    reason: str
    hint: str


NO_CREDENTIALS = Refusal(
    ("169.254.169.254", "169.254.170.2", "MissingCredentials"),
    "there are no credentials for {place}",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket AWS_SKIP_SIGNATURE=true.",
)

_REFUSALS = (
    NO_CREDENTIALS,
    Refusal(
        ("NoSuchBucket", "BucketNotFound", "ContainerNotFound"),
        "there is no bucket of {place}",
        "Make the bucket first, or correct its name; with a server of your own, set AWS_ENDPOINT_URL.",
    ),
    Refusal(
        ("incorrectly configured region", "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocation"),
        "the bucket of {place} lies in another region",
        "Set AWS_REGION to the region of the bucket.",
    ),
    Refusal(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "UnauthenticatedError"),
        "the credentials for {place} are not valid",
        "Renew them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
    ),
    Refusal(
        ("AccessDenied", "403 Forbidden", "PermissionDenied", "MethodNotAllowed"),
        "access to {place} is denied",
        "Ask for the right to list, read and, for new features, write and delete objects there.",
    ),
    Refusal(
        ("BadScheme",),
        "{place} would be reached without encryption",
        "Use https in AWS_ENDPOINT_URL, or allow it: AWS_ALLOW_HTTP=true.",
    ),
    Refusal(
        ("kind: Connect", "kind: Timeout", "error sending request", "operation timed out"),
        "the server of {place} does not answer",
        "Check the network, AWS_ENDPOINT_URL and AWS_REGION; then run the same command again.",
    ),
)

_UNKNOWN = Refusal((), "", "Run the same command again; if it goes on, ask whoever runs the object store.")


def explain_refusal(error: Exception, place: str) -> tuple[str, str]:
    """Why a request to an object store failed, and what the user can do.

    Args:
        error: What obstore raised.
        place: URL of the store.
    """
    text = f"{type(error).__name__} {error}"
    for refusal in _REFUSALS:
        if any(sign in text for sign in refusal.signs):
            return refusal.reason.format(place=place), refusal.hint
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:300], _UNKNOWN.hint
