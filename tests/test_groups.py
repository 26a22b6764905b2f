"""Identity: a principal and its groups, valid or not made at all."""

import re
from enum import StrEnum
from types import MappingProxyType

import msgspec
import pytest
from django.utils.functional import SimpleLazyObject

from chatnest import Identity


class Team(StrEnum):
    BAKERY = "bakery"


def test_a_principal_may_have_groups():
    identity = Identity("ann", groups={"team": "bakery", "cost-centre_2": "A/7 \xe4"})
    assert identity.principal == "ann"
    assert identity.groups == {"team": "bakery", "cost-centre_2": "A/7 \xe4"}
    assert identity == Identity(principal="ann", groups=dict(identity.groups))
    assert Identity("ann").groups == {}


def test_nothing_about_it_changes():
    groups = {"team": "bakery"}
    identity = Identity("ann", groups)
    groups["team"] = "mill"
    assert identity.groups == {"team": "bakery"}
    with pytest.raises(TypeError):
        identity.groups["team"] = "mill"  # type: ignore[index]
    with pytest.raises(AttributeError):
        identity.groups = groups  # type: ignore[misc]
    assert isinstance(msgspec.structs.replace(identity, principal="bob").groups, MappingProxyType)


def test_a_text_of_another_kind_becomes_a_plain_one():
    identity = Identity(Team.BAKERY, groups={Team.BAKERY: Team.BAKERY})
    texts = [identity.principal, *identity.groups, *identity.groups.values()]
    assert [(type(text), text) for text in texts] == [(str, "bakery")] * 3


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, "groups: expected a mapping such as {'team': 'a'}, got NoneType."),
        ([("team", "a")], "groups: expected a mapping such as {'team': 'a'}, got list."),
        ({5: "a"}, "groups: name: expected a str, got int."),
        ({"team": 5}, "groups['team']: expected a str, got int."),
        ({"team": None}, "groups['team']: expected a str, got NoneType."),
        ({"team": SimpleLazyObject(lambda: "a")}, "groups['team']: expected a str, got Simple"),
    ],
)
def test_another_type_is_a_type_error(groups, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        Identity("ann", groups=groups)


@pytest.mark.parametrize("principal", [None, 5, b"ann", SimpleLazyObject(lambda: "ann")])
def test_a_principal_is_a_string(principal):
    with pytest.raises(TypeError, match=r"^principal: expected a str, got "):
        Identity(principal)


@pytest.mark.parametrize("value", ["", " ", "a\nb", "a\0", "\x7f", "\ud800", "a" * 257])
def test_a_value_that_is_no_short_name_is_a_value_error(value):
    with pytest.raises(ValueError, match=r"^groups\['team'\]: expected 1 to 256 printable") as e:
        Identity("ann", groups={"team": value})
    assert f"got {len(value)}: " in str(e.value)
    assert str(e.value).isprintable()
    assert len(str(e.value)) < 300


@pytest.mark.parametrize("name", ["", "1st", "a b", "a:b", "\xe4", "te\nam", "a" * 65])
def test_a_name_that_is_no_word_is_a_value_error(name):
    with pytest.raises(ValueError, match=r"^groups: expected a name of 1 to 64 letters") as e:
        Identity("ann", groups={name: "a"})
    assert str(e.value).isprintable()


def test_the_longest_and_the_most_are_valid():
    groups = {f"{'g' * 62}{n:02}": "v" * 256 for n in range(16)}
    assert Identity("ann", groups=groups).groups == groups
    with pytest.raises(ValueError, match=r"^groups: expected at most 16, got 17\."):
        Identity("ann", groups=groups | {"one": "more"})
