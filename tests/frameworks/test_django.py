"""Django's session user: whom Django's own request would show, and nobody else."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import anyio
import django
import pytest
from django.conf import settings

from chatnest.django import session_user


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Django's settings are the process's: no other test of this process has any."""
    settings.configure(
        SECRET_KEY="a secret of the test's, long enough for everybody",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": tmp_path_factory.mktemp("django") / "django.db",
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    import_module("django.core.management").call_command("migrate", verbosity=0)


@pytest.fixture
def ann(site: None) -> Iterator[Any]:
    user = import_module("django.contrib.auth").get_user_model().objects.create_user("ann")
    yield user
    user.delete()
    import_module("django.db").connections.close_all()


def logged_in(user: Any) -> str:
    """The session's key, made as Django's own login makes it."""
    request = import_module("django.http").HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    import_module("django.contrib.auth").login(
        request, user, backend="django.contrib.auth.backends.ModelBackend"
    )
    request.session.save()
    key: str = request.session.session_key
    return key


def asking(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    fields = {"type": "http", "method": "POST", "path": "/api/chat", "query_string": b""}
    return {**fields, "headers": headers}


def who(*headers: tuple[bytes, bytes]) -> str | None:
    return anyio.run(session_user, asking(*headers))


def cookie(key: str) -> tuple[bytes, bytes]:
    return b"cookie", f"theme=dark; sessionid={key}".encode()


def test_who_is_logged_in_pays(ann):
    assert who(cookie(logged_in(ann))) == f"user:{ann.pk}"


def test_who_is_not_is_nobody(ann):
    assert who() is None
    assert who(cookie("")) is None
    assert who(cookie("x" * 32)) is None
    assert who(cookie("'; drop table django_session")) is None
    assert who((b"cookie", b"\xff\xfe=; sessionid")) is None


def test_who_is_not_active_any_more_is_nobody(ann):
    key = logged_in(ann)
    ann.is_active = False
    ann.save()
    assert who(cookie(key)) is None


def test_a_new_password_ends_the_old_sessions(ann):
    key = logged_in(ann)
    ann.set_password("another")
    ann.save()
    assert who(cookie(key)) is None


def test_a_secret_that_is_being_replaced_logs_nobody_out(ann, monkeypatch):
    key = logged_in(ann)
    monkeypatch.setattr(settings, "SECRET_KEY_FALLBACKS", [settings.SECRET_KEY])
    monkeypatch.setattr(settings, "SECRET_KEY", "another secret, as long as the one before it")
    assert who(cookie(key)) == f"user:{ann.pk}"
    assert who(cookie(key)) == f"user:{ann.pk}"
    monkeypatch.setattr(settings, "SECRET_KEY_FALLBACKS", [])
    assert who(cookie(key)) is None


def test_who_has_logged_out_is_nobody(ann):
    key = logged_in(ann)
    import_module(settings.SESSION_ENGINE).SessionStore(key).flush()
    assert who(cookie(key)) is None


def test_a_user_of_signed_cookies_is_known(ann, monkeypatch):
    monkeypatch.setattr(
        settings, "SESSION_ENGINE", "django.contrib.sessions.backends.signed_cookies"
    )
    assert who(cookie(logged_in(ann))) == f"user:{ann.pk}"


def test_a_name_of_the_cookie_s_own_is_read(ann, monkeypatch):
    key = logged_in(ann)
    monkeypatch.setattr(settings, "SESSION_COOKIE_NAME", "of_the_shop")
    assert who(cookie(key)) is None
    assert who((b"cookie", f"of_the_shop={key}".encode())) == f"user:{ann.pk}"


def test_no_connection_to_the_database_is_left_open(ann):
    key = logged_in(ann)
    left: list[Any] = []

    async def ask_and_look() -> None:
        await session_user(asking(cookie(key)))

        def look() -> None:
            connections = import_module("django.db").connections
            left.extend(c for c in connections.all() if c.connection is not None)

        await anyio.to_thread.run_sync(look)  # the one thread that there is, again

    anyio.run(ask_and_look)
    assert left == []
