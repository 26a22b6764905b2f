"""Why a Redis or Valkey server cannot be reached or written, in sentences."""

import re
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chatnest.stores.survey import Reason

__all__ = ["explain_redis"]

_CLUSTER_ADDRESS: Final = "name it as redis+cluster://HOST:6379"

_BY_CODE: Final = {
    "NOAUTH": Reason(
        "the server wants a password, and the address has none",
        "put redis://:PASSWORD@HOST:6379/0 into CHATNEST_LEDGER__URL",
    ),
    "WRONGPASS": Reason(
        "the server refuses the user or the password",
        "correct the address in CHATNEST_LEDGER__URL; in it, write @ : / ? # % as %40 and so on",
    ),
    "NOPERM": Reason(
        "the server's user may not do that",
        "give it +@read +@write +@scripting +@connection +time +info, and the keys ~PREFIX:*",
    ),
    "READONLY": Reason(
        "the server is a replica, and takes no writes",
        "name the primary; where it changes, use redis+sentinel://",
    ),
    "OOM": Reason("the server's memory is full", "raise maxmemory"),
    "MISCONF": Reason(
        "the server cannot write to its disk, and takes no writes",
        "look at its log and its disk",
    ),
    "LOADING": Reason("the server is still reading its data", "wait until it has"),
    "MASTERDOWN": Reason("the server is a replica that has lost its primary", "name the primary"),
    "NOREPLICAS": Reason(
        "the server has fewer replicas than min-replicas-to-write, and takes no writes",
        "bring the replicas back",
    ),
    "CLUSTERDOWN": Reason(
        "the cluster is down: some of its slots are not served", "look at CLUSTER INFO"
    ),
    "MOVED": Reason("the server is a node of a cluster", _CLUSTER_ADDRESS),
    "CROSSSLOT": Reason("the server is a node of a cluster", _CLUSTER_ADDRESS),
    "BUSY": Reason("a script blocks the server", "SCRIPT KILL ends it; find who runs it"),
}
"""By the first word of the server's answer."""

_BY_TEXT: Final = (
    (
        "without any password configured",
        Reason("the server has no password, and the address has one", "take it out of the address"),
    ),
    (
        "max number of clients",
        Reason("the server has as many clients as it takes", "raise maxclients"),
    ),
    (
        "cluster support disabled",
        Reason("the server is no cluster", "name it as redis://HOST:6379/0"),
    ),
    (
        "slots are not covered",
        Reason("no node has some of the cluster's slots", "look at CLUSTER INFO"),
    ),
    (
        "unknown command 'SENTINEL'",
        Reason("the server is no sentinel", "sentinels listen at port 26379, usually"),
    ),
    (
        "DB index is out of range",
        Reason("the server has no database of that number", "use /0 in the address"),
    ),
)
"""By what redis-py, or a server that says nothing but ERR, says."""

_TIMEOUT: Final = Reason(
    "no answer came within ledger.timeout",
    "is the server frozen or busy, is there a firewall, does it speak TLS as the address says?",
)
_BY_TYPE: Final[tuple[tuple[type[BaseException], Reason], ...]] = (
    (
        socket.gaierror,
        Reason("the name of the host is not known", "correct the address, or look at DNS"),
    ),
    (ssl.SSLError, Reason("the server does not speak TLS as we do", "redis:// is without TLS")),
    (
        ConnectionRefusedError,
        Reason("connection refused: nothing listens there", "start it, or correct the port"),
    ),
    (
        FileNotFoundError,
        Reason("there is no such socket", "start the server, or correct the path"),
    ),
    (PermissionError, Reason("this user may not use the socket", "let it: unixsocketperm")),
    (TimeoutError, _TIMEOUT),
    (RedisTimeoutError, _TIMEOUT),
)
_CLOSED: Final = Reason(
    "the server closes the connection",
    "does it want TLS (rediss://)? Look at its log",
)


def explain_redis(causes: Sequence[BaseException]) -> Reason:
    """``causes``: the first one first."""
    for explain in _answered, _connected, _anything:
        for cause in causes:
            reason = explain(cause)
            if reason is not None:
                return reason
    return Reason("it does not say why", "look at the server's log")


def _answered(cause: BaseException) -> Reason | None:
    """What the server said, or did not say."""
    text = str(cause)
    code = getattr(cause, "status_code", None) or text.partition(" ")[0]
    if code == "NOPERM" and (
        what := re.search(r"to run (the '[\w|]+' command)|access (a key)", text)
    ):
        known = _BY_CODE[code]
        return Reason(f"the server's user may not use {what[1] or 'its keys'}", known.advice)
    if code in _BY_CODE:
        return _BY_CODE[code]
    return next((reason for words, reason in _BY_TEXT if words in text), None)


def _connected(cause: BaseException) -> Reason | None:
    """What the network said."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Reason(
            f"the server's certificate is not trusted: {cause.verify_message}",
            "use a name that is in it, or name its authority, as ?ssl_ca_certs=FILE",
        )
    if isinstance(cause, MasterNotFoundError):
        return _without_primary(str(cause))
    return next((reason for kind, reason in _BY_TYPE if isinstance(cause, kind)), None)


def _without_primary(text: str) -> Reason:
    # It goes on with the connections that failed, and these may have a password.
    if " : " in text:
        return Reason("no sentinel that answers knows the primary", "are the sentinels up?")
    return Reason("the sentinels know no primary of that name", "correct the service's name")


def _anything(cause: BaseException) -> Reason | None:
    if isinstance(cause, RedisConnectionError | ConnectionError):
        return _CLOSED
    if isinstance(cause, ResponseError):
        # An unknown command is quoted with its arguments, such as a password.
        said = str(cause).partition(", with args")[0]
        return Reason(f"the server answers: {said}", "look at its log")
    if isinstance(cause, OSError) and cause.strerror:
        return Reason(f"no connection: {cause.strerror}", "correct the address, or the network")
    return None
