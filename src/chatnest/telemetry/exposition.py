"""Exposition: the text of the metrics, for a scrape.

prometheus-client writes the whole text once. Later scrapes replace only the numbers: with many
models there are thousands of lines, and formatting all of them takes twenty times as long.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from chatnest.errors import ConfigurationError
from chatnest.telemetry.metrics import Metrics

__all__ = ["Exposition", "written_by"]

_COMMENT: Final = "#"
_MOST: Final = 500
"""Maximum lines of a part."""


class _Written(NamedTuple):
    """A family: the lines before its samples, and each sample up to its value."""

    head: str
    samples: list[str]


class _One(NamedTuple):
    """A collector of one metric."""

    metric: Any

    def collect(self) -> list[Any]:
        return [self.metric]


class Exposition:
    """Writes the metrics as text. Raises ConfigurationError without prometheus-client."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._encode = written_by().generate_latest
        families = metrics.layout.families
        texts = [self._encode(_One(metric)) for metric in islice(metrics.collect(), len(families))]
        self._written = [_split(text.decode()) for text in texts]

    def parts(self) -> Iterator[bytes]:
        """The text, in parts of some hundred lines. Between two of them, others may run."""
        rows = self._metrics.rows()
        for (head, samples), values in zip(self._written, self._metrics.values(rows), strict=True):
            yield head.encode()
            for at in range(0, len(samples), _MOST):
                pairs = zip(samples[at : at + _MOST], values[at : at + _MOST], strict=True)
                yield "".join([f"{sample} {value!r}\n" for sample, value in pairs]).encode()
        for metric in self._metrics.others(rows):
            yield self._encode(_One(metric))


def _split(text: str) -> _Written:
    lines = text.splitlines()
    head = [f"{line}\n" for line in lines if line.startswith(_COMMENT)]
    samples = [line.rpartition(" ")[0] for line in lines if not line.startswith(_COMMENT)]
    return _Written("".join(head), samples)


def written_by() -> Any:
    """The module of prometheus-client that writes the text. Raises ConfigurationError."""
    try:
        # Imported here, since a server without metrics does not need the package.
        from prometheus_client import exposition  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "server.metrics_port: expected the package prometheus-client, got none. Install the "
            "extra `metrics`: pip install '.[metrics]' in a copy of the repository."
        ) from None
    return exposition
