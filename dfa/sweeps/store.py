"""The store of a sweep: a row in SQLite for each point, written when the point ends."""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from dfa.sweeps.keys import Plain
from dfa.sweeps.protocol import Outcome

__all__ = ["Job", "Row", "Store"]

APPLICATION = 0x4F505553  # "OPUS"
FORMAT = 2
TABLES = """
CREATE TABLE studies (
    model TEXT NOT NULL, description TEXT NOT NULL, id INTEGER PRIMARY KEY, UNIQUE (model, description)
);
CREATE TABLE points (
    key TEXT PRIMARY KEY, study INTEGER NOT NULL REFERENCES studies (id),
    settings TEXT NOT NULL, seed INTEGER NOT NULL,
    metrics TEXT NOT NULL, error TEXT NOT NULL, traceback TEXT NOT NULL,
    seconds REAL NOT NULL, date TEXT NOT NULL, made_with TEXT NOT NULL, attempts INTEGER NOT NULL,
    checksum INTEGER
) WITHOUT ROWID;
"""
CHECKED_COLUMNS = "key, study, settings, seed, metrics, error, traceback, seconds, date, made_with, attempts"
"""Columns of a point that its checksum covers: all other columns."""
WAITS = 10
"""Time from one wait for the disk to the next, in units of its duration."""


@dataclass(frozen=True)
class Job:
    """A point to compute."""

    key: str
    settings: dict[str, Plain]
    seed: int


@dataclass(frozen=True)
class Row:
    """A stored point."""

    metrics: dict[str, float]
    error: str
    seconds: float
    date: str
    made_with: str


class Store:
    """Rows in a file, or in memory if `path` is None; one process at a time uses the file.

    Raises
    ------
    ValueError
        If the file is not a store, is damaged or of another format, is in use, or its folder cannot be written.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path, self.due_s = Path(path).expanduser() if path is not None else None, 0.0
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self.rows = sqlite3.connect(self.path or ":memory:", timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"store must be a file that can be written, got {path} ({error})") from None
        try:
            self.open()
        except (sqlite3.Error, UnicodeError) as error:
            self.rows.close()
            if "locked" in str(error):
                raise ValueError(
                    f"store must be free, got {path}, which another sweep is using, or whose folder has no locks: "
                    "wait for it, or name a store on a local disk"
                ) from None
            reason = " ".join(str(error).split())  # SQLite quotes a damaged schema with its lines
            raise ValueError(
                f"store must be an undamaged file of sweep results, got {path} ({reason}): the file is not changed, "
                "name another store"
            ) from None
        except BaseException:
            self.rows.close()
            raise

    def open(self) -> None:
        """Lock the file for this process, and create or check its tables."""
        run = self.rows.execute
        self.rows.create_function("row_sum", -1, row_sum, deterministic=True)
        run("PRAGMA locking_mode = EXCLUSIVE")  # the system frees the lock when the process ends, killed or not
        run("BEGIN EXCLUSIVE")  # before the first read or change
        new = not run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = (run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0])
        if not new and found[0] != APPLICATION:
            raise ValueError(f"store must be a file of sweep results, got {self.path}, another program's database")
        if not new and found[1] != FORMAT:
            raise ValueError(f"store must be of format {FORMAT}, got {self.path}, which is of format {found[1]}")
        if new:
            for statement in filter(str.strip, TABLES.split(";")):
                run(statement)
            run(f"PRAGMA application_id = {APPLICATION}")
            run(f"PRAGMA user_version = {FORMAT}")
        run("COMMIT")
        run("PRAGMA journal_mode = WAL")
        health = run("PRAGMA quick_check(1)").fetchone()[0]
        if health != "ok":
            raise sqlite3.DatabaseError(" ".join(health.split()))
        for (key,) in run(f"SELECT key FROM points WHERE checksum IS NOT row_sum({CHECKED_COLUMNS}) LIMIT 1"):
            raise sqlite3.DatabaseError(f"point {key:.12} has a wrong checksum")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rows.close()

    def study(self, model: str, description: str) -> int:
        """Return the number of a study, a new one if the study is not in the store."""
        given = (model, description)
        self.rows.execute("INSERT OR IGNORE INTO studies (model, description) VALUES (?, ?)", given)
        found = self.rows.execute("SELECT id FROM studies WHERE model = ? AND description = ?", given)
        return found.fetchone()[0]

    def put(self, study: int, job: Job, outcome: Outcome) -> None:
        """Write the outcome of a point; it replaces an earlier one that failed.

        A point that is written survives the death of this process. The disk is waited for during a tenth of the time at
        most, so that a loss of power may cost the last points, those of some 20 s on a disk that takes 2 s for each.
        """
        given = {
            "key": job.key,
            "study": study,
            "settings": json.dumps(job.settings),
            "seed": job.seed,
            "metrics": json.dumps(outcome.metrics),  # the shortest digits that give the same float; NaN stays NaN
            "error": outcome.error,
            "traceback": outcome.traceback,
            "seconds": outcome.seconds,
            "date": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "made_with": outcome.made_with,
        }
        run = self.rows.execute
        if self.path is not None and not self.path.exists():
            raise OSError(f"{self.path} was deleted during the sweep: its points are lost, run the same sweep again")
        try:
            start = time.monotonic()
            wait = start >= self.due_s
            run(f"PRAGMA synchronous = {'FULL' if wait else 'NORMAL'}")
            run("BEGIN")
            run(
                f"INSERT INTO points ({', '.join(given)}, attempts) "
                f"VALUES ({', '.join(f':{name}' for name in given)}, 1) "
                "ON CONFLICT (key) DO UPDATE SET metrics = excluded.metrics, error = excluded.error, "
                "traceback = excluded.traceback, seconds = excluded.seconds, date = excluded.date, "
                "made_with = excluded.made_with, attempts = attempts + 1 WHERE error != ''",
                given,
            )
            run(f"UPDATE points SET checksum = row_sum({CHECKED_COLUMNS}) WHERE key = ?", (job.key,))
            run("COMMIT")
            if wait:
                self.due_s = start + WAITS * (time.monotonic() - start)
        except sqlite3.Error as error:
            raise OSError(
                f"{self.path} cannot be written ({error}): earlier points are kept; make room and run the same sweep "
                "again"
            ) from None

    def find(self, keys: Iterable[str]) -> dict[str, Row]:
        """Return the rows of the points that are stored, by key."""
        found = {}
        for key in keys:
            query = "SELECT metrics, error, seconds, date, made_with FROM points WHERE key = ?"
            for metrics, *others in self.rows.execute(query, (key,)):
                found[key] = Row(json.loads(metrics), *others)
        return found


def row_sum(*values: str | float) -> int:
    """Return the checksum of the values of a row."""
    return zlib.crc32(json.dumps(values).encode())
