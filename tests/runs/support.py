"""What the tests of runs share."""

from tests.servers.support import Client


def used(port: int) -> int:
    """Tokens that the client's account was charged, all of them settled."""
    with Client(port) as client:
        document = client.get("/api/chat/limits").json()
    (tokens,) = (limit for limit in document["limits"] if limit["name"] == "tokens")
    assert tokens["held"] == 0
    figure: int = tokens["used"]
    return figure
