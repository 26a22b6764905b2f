"""Who is asking, told by nothing that a client can invent, and which profiles are theirs."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import anyio.lowlevel
import msgspec
import pytest
from django.utils.functional import SimpleLazyObject
from hypothesis import given
from hypothesis import strategies as st
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser
from starlette.exceptions import HTTPException

from chatnest.cli import main
from chatnest.config.build import bearer_keys
from chatnest.config.sections import load_config
from chatnest.errors import (
    ConfigurationError,
    ForbiddenProfile,
    InvalidRequest,
    Unauthenticated,
)
from chatnest.identity.access import Access
from chatnest.identity.base import Identity
from chatnest.identity.keys import BearerKeys
from chatnest.identity.opening import open_by_default
from chatnest.identity.principals import (
    ClientAddress,
    TrustedHeader,
    UserOrAddress,
    everybody_like,
    framework_user,
    is_anonymous,
)
from chatnest.profiles import BALANCED, CONSTRAINED, EXPANDED, HardCaps

PROXIES = ("10.0.0.0/8", "192.0.2.7", "2001:db8:ff::/48")


def scope(client="203.0.113.7", *headers, **more):
    """A scope; headers are pairs, or values of X-Forwarded-For."""
    pairs = [("x-forwarded-for", h) if isinstance(h, str) else h for h in headers]
    return {
        "type": "http",
        "client": None if client is None else (client, 50_000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        **more,
    }


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("client", "name"),
    [
        ("203.0.113.7", "addr:203.0.113.7"),
        ("127.0.0.1", "addr:127.0.0.1"),
        ("2001:db8::1", "addr:2001:db8::/64"),
        ("2001:db8:0:0:ffff:ffff:ffff:ffff", "addr:2001:db8::/64"),
        ("2001:db8:0:1::1", "addr:2001:db8:0:1::/64"),
        ("2001:DB8::1", "addr:2001:db8::/64"),
        ("::1", "addr:::/64"),
        ("fe80::1%eth0", "addr:fe80::/64"),
        ("::ffff:203.0.113.7", "addr:203.0.113.7"),
        ("::ffff:cb00:7107", "addr:203.0.113.7"),
        ("testclient", "addr:unknown"),
        ("", "addr:unknown"),
        (None, "addr:unknown"),
    ],
)
def test_a_client_is_its_address_or_its_network(client, name):
    assert ClientAddress()(scope(client)) == name
    assert UserOrAddress()(scope(client)) == name


def test_a_scope_without_a_client_is_unknown():
    assert ClientAddress()({"type": "http", "headers": []}) == "addr:unknown"


@pytest.mark.parametrize(
    ("client", "forwarded", "name"),
    [
        # from a trusted proxy: the rightmost address that is not one
        ("10.1.2.3", ["203.0.113.7"], "addr:203.0.113.7"),
        ("192.0.2.7", ["203.0.113.7"], "addr:203.0.113.7"),
        ("2001:db8:ff::1", ["203.0.113.7"], "addr:203.0.113.7"),
        ("::ffff:10.1.2.3", ["203.0.113.7"], "addr:203.0.113.7"),
        ("10.1.2.3", ["198.51.100.1, 203.0.113.7"], "addr:203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7, 10.9.9.9, 192.0.2.7"], "addr:203.0.113.7"),
        ("10.1.2.3", ["198.51.100.1, 203.0.113.7, 10.9.9.9"], "addr:203.0.113.7"),
        ("10.1.2.3", ["  203.0.113.7\t,10.9.9.9  "], "addr:203.0.113.7"),
        # several lines are one list, RFC 9110, section 5.3
        ("10.1.2.3", ["198.51.100.1", "203.0.113.7"], "addr:203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7", "10.9.9.9"], "addr:203.0.113.7"),
        # spoofed, left of what the proxy wrote
        ("10.1.2.3", ["10.0.0.1, 203.0.113.7"], "addr:203.0.113.7"),
        ("10.1.2.3", ["garbage, 203.0.113.7"], "addr:203.0.113.7"),
        ("10.1.2.3", ["127.0.0.1, ::1, 203.0.113.7"], "addr:203.0.113.7"),
        # every address is a proxy's
        ("10.1.2.3", ["10.7.7.7, 10.9.9.9"], "addr:10.7.7.7"),
        # garbage ends the list: the last address known is who it came from
        ("10.1.2.3", ["203.0.113.7, garbage"], "addr:10.1.2.3"),
        ("10.1.2.3", ["203.0.113.7, unknown, 10.9.9.9"], "addr:10.9.9.9"),
        ("10.1.2.3", ["203.0.113.7,"], "addr:10.1.2.3"),
        ("10.1.2.3", [""], "addr:10.1.2.3"),
        ("10.1.2.3", [], "addr:10.1.2.3"),
        ("10.1.2.3", ["203.0.113.999"], "addr:10.1.2.3"),
        ("10.1.2.3", ["203.0.113.7 203.0.113.8"], "addr:10.1.2.3"),
        ("10.1.2.3", ["0xcb.0.113.7"], "addr:10.1.2.3"),
        ("10.1.2.3", ["\xb2.0.113.7"], "addr:10.1.2.3"),
        ("10.1.2.3", ["," * 10_000], "addr:10.1.2.3"),
        # ports and brackets, as some proxies write them
        ("10.1.2.3", ["203.0.113.7:4711"], "addr:203.0.113.7"),
        ("10.1.2.3", ["[2001:db8::1]:4711"], "addr:2001:db8::/64"),
        ("10.1.2.3", ["[2001:db8::1]"], "addr:2001:db8::/64"),
        ("10.1.2.3", ["2001:db8::1"], "addr:2001:db8::/64"),
        ("10.1.2.3", ["::ffff:203.0.113.7"], "addr:203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7, [2001:db8:ff::9]:1"], "addr:203.0.113.7"),
        ("10.1.2.3", ["203.0.113.7, 10.9.9.9:80"], "addr:203.0.113.7"),
        # from anybody else it does not count
        ("203.0.113.9", ["198.51.100.1"], "addr:203.0.113.9"),
        ("192.0.2.8", ["198.51.100.1"], "addr:192.0.2.8"),
        ("2001:db8:fe::1", ["198.51.100.1"], "addr:2001:db8:fe::/64"),
        (None, ["198.51.100.1"], "addr:unknown"),
        ("testclient", ["198.51.100.1"], "addr:unknown"),
    ],
)
def test_what_was_forwarded_counts_only_from_proxies_and_from_the_right(client, forwarded, name):
    assert ClientAddress(PROXIES)(scope(client, *forwarded)) == name
    assert UserOrAddress(PROXIES)(scope(client, *forwarded)) == name


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        (32, "addr:2001:db8::/32"),
        (48, "addr:2001:db8:1::/48"),
        (56, "addr:2001:db8:1:200::/56"),
        (64, "addr:2001:db8:1:203::/64"),
        (128, "addr:2001:db8:1:203::4/128"),
    ],
)
def test_the_prefix_of_ipv6_is_a_setting(prefix, name):
    for kind in (ClientAddress, UserOrAddress):
        assert kind(ipv6_prefix=prefix)(scope("2001:db8:1:203::4")) == name
        assert kind(ipv6_prefix=prefix)(scope("203.0.113.7")) == "addr:203.0.113.7"


@pytest.mark.parametrize("prefix", [0, 31, 129, -1, True, 64.0, "64", None])
def test_a_prefix_that_is_none_is_refused(prefix):
    with pytest.raises(
        ConfigurationError, match=r"^ipv6_prefix: expected an integer from 32 to 128, got "
    ):
        UserOrAddress(ipv6_prefix=prefix)


@pytest.mark.parametrize(
    ("principal", "everybody"),
    [
        ("addr:203.0.113.7", "addr:all"),
        ("addr:2001:db8::/64", "addr:all"),
        ("addr:unknown", "addr:all"),
        ("demo/addr:203.0.113.7", "demo/addr:all"),
        ("user:ann", None),
        ("user:addr:203.0.113.7", None),
        ("header:addr:203.0.113.7", None),
        ("demo/user:addr:1", None),
        ("address", None),
    ],
)
def test_only_addresses_are_anonymous(principal, everybody):
    assert is_anonymous(principal) is (everybody is not None)
    if everybody:
        assert everybody_like(principal) == everybody


def test_nothing_is_trusted_unless_it_was_said():
    assert ClientAddress()(scope("127.0.0.1", "198.51.100.1")) == "addr:127.0.0.1"
    assert not ClientAddress().is_trusted(scope("127.0.0.1"))
    assert not ClientAddress().is_trusted(scope(None))


def test_a_unix_socket_can_be_a_proxy():
    identify = ClientAddress(["unix"])

    assert identify(scope(None, "203.0.113.7")) == "addr:203.0.113.7"
    assert identify(scope(None)) == "addr:unknown"
    assert identify(scope("10.1.2.3", "203.0.113.7")) == "addr:10.1.2.3"
    assert ClientAddress(PROXIES)(scope(None, "203.0.113.7")) == "addr:unknown"


def test_a_network_may_be_written_by_any_of_its_addresses():
    assert ClientAddress(["10.1.2.3/8"]).is_trusted(scope("10.200.0.1"))


@pytest.mark.parametrize("proxy", ["", "nginx", "10.0.0.0/33", "10.0.0.256", "*", "::/129"])
def test_a_proxy_that_is_no_address_is_refused_at_the_start(proxy):
    for kind in (ClientAddress, UserOrAddress, lambda names: TrustedHeader("x-user", names)):
        with pytest.raises(ConfigurationError, match=r"^trusted_proxies: "):
            kind(["10.0.0.0/8", proxy])


def test_one_proxy_is_a_list_too():
    for kind in (ClientAddress, UserOrAddress, lambda names: TrustedHeader("x-user", names)):
        with pytest.raises(
            ConfigurationError, match=r"^trusted_proxies: expected a list of addresses, got"
        ):
            kind("10.0.0.0/8")


@given(st.lists(st.text(st.characters(max_codepoint=255))))
def test_whatever_is_forwarded_is_an_address_of_some_kind(forwarded):
    assert ClientAddress(PROXIES)(scope("10.1.2.3", *forwarded)).startswith("addr:")


# ---------------------------------------------------------------- a header of a proxy's


@pytest.mark.parametrize(
    ("client", "values", "name"),
    [
        ("127.0.0.1", ["ann"], "header:ann"),
        ("127.8.9.1", ["ann"], "header:ann"),
        ("::1", ["ann"], "header:ann"),
        ("::ffff:127.0.0.1", ["ann"], "header:ann"),
        (None, ["ann"], "header:ann"),
        ("127.0.0.1", ["  ann  "], "header:ann"),
        ("127.0.0.1", ["ann@example.org, Ltd."], "header:ann@example.org, Ltd."),
        ("127.0.0.1", ["J\xfcrgen"], "header:J\xfcrgen"),
        ("127.0.0.1", ["a" * 256], "header:" + "a" * 256),
        ("127.0.0.1", [], None),
        ("127.0.0.1", [""], None),
        ("127.0.0.1", ["   "], None),
        ("127.0.0.1", ["a" * 257], None),
        ("127.0.0.1", ["ann", "bob"], None),
        ("127.0.0.1", ["ann", "ann"], None),
        ("127.0.0.1", ["", "ann"], None),
        ("127.0.0.1", ["a\x00b"], None),
        ("127.0.0.1", ["a\x1b[0m"], None),
        ("127.0.0.1", ["a\x85b"], None),
        ("127.0.0.1", ["ann\xa0"], None),  # somebody else, whatever str.strip makes of it
        ("127.0.0.1", ["\x85ann"], None),
        ("127.0.0.1", ["\x1fann"], None),
        ("203.0.113.7", ["ann"], None),
        ("10.1.2.3", ["ann"], None),
        ("2001:db8::1", ["ann"], None),
    ],
)
def test_a_header_counts_once_filled_and_from_a_proxy(client, values, name):
    identify = TrustedHeader("X-User")

    assert identify(scope(client, *(("x-user", value) for value in values))) == name


def test_the_proxies_of_a_header_are_a_setting():
    identify = TrustedHeader("x-user", PROXIES)

    assert identify(scope("10.1.2.3", ("x-user", "ann"))) == "header:ann"
    assert identify(scope("127.0.0.1", ("x-user", "ann"))) is None
    assert identify(scope(None, ("x-user", "ann"))) is None


def test_a_header_is_not_trusted_for_what_was_forwarded():
    identify = TrustedHeader("x-user")

    assert identify(scope("203.0.113.7", "127.0.0.1", ("x-user", "ann"))) is None


@pytest.mark.parametrize("name", ["", "x user", "x-user:", "x\r\n", "x\tuser", "x-\xfcser"])
def test_a_header_without_a_name_is_refused_at_the_start(name):
    with pytest.raises(ConfigurationError) as caught:
        TrustedHeader(name)

    assert caught.value.detail == (
        f"name: expected the name of a header field, such as x-user-id, got {name!r}."
    )


# ---------------------------------------------------------------- users of frameworks


class DjangoUser:
    is_authenticated = True
    id = 7
    username = "ann"

    def __init__(self, pk=42):
        self.pk = pk


class AnonymousUser(DjangoUser):
    is_authenticated = False


class Identified(BaseUser):
    is_authenticated = True

    @property
    def display_name(self):
        return "Ann"

    @property
    def identity(self):
        return "ann@example.org"


class Unfinished(BaseUser):
    """A subclass that has not written what Starlette leaves to it."""

    is_authenticated = True
    display_name = "Ann"


class LitestarUser:
    """Whatever the application's own class is: Litestar asks nothing of it."""

    id = 42


class Plain:
    is_authenticated = True

    def __init__(self, **attributes):
        vars(self).update(attributes)


class Role(Enum):
    ADMIN = "admin"


class Level(IntEnum):
    HIGH = 3


class Shouting(str):
    __slots__ = ()

    def __str__(self):
        return self.upper()


class ObjectId:
    """As in MongoDB's driver: a value with a text of its own."""

    def __init__(self, text):
        self._text = text

    def __eq__(self, other):
        return isinstance(other, ObjectId) and other._text == self._text

    def __hash__(self):
        return hash(self._text)

    def __str__(self):
        return self._text


@dataclass
class Row:
    """As a model of a database: equal to none but itself, with no text of its own."""

    id: int


@dataclass(frozen=True)
class Frozen:
    owner: object

    def __str__(self):
        return repr(self)


class Method:
    is_authenticated = True

    def identity(self):
        return "ann"


class AsyncMethod:
    is_authenticated = True

    async def identity(self):
        return "ann"


class AsyncProperty:
    is_authenticated = True

    @property
    async def identity(self):
        return "ann"


class Asked:
    id = "ann"

    def __init__(self, *, yes):
        self._yes = yes

    def is_authenticated(self):
        return self._yes


class AsyncAsked:
    id = "ann"

    async def is_authenticated(self):
        return False


class AsyncAskedProperty:
    """As Quart-Auth's users."""

    id = "ann"

    @property
    async def is_authenticated(self):
        return False


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (SimpleUser("ann"), "user:ann"),
        (Identified(), "user:ann@example.org"),
        (Unfinished(), "user:Ann"),
        (UnauthenticatedUser(), None),
        (DjangoUser(), "user:42"),
        (DjangoUser(pk=0), "user:0"),
        (DjangoUser(pk=None), "user:7"),
        (AnonymousUser(), None),
        (Plain(id="u-1"), "user:u-1"),
        (Plain(id="", username="ann"), "user:ann"),
        (Plain(display_name="Ann"), "user:Ann"),
        (Plain(is_authenticated=False, id=1), None),
        (LitestarUser(), "user:42"),
        ("ann", "user:ann"),
        (7, "user:7"),
        ("", None),
        (None, None),
        (Plain(id=UUID(int=5)), "user:00000000-0000-0000-0000-000000000005"),
        (Plain(identity=Role.ADMIN), "user:admin"),
        (Plain(identity=Level.HIGH), "user:3"),
        (Plain(identity=Shouting("ann")), "user:ann"),
        (Plain(id=ObjectId("5f1d")), "user:5f1d"),
        (Plain(identity=SimpleLazyObject(lambda: "ann")), "user:ann"),
        (SimpleLazyObject(DjangoUser), "user:42"),
        (SimpleLazyObject(AnonymousUser), None),
        (Asked(yes=True), "user:ann"),
        (Asked(yes=False), None),
    ],
)
def test_a_user_counts_when_the_framework_has_authenticated_them(user, name):
    assert framework_user(scope(user=user)) == name
    assert UserOrAddress()(scope(user=user)) == (name or "addr:203.0.113.7")


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (Plain(), "tests.test_identity.Plain: expected one of identity, pk, id, "),
        (object(), "builtins.object: expected one of "),
        ({"id": 5}, "builtins.dict: expected one of "),
        (True, r'scope\["user"\] of the authenticated user: expected a name, '),
        (Method(), "identity of the authenticated user: expected a name, .*, got builtins.method"),
        (AsyncMethod(), "identity .*, got builtins.method"),
        (AsyncProperty(), "identity .*, got builtins.coroutine"),
        (Plain(identity=True), "got builtins.bool"),
        (Plain(pk=b"ann"), "got builtins.bytes"),
        (Plain(id=1.0), "got builtins.float"),
        (Plain(id=object()), "id of .*, got builtins.object"),
        (Plain(id=Plain(id=5)), "got tests.test_identity.Plain"),
        (Plain(id=["ann"]), "got builtins.list"),
        (Plain(id={"id": 5}), "got builtins.dict"),
        (Plain(id=("ann", object())), "got builtins.tuple"),
        (Plain(id=Row(id=5)), "got tests.test_identity.Row"),
        (Plain(id=Frozen(owner=object())), "got tests.test_identity.Frozen"),
        (Plain(id=Plain), "got builtins.type"),
        (Plain(identity=MagicMock()), "got unittest.mock.MagicMock"),
        (AsyncAsked(), "is_authenticated, of .*AsyncAsked: expected a bool, got an awaitable"),
        (AsyncAskedProperty(), "is_authenticated, of .*: expected a bool, got an awaitable"),
    ],
)
def test_a_user_without_a_stable_name_is_refused_and_never_a_fresh_budget(user, says):
    with pytest.raises(TypeError, match=says) as caught:
        framework_user(scope(user=user))
    assert " at 0x" not in str(caught.value)
    with pytest.raises(TypeError, match=says):
        UserOrAddress()(scope(user=user))


def test_a_scope_without_a_user_has_none():
    assert framework_user(scope()) is None


def test_names_from_different_sources_never_collide():
    names = {
        ClientAddress()(scope("203.0.113.7")),
        framework_user(scope(user=SimpleUser("203.0.113.7"))),
        framework_user(scope(user=SimpleUser("addr:203.0.113.7"))),
        TrustedHeader("x-user")(scope("127.0.0.1", ("x-user", "203.0.113.7"))),
        TrustedHeader("x-user")(scope("127.0.0.1", ("x-user", "user:203.0.113.7"))),
    }

    assert names == {
        "addr:203.0.113.7",
        "user:203.0.113.7",
        "user:addr:203.0.113.7",
        "header:203.0.113.7",
        "header:user:203.0.113.7",
    }


# ---------------------------------------------------------------- access

PROFILES = {profile.name: profile for profile in (CONSTRAINED, BALANCED, EXPANDED)}


def access(*, identify=ClientAddress(), allowed=None, default="balanced") -> Access:  # noqa: B008  # it keeps no state
    return Access(identify=identify, profiles=PROFILES, default=default, allowed=allowed)


async def later(value):
    await anyio.lowlevel.checkpoint()
    return value


@pytest.mark.anyio
@pytest.mark.parametrize("identify", [lambda _: "ann", lambda _: later("ann")])
async def test_the_principal_is_whom_identify_names_now_or_later(identify):
    assert await access(identify=identify).identity(scope()) == Identity("ann")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "identify",
    [
        lambda _: None,
        lambda _: later(None),
        lambda _: "",
        lambda _: later(""),
        TrustedHeader("x-u"),
    ],
)
async def test_nobody_is_a_401(identify):
    with pytest.raises(Unauthenticated) as caught:
        await access(identify=identify).identity(scope())

    assert (caught.value.status, caught.value.code) == (401, "unauthenticated")
    assert caught.value.headers == {}


def raising(status: int) -> Callable[[Any], str]:
    """A dependency of FastAPI that refuses."""

    def current_user(_: Any) -> str:
        raise HTTPException(status, "No.")

    return current_user


@pytest.mark.anyio
@pytest.mark.parametrize("status", [401, 403])
async def test_a_dependency_that_refuses_is_a_401(status):
    async def current_user(_: Any) -> str:
        return raising(status)(_)

    for identify in (raising(status), current_user):
        with pytest.raises(Unauthenticated):
            await access(identify=identify).identity(scope())


@pytest.mark.anyio
async def test_another_exception_of_a_dependency_is_its_fault():
    with pytest.raises(HTTPException):
        await access(identify=raising(500)).identity(scope())


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        *(" ", "\t\n", "\u3000", "a\0b", "a\nb", "\x7f", "a\x9f", "\ud800", "a\udfffb"),
        *("a" * 2_049, "\xe4" * 1_025, "\U0001f600" * 513),
    ],
)
async def test_a_name_that_not_every_ledger_can_have_is_a_401_and_logged(name, caplog):
    for identify in (lambda _: name, lambda _: later(name)):
        with pytest.raises(Unauthenticated):
            await access(identify=identify).identity(scope())
    assert len(caplog.records) == 2
    assert "identify() returned a str that cannot be a principal" in caplog.text
    assert len(caplog.records[0].getMessage()) < 1_000


@pytest.mark.anyio
async def test_names_that_cannot_be_are_logged_a_hundred_times_at_most(caplog):
    refuses = access(identify=lambda _: "\0")
    for _ in range(150):
        with pytest.raises(Unauthenticated):
            await refuses.identity(scope())
    assert len(caplog.records) == 100


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        "a",
        " a ",
        "a" * 2_048,
        "\xe4" * 1_024,
        "\U0001f600" * 512,
        "\u202eann",
        "a\u200db",
        "{a}:%*",
    ],
)
async def test_any_other_text_is_a_name_as_it_is(name):
    assert (await access(identify=lambda _: name).identity(scope())).principal == name


@pytest.mark.anyio
async def test_a_name_of_a_kind_of_its_own_is_its_text():
    found = (await access(identify=lambda _: Shouting("ann")).identity(scope())).principal
    assert (type(found), found) == (str, "ann")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", [5, True, b"ann", object(), ["ann"], SimpleLazyObject(lambda: "a")]
)
async def test_what_is_no_text_is_the_developers_error(name):
    for identify in (lambda _: name, lambda _: later(name)):
        with pytest.raises(
            TypeError, match=r"^identify\(\): expected a str, an Identity or None, got "
        ):
            await access(identify=identify).identity(scope())


@pytest.mark.anyio
async def test_nobody_with_a_key_is_told_that_a_key_is_wanted():
    with pytest.raises(Unauthenticated) as caught:
        await access(identify=BearerKeys({"ann": hashlib.sha256(b"k").hexdigest()})).identity(
            scope()
        )
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="chatnest"'}


ALL = ["constrained", "balanced", "expanded"]
ANN_HERSELF = Identity("ann")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        (None, ["constrained", "balanced"]),
        (["constrained"], ["constrained"]),
        (["expanded", "constrained"], ["constrained", "expanded"]),
        ({"balanced"}, ["balanced"]),
        (lambda _: ALL, ALL),
        (lambda principal: ["expanded"] if principal == "ann" else [], ["expanded"]),
        (lambda _: later(["balanced"]), ["balanced"]),
        (lambda _: ["retired", "balanced"], ["balanced"]),
        (lambda _: [], []),
    ],
)
async def test_open_profiles_are_the_operators_to_say(allowed, names):
    assert await access(allowed=allowed).allowed(ANN_HERSELF) == names


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("allowed", "asked", "name"),
    [
        (None, None, "balanced"),
        (None, "constrained", "constrained"),
        (["expanded", "constrained"], None, "constrained"),
        (["expanded"], None, "expanded"),
        (["expanded"], "expanded", "expanded"),
        (lambda _: later(["constrained", "balanced"]), None, "balanced"),
    ],
)
async def test_a_profile_is_the_one_asked_for_or_the_default_or_the_first_that_is_open(
    allowed, asked, name
):
    assert await access(allowed=allowed).profile(ANN_HERSELF, asked) is PROFILES[name]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "asked", ["constructor", "__proto__", "toString", "", "n" * 10_000, "Balanced", "../x", "\0"]
)
async def test_a_profile_that_does_not_exist_is_a_400_without_its_name(asked):
    with pytest.raises(InvalidRequest) as caught:
        await access().profile(ANN_HERSELF, asked)

    assert caught.value.detail == "profile: must be one of constrained, balanced."


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("allowed", "asked", "open_to"),
    [
        (["constrained"], "expanded", "constrained"),
        (["constrained", "balanced"], "expanded", "constrained, balanced"),
        (None, "expanded", "constrained, balanced"),
        (lambda _: [], "balanced", "none"),
        (lambda _: [], None, "none"),
        (lambda _: ["nope"], None, "none"),
    ],
)
async def test_a_profile_that_is_not_open_is_a_403(allowed, asked, open_to):
    with pytest.raises(ForbiddenProfile) as caught:
        await access(allowed=allowed).profile(ANN_HERSELF, asked)

    assert caught.value.detail == f"This profile is not open to you. Open to you: {open_to}."
    assert (caught.value.status, caught.value.code) == (403, "forbidden_profile")


@pytest.mark.parametrize(
    ("settings", "argument", "name"),
    [
        ({"default": "huge"}, "default_profile", "huge"),
        ({"allowed": ["balanced", "tiny"]}, "allowed_profiles", "tiny"),
        ({"default": "huge", "allowed": lambda _: ALL}, "default_profile", "huge"),
    ],
)
def test_a_profile_that_does_not_exist_is_named_at_the_start(settings, argument, name):
    with pytest.raises(ConfigurationError) as caught:
        access(**settings)

    assert caught.value.detail == (
        f"{argument}: expected names of profiles (constrained, balanced, expanded), got {name!r}."
    )


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ([], "allowed_profiles: expected at least one name, got none. Name the profiles that"),
        (iter(()), "allowed_profiles: expected at least one name"),
        ("balanced", "allowed_profiles: expected a list of names or a function, got str."),
        ("", "allowed_profiles: expected a list of names or a function, got str."),
    ],
)
def test_profiles_that_are_open_are_a_list_of_some(allowed, words):
    with pytest.raises(ConfigurationError, match=words):
        access(allowed=allowed)


BOUNDS = HardCaps.__struct_fields__


@pytest.mark.parametrize("bound", BOUNDS)
def test_one_bound_above_the_default_closes_a_profile(bound):
    """Each bound by itself: a client picks its profile, and takes what the largest allows."""
    usual = msgspec.structs.replace(BALANCED, temperature=0.5)
    value = getattr(usual, bound)
    for factor, opened in ((0.5, True), (1, True), (2, False)):
        kind = type(value)
        other = msgspec.structs.replace(usual, name="other", **{bound: kind(value * factor)})
        profiles = {"balanced": usual, "other": other}
        assert ("other" in open_by_default(profiles, "balanced")) is opened
        assert "other" in open_by_default(profiles, "balanced", written=("other",))


@pytest.mark.parametrize(
    ("default", "names"),
    [
        ("constrained", ["constrained"]),
        ("balanced", ["constrained", "balanced"]),
        ("expanded", ["constrained", "balanced", "expanded"]),
    ],
)
def test_the_profiles_that_ship_are_open_up_to_the_default(default, names):
    assert open_by_default(PROFILES, default) == names


def test_a_default_below_another_profile_closes_that():
    """A budget that was lowered must not be got around by another profile's."""
    lowered = PROFILES | {"balanced": msgspec.structs.replace(BALANCED, daily_token_limit=20_000)}
    assert open_by_default(lowered, "balanced") == ["balanced"]


@pytest.mark.anyio
async def test_what_opens_a_closed_profile_is_logged_once(caplog):
    asked = access()
    for _ in range(3):
        with pytest.raises(ForbiddenProfile):
            await asked.profile(ANN_HERSELF, "expanded")

    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        "profile 'expanded' is closed: its max_output_tokens is above that of the default profile "
        "'balanced'. To open it, name it in allowed_profiles."
    )


@pytest.mark.anyio
async def test_a_profile_that_the_operator_closed_is_no_news(caplog):
    with pytest.raises(ForbiddenProfile):
        await access(allowed=["balanced"]).profile(ANN_HERSELF, "expanded")

    assert caplog.records == []


@pytest.mark.anyio
async def test_an_unknown_name_of_the_operators_function_is_logged_once(caplog):
    asked = access(allowed=lambda who: ["balanced", who])

    for who in ("nope", "nope", "expanded", "tiny"):
        assert "balanced" in await asked.allowed(Identity(who))
    assert [record.getMessage() for record in caplog.records] == [
        f"allowed_profiles returned {name!r}: there is no such profile" for name in ("nope", "tiny")
    ]
    for number in range(200):
        await asked.allowed(Identity(f"name of {number}"))
    assert len(caplog.records) == 100  # a function may make up names without end


@pytest.mark.anyio
async def test_a_name_alone_is_a_list_of_it(caplog):
    assert await access(allowed=lambda _: "balanced").allowed(ANN_HERSELF) == ["balanced"]
    assert caplog.records == []


# ---------------------------------------------------------------- keys

ANN, BOB = (hashlib.sha256(key).hexdigest() for key in (b"secret", b"other"))


def bearing(*values: bytes) -> dict[str, object]:
    return {"type": "http", "headers": [(b"authorization", value) for value in values]}


@pytest.mark.parametrize(
    ("values", "owner"),
    [
        ([b"Bearer secret"], "key:ann"),
        ([b"bearer  secret "], "key:ann"),
        ([b"Bearer third"], "key:ann"),
        ([b"Bearer other"], "key:bob"),
        ([b"Bearer Secret"], None),
        ([b"Bearer secret2"], None),
        ([b"Basic secret"], None),
        ([b"secret"], None),
        ([b"Bearer \xff\x00"], None),
        ([b""], None),
        ([], None),
        ([b"Bearer secret", b"Bearer secret"], None),
    ],
)
def test_a_key_says_whose_it_is(values, owner):
    third = hashlib.sha256(b"third").hexdigest().upper()
    identify = BearerKeys({"ann": [ANN, third], "bob": f"sha256:{BOB}"})

    assert identify(bearing(*values)) == owner


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ann": "secret"}, r"keys\['ann'\]: expected the SHA-256 of a key"),
        ({"ann": ANN[:-1]}, r"keys\['ann'\]: expected the SHA-256"),
        ({"ann": ANN[:-1] + "g"}, r"keys\['ann'\]: expected the SHA-256"),
        ({"ann": ANN, "bob": ANN}, "expected a different hash for each key"),
        ({"ann": [ANN, 5]}, r"keys\['ann'\]: expected the SHA-256"),
        ({"": ANN}, "^keys: expected names of 1 to 256 printable characters, got ''"),
        ({"a\nb": ANN}, "1 to 256 printable characters"),
        ([("ann", ANN)], "^keys must be a mapping of names to hashes, not list"),
    ],
)
def test_what_is_no_hash_is_refused_and_not_repeated(keys, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        BearerKeys(keys)
    assert "secret" not in str(caught.value)


def test_the_command_makes_a_key_that_the_configuration_knows(capsys, tmp_path):
    main(["key", "ann.b"])
    line, _, toml = capsys.readouterr().out.partition("\n\n")
    file = tmp_path / "chatnest.toml"
    file.write_text(toml)

    identify = bearer_keys(load_config(file, {}, {}).identity.keys)

    assert identify(bearing(line.removeprefix("Authorization: ").encode())) == "key:ann.b"


@pytest.mark.parametrize("name", ["", "n" * 257, "a\nb"])
def test_the_command_makes_no_key_that_the_configuration_refuses(capsys, name):
    with pytest.raises(SystemExit) as caught:
        main(["key", name])

    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("chatnest: keys: expected names of ")


def test_a_name_may_have_two_keys_while_one_takes_the_place_of_the_other(tmp_path):
    file = tmp_path / "chatnest.toml"
    file.write_text(f'[identity.keys]\nann = ["sha256:{ANN}", "sha256:{BOB}"]\n')
    environ = {"CHATNEST_IDENTITY__KEYS__ANN": f"sha256:{ANN},sha256:{BOB}"}

    for config in (load_config(file, {}, {}), load_config(None, environ, {})):
        identify = bearer_keys(config.identity.keys)
        assert (
            identify(bearing(b"Bearer secret")) == identify(bearing(b"Bearer other")) == "key:ann"
        )
