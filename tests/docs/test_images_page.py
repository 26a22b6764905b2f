"""The requests on the page about images and tools are taken."""

import re
from pathlib import Path

import pytest

from chatnest.models import Catalogue
from chatnest.permissions import check_permissions
from chatnest.profiles import ASSISTANT
from chatnest.wire.native import parse_request
from tests.support.scripted import Scripted

PAGE = (Path(__file__).parents[2] / "docs/how-to/images-and-tools.md").read_text()
REQUESTS = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", REQUESTS)
def test_a_request_of_the_page_is_taken(text):
    request = parse_request(text.encode())

    model = Catalogue.of_one(Scripted(), {"assistant": ASSISTANT}).default
    check_permissions(request, ASSISTANT, model)
    assert len(REQUESTS) == 3
