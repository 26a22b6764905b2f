"""Django: the user of a Django session as the principal.

The chat runs outside of Django's handler, so Django's middleware has not run for its requests.
"""

import io
from importlib import import_module
from typing import Any

import anyio.to_thread
from starlette.types import Scope

__all__ = ["session_user"]


async def session_user(scope: Scope) -> str | None:
    """``user:`` and the primary key of the logged-in user, or None, which is a 401.

    For ``ChatNestApp(identify=session_user)``. The session comes from ``SESSION_ENGINE`` and the
    user from ``AUTHENTICATION_BACKENDS``. The result is None for an inactive user, and for a user
    whose password has changed since the login. The session is only read: neither its expiry nor
    its content changes. The look-up runs in a worker thread and closes its database connections
    afterwards, since Django's signals do not fire here. Exceptions of Django, such as for a lost
    database, pass through.
    """
    return await anyio.to_thread.run_sync(_session_user, scope)


def _session_user(scope: Scope) -> str | None:
    # Imported here: the package is there without Django, and Django needs its settings first.
    auth: Any = import_module("django.contrib.auth")
    settings: Any = import_module("django.conf").settings
    requests: Any = import_module("django.core.handlers.asgi")
    connections: Any = import_module("django.db").connections
    request = requests.ASGIRequest(scope, io.BytesIO())
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    try:
        request.session = _Copy(import_module(settings.SESSION_ENGINE).SessionStore(key).items())
        user = auth.get_user(request)
        return f"user:{user.pk}" if user.is_authenticated else None
    finally:
        connections.close_all()


class _Copy(dict[str, Any]):
    """A copy of a session's content whose key never changes.

    Django renews the key of a session that a key of SECRET_KEY_FALLBACKS has signed. Without a
    response that sets the new cookie, this would log the user out.
    """

    def cycle_key(self) -> None:
        """Do nothing: Django's middleware renews the key in a request that can set a cookie."""

    def flush(self) -> None:
        """Do nothing, as cycle_key."""
