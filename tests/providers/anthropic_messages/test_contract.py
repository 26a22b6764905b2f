"""AnthropicProvider does what every provider does."""

from http import HTTPStatus
from typing import ClassVar

import pytest

from chatnest import AnthropicProvider
from chatnest.errors import UpstreamOverloaded, UpstreamRejected
from chatnest.testing import ProviderContract
from tests.providers.anthropic_messages.events import LAST, end, stop, text

pytestmark = pytest.mark.anyio


class TestAnthropic(ProviderContract):
    path = "/v1/messages"
    refusals: ClassVar = {
        **ProviderContract.refusals,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: UpstreamRejected,
        529: UpstreamOverloaded,
    }

    def provider(self, url):
        return AnthropicProvider(base_url=url.removesuffix("/v1/messages"), api_key="k")

    def text(self, piece):
        return text(piece)

    def ending(self):
        return [stop(0), end(input_tokens=9, output_tokens=4), LAST]
