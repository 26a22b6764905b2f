"""``chatnest serve`` with plans and a table of keys, as a process with two workers."""

import hashlib
import signal

import pytest

from chatnest.testing import CANARY
from tests.servers.support import Client, ask

FILE = """
[plans.pro]
profiles = ["expanded", "balanced"]

[plans.free]
profiles = ["constrained"]

[chat]
default_plan = "free"

[identity.keys]
bob = "sha256:{bob}"
ann = {{ hashes = ["sha256:{ann}"], groups = {{ team = "acme" }}, plan = "pro" }}
eve = {{ hashes = "{eve}", plan = "pro", profiles = ["balanced"], models = ["default"] }}
old = {{ hashes = "{old}", expires = 2020-01-31 }}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_keys_open_the_profiles_of_their_plans(real, upstream, tmp_path, workers):
    names = ("ann", "bob", "eve", "old")
    hashes = {name: hashlib.sha256(f"{CANARY}-{name}".encode()).hexdigest() for name in names}
    file = tmp_path / "chatnest.toml"
    file.write_text(FILE.format(**hashes))
    process = real(
        *("--config", str(file), "--workers", workers),
        CHATNEST_IDENTITY__KEYS__EVE__EXPIRES="2999-12-31",
    )
    port = process.ready()
    process.find(r"plan +pro: expanded, balanced")
    process.find(r"plan +free, the default: constrained")
    process.find(r"closed +assistant")

    def status(name: str, **fields: str) -> int:
        with Client(port) as client:
            key = f"Authorization: Bearer {CANARY}-{name}"
            client.request("POST", body=ask(**fields), headers=[key])
            reply = client.reply()
            reply.read_all()
        return reply.status

    def opened(name: str) -> tuple[str, list[str], str, list[str]]:
        with Client(port) as client:
            key = f"Authorization: Bearer {CANARY}-{name}"
            limits = client.get("/api/chat/limits", key).json()
            models = client.get("/v1/models", key).json()
        listed = [each["id"] for each in models["data"]]
        return limits["plan"], limits["profiles"], limits["profile"], listed

    only = ["gpt-4o-mini"]
    assert opened("ann") == ("pro", ["expanded", "balanced"], "expanded", only)
    assert opened("bob") == ("free", ["constrained"], "constrained", only)
    assert opened("eve") == ("pro", ["balanced"], "balanced", only)
    asked = {
        (name, profile): status(name, profile=profile)
        for name in ("ann", "bob", "eve")
        for profile in ("constrained", "balanced", "expanded")
    }
    assert [pair for pair, found in asked.items() if found == 200] == [
        *(("ann", "balanced"), ("ann", "expanded")),
        *(("bob", "constrained"), ("eve", "balanced")),
    ]
    assert set(asked.values()) == {200, 403}
    assert (status("old"), status("nobody")) == (401, 401)
    process.find(r"key expired: name='old' expires=2020-01-31T23:59:59\+00:00\. Its requests get")
    process.signal(signal.SIGTERM)
    process.wait()
    assert CANARY not in "".join(process.lines)
