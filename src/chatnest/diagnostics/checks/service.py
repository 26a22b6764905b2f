"""Checks of what is configured: who is asking, and times. No I/O."""

from ipaddress import ip_network
from typing import Final
from urllib.parse import urlsplit

from chatnest._util.addresses import is_local, is_loopback
from chatnest.bounds import FIRST_BYTE_SECONDS
from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, fail, ok, warn
from chatnest.stores.survey import RedisSurvey, SQLiteSurvey

__all__ = ["SERVICE_CHECKS"]

_PROXY_SECONDS: Final = 60
"""After which nginx and most load balancers close a connection on which nothing comes."""

_KILL_SECONDS: Final = 30
"""What Kubernetes gives a process between SIGTERM and SIGKILL; Docker gives 10."""


def _proxies(findings: Findings) -> Check:
    name, identity = "identity.trusted_proxies", findings.config.identity
    named = identity.trusted_proxies
    everybody = [each for each in named if each != "unix" and _is_everybody(each)]
    if everybody:
        return fail(
            name,
            f"{everybody[0]} is everybody, and everybody may say who they are",
            "name the proxies that are yours",
        )
    if named:
        return ok(name, ", ".join(named))
    local = is_loopback(findings.config.server.host)
    if local and not identity.header and not identity.keys:
        return warn(
            name,
            "none, on a loopback address: behind a proxy, all users are one",
            "name the proxy's address, such as 127.0.0.1",
        )
    if not local and identity.header:
        return warn(
            name,
            "none: the header counts only when it comes from this machine, others get 401",
            "name the proxy's address",
        )
    return ok(name, "none")


def _identity(findings: Findings) -> Check:
    name, config = "identity", findings.config
    header, host = config.identity.header, config.server.host
    if header:
        return ok(name, f"by the header {header}, at {host}")
    if keys := config.identity.keys:
        return ok(name, f"by the bearer keys of {len(keys)}, at {host}")
    return ok(name, f"by address, at {host}")


def _ping(findings: Findings) -> Check:
    name, seconds = "chat.ping_interval", findings.config.chat.ping_interval
    if seconds >= _PROXY_SECONDS:
        return warn(
            name,
            f"{seconds:g} s: proxies close a connection after {_PROXY_SECONDS} s of silence",
            "choose less, such as 15",
        )
    return ok(name, f"{seconds:g} s")


def _times(findings: Findings) -> Check:
    """Each should end before what is around it does, or never has its say."""
    host = urlsplit(findings.base_url).hostname or ""
    name, bounds = "bounds", findings.config.bounds.resolved(local=bool(host) and is_local(host))
    first_byte = bounds.first_byte_seconds or FIRST_BYTE_SECONDS
    around = (
        ("chat.ping_interval", findings.config.chat.ping_interval, "bounds.idle_seconds"),
        ("bounds.early_start_seconds", bounds.early_start_seconds, "bounds.first_byte_seconds"),
        ("bounds.first_byte_seconds", first_byte, "bounds.stream_seconds"),
        ("bounds.idle_seconds", bounds.idle_seconds, "bounds.stream_seconds"),
        (*_patience(findings), "bounds.ledger_seconds"),
        ("bounds.ledger_seconds", bounds.ledger_seconds, "bounds.settle_seconds"),
    )
    for inner, seconds, outer in around:
        limit = getattr(bounds, outer.partition(".")[2])
        if seconds >= limit:
            return warn(
                name,
                f"{inner} ({seconds:g} s) does not end before {outer} ({limit:g} s)",
                "lower the first, or raise the second",
            )
    return ok(name, f"in order; a stream takes at most {bounds.stream_seconds:g} s")


def _patience(findings: Findings) -> tuple[str, float]:
    ledger = findings.config.ledger
    match findings.survey:
        case RedisSurvey():  # a wait for a connection, and one for the answer
            return "twice ledger.timeout", 2 * ledger.timeout
        case SQLiteSurvey():
            return "ledger.busy_timeout", ledger.busy_timeout
    return "memory", 0.0


def _drain(findings: Findings) -> Check:
    name, server, bounds = "server.drain_seconds", findings.config.server, findings.config.bounds
    longest = server.announce_seconds + server.drain_seconds + bounds.settle_seconds
    shown = f"{server.drain_seconds:g} s, and {bounds.settle_seconds:g} s to settle"
    if server.announce_seconds:
        shown = f"{shown}, after {server.announce_seconds:g} s of server.announce_seconds"
    if longest >= _KILL_SECONDS:
        return warn(
            name,
            f"{shown}: many supervisors kill after {_KILL_SECONDS} s",
            "choose less, or have yours wait longer",
        )
    return ok(name, shown)


def _protocol(_: Findings) -> Check:
    """What a mounted application is served by, nobody can tell from here."""
    return ok(
        "server.protocol",
        "chatnest serve has its own; uvicorn with httptools, which serves other applications "
        "unless told, needs --http chatnest.server:Protocol",
    )


def _is_everybody(network: str) -> bool:
    return ip_network(network, strict=False).prefixlen == 0


SERVICE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _identity,
    _proxies,
    _ping,
    _times,
    _drain,
    _protocol,
)
