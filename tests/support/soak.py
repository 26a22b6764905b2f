"""How much tests marked ``soak`` do: a little, or with CHATNEST_SOAK=1 a lot, and tell of it."""

import os
import time

import pytest

SOAKS = os.environ.get("CHATNEST_SOAK") == "1"


def amount(normally: int, soaking: int) -> int:
    return soaking if SOAKS else normally


class Progress:
    """Shows what the parts of a soak have to tell, when each has ended and all at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        lines = [str(value) for name, value in report.user_properties if name == "soak"]
        reporter = self._plugins.get_plugin("terminalreporter")  # it may come after this
        if report.when == "call" and reporter is not None:
            for line in lines or [report.outcome]:
                self._lines.append(f"{report.nodeid.rpartition('::')[2]}: {line}")
                reporter.write_line(f"{time.strftime('%H:%M:%S')} {self._lines[-1]}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("soak")
        for line in sorted(self._lines):
            terminalreporter.write_line(line)
