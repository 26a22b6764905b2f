"""Workers: the processes of ``chatnest serve --workers``, and their parent, which replaces them."""

import logging
import socket
import time
from math import inf
from typing import Final
from weakref import WeakKeyDictionary

import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess, Process

__all__ = ["Workers"]

_log = logging.getLogger("chatnest.cli")

_HANGS_SECONDS: Final = 60
"""Seconds without an answer after which a worker is killed, with all of its streams. On a busy
machine a healthy worker may be silent for a few seconds.
"""


class Workers(Multiprocess):
    """uvicorn's supervisor, patient with slow starts. At the end it closes its sockets at once."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], door: socket.socket
    ) -> None:
        config.timeout_worker_healthcheck = _HANGS_SECONDS
        super().__init__(config, sockets)
        self._door = door
        self._pinged: WeakKeyDictionary[Process, float] = WeakKeyDictionary()  # time of first ping

    def keep_subprocess_alive(self) -> None:
        """Replace workers that ended or do not answer. uvicorn calls this twice a second.

        uvicorn's method pings each worker, waits for the answer, and kills a silent worker. A
        worker that is still starting cannot answer, so the call is skipped: the supervisor stays
        responsive to signals and notices a worker that ended.
        """
        runs = {each: each.process.is_alive() for each in self.processes}
        if not all(runs.values()) or all(self._has_started(each) for each in self.processes):
            super().keep_subprocess_alive()
        for each in runs.keys() - set(self.processes):
            cause = "no answer" if runs[each] else f"exit status {each.exitcode}"
            _log.warning("worker replaced: worker=%s cause=%s", each.pid, cause)

    def _has_started(self, worker: Process) -> bool:
        """Return whether a worker has answered a ping, or had `_HANGS_SECONDS` to do so."""
        now = time.monotonic()
        if worker not in self._pinged:
            self._pinged[worker] = now
            worker.parent_conn.send(b"ping")
        elif worker.parent_conn.poll():  # leave the answer for uvicorn's next ping
            self._pinged[worker] = -inf
        return now - self._pinged[worker] > _HANGS_SECONDS

    def terminate_all(self) -> None:
        """Close the sockets and end all workers. uvicorn calls this once, at the end.

        uvicorn's method would keep the sockets open until the last worker has ended, so new
        connections would wait without a server.
        """
        for each in (*self.sockets, self._door):
            each.close()
        super().terminate_all()
