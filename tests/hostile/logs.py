"""Everything that anybody logs, at every level, whatever the loggers are set to."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        extra = {k: v for k, v in vars(record).items() if k not in {"exc_info", "msg", "args"}}
        text = f"{self.format(record)}\n{record.msg!r}\n{record.args!r}\n{extra!r}"
        self.lines.append((record.name, text))


@contextmanager
def everything_logged() -> Iterator[list[tuple[str, str]]]:
    """Pairs of a logger and what it wrote: text, arguments, traceback, and all that is beside."""
    keeper = _Keeper()
    names = ("openai", "openai._base_client", "httpx2", "httpcore2", "aiohttp", "aiohttp.client")
    loggers = [logging.getLogger(name) for name in (*logging.root.manager.loggerDict, *names)]
    former = [(each, each.level, each.propagate, each.disabled) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
        each.propagate, each.disabled = True, False
    level = logging.root.level
    logging.root.setLevel(logging.DEBUG)
    logging.root.addHandler(keeper)
    try:
        yield keeper.lines
    finally:
        logging.root.removeHandler(keeper)
        logging.root.setLevel(level)
        for each, was, propagate, disabled in former:
            each.setLevel(was)
            each.propagate, each.disabled = propagate, disabled
