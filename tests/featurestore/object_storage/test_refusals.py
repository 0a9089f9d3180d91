from __future__ import annotations

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError

from featurestore.object_storage.refusals import explain_refusal

REDIRECT = "Received redirect without LOCATION, this normally indicates an incorrectly configured region"


@pytest.mark.parametrize(
    ("error", "reason", "hint"),
    [
        (GenericError("Error performing PUT http://169.254.169.254/latest/api/token"), "no credentials", "AWS_PROFILE"),
        (GenericError("404 Not Found: <Code>NoSuchBucket</Code>"), "no bucket of s3://b/s", "Make the bucket"),
        (GenericError(REDIRECT), "lies in another region", "Set AWS_REGION"),
        (GenericError("400: <Code>AuthorizationHeaderMalformed</Code>"), "lies in another region", "Set AWS_REGION"),
        (PermissionDeniedError("403 Forbidden: <Code>SignatureDoesNotMatch</Code>"), "not valid", "Renew them"),
        (PermissionDeniedError("403 Forbidden: <Code>ExpiredToken</Code>"), "not valid", "Renew them"),
        (UnauthenticatedError("401"), "not valid", "Renew them"),
        (PermissionDeniedError("403 Forbidden: <Code>AccessDenied</Code>"), "is denied", "Ask for the right"),
        (GenericError("HTTP error: error sending request"), "does not answer", "Check the network"),
        (GenericError("a\nb\n\nDebug source:\nGeneric {"), "a b", "Run the same command again"),
    ],
)
def test_one_line_out_of_what_obstore_raises(error: Exception, reason: str, hint: str) -> None:
    found = explain_refusal(error, "s3://b/s")
    assert reason in found[0]
    assert "\n" not in found[0]
    assert hint in found[1]
