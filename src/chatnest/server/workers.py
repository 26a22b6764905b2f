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
"""Without a word of a worker, and it is killed, with all of its streams. A machine that does much
else may well give it nothing for a few of them.
"""


class Workers(Multiprocess):
    """uvicorn's supervisor, which takes its time for slow starts, and none for slow ends."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], door: socket.socket
    ) -> None:
        config.timeout_worker_healthcheck = _HANGS_SECONDS
        super().__init__(config, sockets)
        self._door = door
        self._asked: WeakKeyDictionary[Process, float] = WeakKeyDictionary()  # when it was, first

    def keep_subprocess_alive(self) -> None:
        """Called twice a second. uvicorn's asks each worker, waits for its word and kills it where
        none comes. One that is still starting has none: it is not waited for, so that signals are
        heard meanwhile, and an end is noticed.
        """
        runs = {each: each.process.is_alive() for each in self.processes}
        if not all(runs.values()) or all(self._has_begun(each) for each in self.processes):
            super().keep_subprocess_alive()
        for each in runs.keys() - set(self.processes):
            why = "did not answer" if runs[each] else f"ended with status {each.exitcode}"
            _log.warning("worker %s %s: there is another in its place", each.pid, why)

    def _has_begun(self, worker: Process) -> bool:
        """Or should have, long ago."""
        now = time.monotonic()
        if worker not in self._asked:
            self._asked[worker] = now
            worker.parent_conn.send(b"ping")
        elif worker.parent_conn.poll():  # its word may stay there, for whoever asks next
            self._asked[worker] = -inf
        return now - self._asked[worker] > _HANGS_SECONDS

    def terminate_all(self) -> None:
        """Called once, at the end. uvicorn's keeps a socket of its own open until the last worker
        has ended: who connects meanwhile would wait for nobody.
        """
        for each in (*self.sockets, self._door):
            each.close()
        super().terminate_all()
