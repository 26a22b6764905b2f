"""What ``chatnest serve`` serves, under watch: roomy, so that only size and shape are refused."""

import os

import msgspec
from starlette.types import ASGIApp

from chatnest import HardCaps
from chatnest.config.sections import (
    ChatSection,
    Config,
    LedgerSection,
    ProviderSection,
    ServerSection,
)
from chatnest.server import site
from tests.hostile.watchdog import Watched
from tests.streams.support import profile


def create_app() -> ASGIApp:
    """What uvicorn serves, by HOSTILE_UPSTREAM in its environment."""
    most = 10**9
    roomy = profile(
        max_output_tokens=3_000,
        max_tokens_per_request=12_000,
        max_messages=20,
        requests_per_minute=most,
        daily_token_limit=most,
        max_concurrent_streams=most,
    )
    config = Config(
        provider=ProviderSection(base_url=os.environ["HOSTILE_UPSTREAM"]),
        chat=ChatSection(default_profile="own"),
        profiles=(roomy,),
        hard_caps=HardCaps(requests_per_minute=None, daily_token_limit=None),
        ledger=LedgerSection(url="memory:"),
        server=ServerSection(host="0.0.0.0"),  # any Host will do
    )
    os.environ[site.CONFIG_VARIABLE] = msgspec.json.encode(config).decode()
    return Watched(site.create_app())
