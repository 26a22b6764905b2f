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
                "ledger: expected an object with reserve(), got str. Pass for example "
                "SQLiteLedger(PATH), RedisLedger(URL) or MemoryLedger()."
            ),
        ),
        (
            {"provider": "gpt-4o"},
            (
                "provider: expected an object with open(), got str. Pass for example "
                "OpenAIProvider(model=MODEL)."
            ),
        ),
        ({"provider": DemoProvider}, "provider: expected an object with open(), got the class "),
        ({"identify": "x-user"}, "identify: expected an object with __call__(), got str. "),
        ({"identify": UserOrAddress}, "identify: expected .*, got the class UserOrAddress. "),
        ({"bounds": {}}, "bounds: expected Bounds, got dict. Pass Bounds(...)."),
        ({"runs": {}}, "runs: expected RunSettings, got dict. Pass RunSettings(...)."),
        ({"hard_caps": {}}, "hard_caps: expected HardCaps, got dict. Pass HardCaps(...)."),
        ({"when_away": "count"}, "when_away: expected WhenAway, got str. Pass WhenAway(...)."),
        ({"ping_interval": "15"}, "ping_interval: expected a number > 0, got '15'."),
        ({"ping_interval": 0}, "ping_interval: expected a number > 0, got 0."),
        ({"ping_interval": float("nan")}, "ping_interval: expected a number > 0, got nan."),
        ({"ping_interval": None}, "ping_interval: expected a number > 0, got None."),
        (
            {"profiles": [CONSTRAINED]},
            "default_profile: expected names of profiles (constrained), got 'balanced'.",
        ),
        ({"profiles": CONSTRAINED}, "profiles: expected a list of Profile objects, got one "),
        (
            {"allowed_profiles": 5},
            "allowed_profiles: expected a list of names or .*, got int",
        ),
        (
            {"allowed_profiles": "balanced"},
            "allowed_profiles: expected a list of names or .*, got str",
        ),
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
                "policies[0]: expected a policy, got a tuple. Unpack it, as in "
                "[*standard_policies(), MyPolicy()]."
            ),
        ),
        (
            standard_policies,
            "policies: expected a list of policies, got <function standard_policies",
        ),
        (5, "policies: expected a list of policies, got 5."),
    ],
)
def test_policies_are_a_list_of_them(policies: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match="^" + re.escape(told)):
        ChatNestApp(provider=DemoProvider(), policies=policies)


def test_what_is_said_of_runs_is_a_number():
    for field in ("linger", "max_linger", "keep", "max_bytes"):
        wrong: dict[str, Any] = {field: "5"}
        with pytest.raises(
            ConfigurationError, match=rf"^runs\.{field}: expected .* from .*, got '5'\."
        ):
            RunSettings(**wrong)
