"""The admin token: who may do what visitors may not."""

from __future__ import annotations

import hmac

from fastapi import Request
from pydantic import SecretStr

from guestbook.core import ProblemError


def require_token(request: Request, token: SecretStr) -> None:
    """ProblemError 401 unless the request brings the token (RFC 6750)."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Starlette reads headers as Latin-1; this gives back the bytes that were sent.
    is_right = hmac.compare_digest(
        given.strip().encode("latin-1"), token.get_secret_value().encode()
    )
    if scheme.lower() != "bearer" or not is_right:
        raise ProblemError(
            401,
            "This needs the header Authorization: Bearer with the admin token.",
            headers={"WWW-Authenticate": 'Bearer realm="guestbook"'},
        )
