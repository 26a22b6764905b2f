"""The programs of the frameworks' pages, and what differs between them."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from chatnest.testing import FakeUpstream
from tests.frameworks import pages
from tests.frameworks.support import Site, environment, serving
from tests.servers.support import Client

BEARER = ("Authorization: Bearer token-of-ann",)
PASSWORD = "pass of ann"


def form(port: int) -> tuple[str, ...]:
    """Log in by a form, as a browser would; gives the cookie."""
    content = b"name=ann&password=pass+of+ann"
    with Client(port) as client:
        fields = (
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(content)}",
        )
        client.request("POST", "/login", headers=fields)
        client.socket.sendall(content)
        reply = client.reply()
        assert reply.status == 200, reply.read_all()
        return (f"Cookie: {reply.headers['set-cookie'].partition(';')[0]}",)


class Program(NamedTuple):
    """A program by its place, as a server is told it. ``neighbour`` is the status of a path that
    begins as the chat's does; ``lifespan`` whether the framework hears of it, ``trio`` whether it
    runs there. ``alone`` is what it notes where the server has no lifespan.
    """

    app: str
    account: str = "user:ann"
    refuses_strangers: bool = True
    websockets: bool = True
    neighbour: int = 404
    lifespan: bool = True
    trio: bool = False
    alone: tuple[str, ...] = ()
    log_in: Callable[[int], tuple[str, ...]] = lambda _: BEARER

    @property
    def name(self) -> str:
        return self.app.partition(":")[0]

    @property
    def page(self) -> str:
        return f"frameworks/{self.name.partition('_')[0]}.md"


PROGRAMS = [
    Program("fastapi_app:api", trio=True),
    Program("fastapi_route:api", trio=True),
    Program("starlette_app:app", refuses_strangers=False, trio=True),
    Program("starlette_middleware:app", refuses_strangers=False, trio=True),
    Program("starlette_mount:app", refuses_strangers=False, neighbour=405, trio=True),
    Program("litestar_app:app", neighbour=405, trio=True),
    Program("litestar_wrapped:app", trio=True),
    Program("quart_app:app", log_in=form),
    Program(
        "django_app:application", account="user:1", websockets=False, lifespan=False, log_in=form
    ),
    Program("blacksheep_app:app", alone=("start",)),
    Program("falcon_app:app"),
    Program("sanic_app:app"),
]


def save(program: Program, folder: Path, upstream: FakeUpstream, drain: str) -> None:
    """Save the programs of its page, and run what comes before the server."""
    for name, text in pages.programs(program.page, drain=drain).items():
        (folder / f"{name}.py").write_text(pages.patient(text))
    for python, *arguments in pages.commands(program.page):
        if python != "python":
            return
        extra = ["--no-input"] if "createsuperuser" in arguments else []
        subprocess.run(
            [sys.executable, *arguments, *extra],
            cwd=folder,
            env=environment(
                folder,
                upstream,
                DJANGO_SUPERUSER_EMAIL="ann@example.org",
                DJANGO_SUPERUSER_PASSWORD=PASSWORD,
            ),
            check=True,
            capture_output=True,
        )


@contextmanager
def well_served(
    program: Program,
    arguments: Sequence[str],
    folder: Path,
    upstream: FakeUpstream,
    port: int,
    *,
    record_property: Callable[[str, object], None],
) -> Iterator[Site]:
    """A program on a server, when it has shown all but how it ends, with its user logged in."""
    with serving(arguments, folder, upstream, port, PAGE_APP=program.app) as process:
        site = Site(process, port, upstream, folder, program.account)
        site.login = program.log_in(port)
        site.answers_well(record_property)
        if program.refuses_strangers:
            site.a_stranger_is_refused()
        site.the_rest_is_the_host_s(program.neighbour)
        yield site


def server_command(program: Program) -> list[str]:
    """How its page starts a server; the page's first program in place of the others."""
    return next(
        words for words in pages.commands(program.page) if words[0] not in {"python", "curl"}
    )


def requests(program: Program) -> list[list[str]]:
    """The page's requests."""
    return [words for words in pages.commands(program.page) if words[0] == "curl"]
