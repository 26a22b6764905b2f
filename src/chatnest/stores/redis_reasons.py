"""Reasons of a Redis or Valkey server that cannot be reached or written."""

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

_CLUSTER_ADDRESS: Final = "write its address as redis+cluster://HOST:6379"

_BY_CODE: Final = {
    "NOAUTH": Reason(
        "the server requires a password, and the address has none",
        "put redis://:PASSWORD@HOST:6379/0 into CHATNEST_LEDGER__URL",
    ),
    "WRONGPASS": Reason(
        "the server refuses the user or the password",
        "correct the address in CHATNEST_LEDGER__URL; in it, write @ : / ? # % as %40 and so on",
    ),
    "NOPERM": Reason(
        "the server's user lacks a permission",
        "give it +@read +@write +@scripting +@connection +time +info, and the keys ~PREFIX:*",
    ),
    "READONLY": Reason(
        "the server is a replica, which refuses writes",
        "use the primary's address; if the primary changes, use redis+sentinel://",
    ),
    "OOM": Reason("the server's memory is full", "raise maxmemory"),
    "MISCONF": Reason(
        "the server cannot write to its disk, and refuses writes",
        "look at its log and its disk",
    ),
    "LOADING": Reason("the server is still reading its data", "wait until it has"),
    "MASTERDOWN": Reason(
        "the server is a replica that has lost its primary", "use the primary's address"
    ),
    "NOREPLICAS": Reason(
        "the server has fewer replicas than min-replicas-to-write, and refuses writes",
        "restart the replicas",
    ),
    "CLUSTERDOWN": Reason(
        "the cluster is down: some of its slots are not served", "look at CLUSTER INFO"
    ),
    "MOVED": Reason("the server is a node of a cluster", _CLUSTER_ADDRESS),
    "CROSSSLOT": Reason("the server is a node of a cluster", _CLUSTER_ADDRESS),
    "BUSY": Reason("a script blocks the server", "end it with SCRIPT KILL, and find its origin"),
}
"""The first word of the server's answer → the reason."""

_BY_TEXT: Final = (
    (
        "without any password configured",
        Reason("the server has no password, and the address has one", "remove it from the address"),
    ),
    (
        "max number of clients",
        Reason("the server has reached its maximum of clients", "raise maxclients"),
    ),
    (
        "cluster support disabled",
        Reason("the server is not a cluster", "write its address as redis://HOST:6379/0"),
    ),
    (
        "slots are not covered",
        Reason("some slots of the cluster belong to no node", "look at CLUSTER INFO"),
    ),
    (
        "unknown command 'SENTINEL'",
        Reason("the server is not a sentinel", "use a sentinel's port, usually 26379"),
    ),
    (
        "DB index is out of range",
        Reason("the server has no database of that number", "use /0 in the address"),
    ),
)
"""A part of the text of redis-py, or of a server's answer with the code ERR, and the reason."""

_TIMEOUT: Final = Reason(
    "no answer came within ledger.timeout",
    "check that the server is not frozen or busy, that no firewall drops packets, and that it uses "
    "TLS if the address does",
)
_BY_TYPE: Final[tuple[tuple[type[BaseException], Reason], ...]] = (
    (
        socket.gaierror,
        Reason("the host name cannot be resolved", "correct the address, or check DNS"),
    ),
    (ssl.SSLError, Reason("the TLS handshake failed", "use redis:// for a server without TLS")),
    (
        ConnectionRefusedError,
        Reason("connection refused: no server listens there", "start it, or correct the port"),
    ),
    (
        FileNotFoundError,
        Reason("the socket does not exist", "start the server, or correct the path"),
    ),
    (
        PermissionError,
        Reason("this user may not use the socket", "set unixsocketperm on the server"),
    ),
    (TimeoutError, _TIMEOUT),
    (RedisTimeoutError, _TIMEOUT),
)
_CLOSED: Final = Reason(
    "the server closes the connection",
    "use rediss:// if it requires TLS, and look at its log",
)


def explain_redis(causes: Sequence[BaseException]) -> Reason:
    """The reason in a chain of exceptions, the first cause first."""
    for explain in _answered, _connected, _anything:
        for cause in causes:
            reason = explain(cause)
            if reason is not None:
                return reason
    return Reason("the cause is unknown", "look at the server's log")


def _answered(cause: BaseException) -> Reason | None:
    """The reason in an answer of the server, or of redis-py."""
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
    """The reason in a failure of the network."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Reason(
            f"the server's certificate is not trusted: {cause.verify_message}",
            "use a host name that it contains, or add its authority as ?ssl_ca_certs=FILE",
        )
    if isinstance(cause, MasterNotFoundError):
        return _without_primary(str(cause))
    return next((reason for kind, reason in _BY_TYPE if isinstance(cause, kind)), None)


def _without_primary(text: str) -> Reason:
    # The text continues with the failed connections, which may contain a password.
    if " : " in text:
        return Reason("no sentinel that answers knows the primary", "check that the sentinels run")
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
