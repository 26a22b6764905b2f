"""What ChatNestApp is given by mistake is named, with what belongs there instead."""

import re
from typing import Any

import pytest

from chatnest import ChatNestApp, DemoProvider, UserOrAddress, standard_policies
from chatnest.errors import ConfigurationError
from chatnest.profiles import CONSTRAINED
from chatnest.runs import RunSettings

URL = "redis://:s3cret@host"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"ledger": URL},
            (
                "ledger must be an object with reserve(), as in SQLiteLedger(PATH), "
                "RedisLedger(URL) or MemoryLedger(), not str"
            ),
        ),
        (
            {"provider": "gpt-4o"},
            "provider must be an object with open(), as in OpenAIProvider(model=MODEL), not str",
        ),
        ({"provider": DemoProvider}, "provider must be an object with open(), as in .*, not the "),
        ({"identify": "x-user"}, "identify must be an object with __call__(), as in .*, not str"),
        ({"identify": UserOrAddress}, "identify must be .*, not the class UserOrAddress"),
        ({"bounds": {}}, "bounds must be of Bounds, as in Bounds(...), not dict"),
        ({"runs": {"linger": 5}}, "runs must be of RunSettings, as in RunSettings(...), not dict"),
        ({"hard_caps": {}}, "hard_caps must be of HardCaps, as in HardCaps(...), not dict"),
        ({"when_away": "count"}, "when_away must be of WhenAway, as in WhenAway(...), not str"),
        ({"ping_interval": "15"}, "ping_interval must be a number greater than 0, not '15'"),
        ({"ping_interval": 0}, "ping_interval must be a number greater than 0, not 0"),
        ({"ping_interval": float("nan")}, "ping_interval must be a number greater than 0, not nan"),
        ({"ping_interval": None}, "ping_interval must be a number greater than 0, not None"),
        (
            {"profiles": [CONSTRAINED]},
            "default_profile: there is no profile 'balanced'; there are constrained",
        ),
        ({"profiles": CONSTRAINED}, "profiles is a list of Profile objects, not one"),
        ({"allowed_profiles": 5}, "allowed_profiles is a list of names or a function, not int"),
        ({"allowed_profiles": "balanced"}, "allowed_profiles is a list of names .*, not str"),
    ],
)
def test_what_is_no_such_thing_is_told_by_its_argument(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ChatNestApp(**{"provider": DemoProvider(), **given})

    assert re.match(re.escape(told).replace(r"\.\*", ".*"), caught.value.detail)
    assert "s3cret" not in caught.value.detail


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        (
            [standard_policies()],
            (
                "policies[0] is a tuple of policies: unpack it, as in "
                "[*standard_policies(), MyPolicy()]"
            ),
        ),
        (standard_policies, "policies must be a list of them, not <function standard_policies"),
        (5, "policies must be a list of them, not 5"),
    ],
)
def test_policies_are_a_list_of_them(policies: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match="^" + re.escape(told)):
        ChatNestApp(provider=DemoProvider(), policies=policies)


def test_what_is_said_of_runs_is_a_number():
    for field in ("linger", "max_linger", "keep", "max_bytes"):
        wrong: dict[str, Any] = {field: "5"}
        with pytest.raises(ConfigurationError, match=rf"^runs\.{field} must be from .* not '5'$"):
            RunSettings(**wrong)
