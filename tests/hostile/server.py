"""The application of a process under watch: roomy, so that only size and shape are refused."""

import os

from starlette.types import ASGIApp

from chatnest import ChatNestApp, OpenAIProvider
from tests.hostile.support import roomy
from tests.hostile.watchdog import Watched


def create_app() -> ASGIApp:
    """What uvicorn serves, by HOSTILE_UPSTREAM in its environment."""
    provider = OpenAIProvider(base_url=os.environ["HOSTILE_UPSTREAM"], api_key="k")
    limits = {"max_output_tokens": 3_000, "max_tokens_per_request": 12_000, "max_messages": 20}
    return Watched(ChatNestApp(provider=provider, **roomy(**limits)))
