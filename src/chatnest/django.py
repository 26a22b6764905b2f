"""Django: the user of its session as the principal, read as Django reads it.

The chat stands outside Django's handler, where no middleware of Django's has run.
"""

import io
from importlib import import_module
from typing import Any

import anyio.to_thread
from starlette.types import Scope

__all__ = ["session_user"]


async def session_user(scope: Scope) -> str | None:
    """``user:`` and the primary key of the user who is logged in, else None, which is a 401.

    For ``ChatNestApp(identify=session_user)``. The session comes from ``SESSION_ENGINE`` and the
    user from ``AUTHENTICATION_BACKENDS``: one that is inactive, or whose password has changed
    since, is nobody. The session is only read: its life is not prolonged, and nothing in it is
    changed. Runs in a worker thread, whose database connections are closed afterwards, since no
    signal of Django's would do it. What Django raises, a lost database for instance, is raised.
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
    """What is in a session. Django gives one that a key of SECRET_KEY_FALLBACKS has signed a new
    key; whose cookie could not be told of it would be logged out.
    """

    def cycle_key(self) -> None:
        """The middleware's to do, in a request that can set a cookie."""

    def flush(self) -> None:
        """As cycle_key."""
