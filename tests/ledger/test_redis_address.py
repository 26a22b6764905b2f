"""Addresses and settings of RedisLedger, and what it says of its server."""

import subprocess
import sys
from pathlib import Path

import pytest

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.redis import RedisLedger
from tests.ledger.conftest import MakeRedis
from tests.ledger.server import running

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


async def test_what_is_known_of_the_server(make_redis: MakeRedis):
    facts = await make_redis().facts()

    assert {"redis_version", "role", "aof_enabled", "maxmemory_policy"} <= set(facts)
    assert (facts["role"], facts["aof_enabled"], facts["cluster_enabled"]) == ("master", "0", "0")


async def test_a_password_is_used_and_never_shown(make_redis: MakeRedis, tmp_path: Path):
    with running(tmp_path, "--requirepass", "s3cret") as server:
        ledger = make_redis(f"redis://:s3cret@{server.address}/3")
        await ledger.check()
        wrong = make_redis(f"redis://:wr0ng@{server.address}?client_name=x")
        with pytest.raises(LedgerUnavailable) as caught:
            await wrong.check()

    assert repr(ledger) == f"RedisLedger('redis://{server.address}/3')"
    assert repr(wrong) == f"RedisLedger('redis://{server.address}')"
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "wr0ng" not in repr(seen)
        seen = seen.__cause__
    await wrong.aclose()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h?password=p@ss", "redis://..."),
        ("redis://u:p@h:1/2?socket_keepalive=1", "redis://h:1/2"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis+sentinel://u:p@a:1,b/main/3", "redis+sentinel://a:1,b/main/3"),
        ("rediss+sentinel://[::1]:1/main", "rediss+sentinel://[::1]:1/main"),
        ("redis+cluster://u:p@a:1,b", "redis+cluster://a:1,b"),
        ("rediss+cluster://a", "rediss+cluster://a"),
        ("rediss://a?cluster=true", "rediss://a"),
    ],
)
def test_addresses(url: str, shown: str):
    ledger = RedisLedger(url)

    assert repr(ledger) == f"RedisLedger({shown!r})"
    assert ("cluster" in url) == (ledger._keys._slot_of is not None)


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:6379", "http://h", "redis+x://h", "redis://h:port", "redis://u:p@h:99999"),
        *("redis+sentinel://h", "redis+sentinel://:1/main", "redis+cluster://", "unix+cluster://h"),
        *("redis+sentinel://h/main?cluster=true", "redis://h?cluster=yes", "redis://h?db=x"),
        *("redis://h?no_such_option=1", "redis+cluster://h?no_such_option=1", "redis://[::1"),
        *("redis://", "redis:///3", "redis://u:p@", "rediss://?db=1", "redis://:u:p#x@h"),
        *("redis://u:p?x@h:port", "u:p@h", "redis://h:port?password=u:p@x"),
        *("redis+sentinel://h/main?no_such_option=1", "redis+cluster://h?db=1"),
    ],
)
def test_what_is_no_address(url: str):
    with pytest.raises(ConfigurationError) as caught:
        RedisLedger(url)

    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("setting", ["timeout", "keep_days", "remember", "max_connections"])
def test_settings_are_greater_than_nothing(setting: str):
    with pytest.raises(ConfigurationError):
        RedisLedger("redis://localhost", **{setting: 0})  # type: ignore[arg-type]


@pytest.mark.process
def test_without_the_extra_it_says_what_to_install():
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "import chatnest; from chatnest.ledger.redis import RedisLedger\n"
        "try: RedisLedger('redis://localhost')\n"
        "except chatnest.ConfigurationError as exc: print(exc)"
    )
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )

    assert "pip install '.[redis]'" in told.stdout
