"""The disk tier: one SQLite index (WAL) of results and links, small values inside it, larger ones as files.

Files are written aside and renamed, checked against their digest when they are read, and large ones read by mmap. Several processes
may share a folder. Whatever goes wrong with the disk, a run goes on without it, and says so; what runs for days tries again later.
"""

from __future__ import annotations

import errno
import logging
import math
import mmap
import os
import queue
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from nodegraph import keys
from nodegraph.ending import STORES, not_when_ending, when_ending
from nodegraph.entries import Entry
from nodegraph.looks import SETTLED, changed_ns
from nodegraph.packing import Packed, Unpackable, unpack
from nodegraph.secret import SALT_FILE

FORMAT = 4
INDEX = "index.sqlite"
INLINE = 4096
"""Packed results up to this many bytes lie in the index itself."""
ROW = 250
"""Bytes of the index that a result takes beside its head and its body: its row, its keys, and a link that leads to it."""
LINKS = 100_000
"""Links beyond four to a result that are kept: other plans may lead to the same few results for ever."""
BATCH = 256
"""Results written in one transaction, at most."""
GATHER = 0.05
"""Seconds that the writer lets results gather, so that it does not contend with the runs that make them: a commit takes as long as
a hundred small nodes, whatever it holds."""
BACKLOG = 64 << 20
"""Bytes of results that wait to be written before those who make more have to wait as well: they are held in memory meanwhile."""
MAPPED = 1 << 20
"""Files of results from so many bytes on are mapped into memory, smaller ones read."""
MAPS = 64
"""Files that are mapped at once, at most: each stays open, and a process may have few hundreds open. Others are read."""
PATIENCE = 20
"""Seconds to wait for another process that writes to the index."""
AGAIN = 60.0
"""Seconds after trouble with the disk until it is tried again; twice as many after each further trouble, up to sixty times."""
LOOKUPS = 64
"""After this many single look-ups the known keys are read at once."""
KNOWN = 1_000_000
"""Keys of a table that are held in memory, at most; where there are more, each is looked up."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB UNIQUE NOT NULL, head BLOB NOT NULL, body BLOB,
    digest BLOB NOT NULL, size INTEGER NOT NULL, seconds REAL NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS links (id INTEGER PRIMARY KEY AUTOINCREMENT, plan BLOB UNIQUE NOT NULL, key BLOB NOT NULL, outside BLOB);
CREATE TABLE IF NOT EXISTS files (device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, digest BLOB NOT NULL,
    PRIMARY KEY (device, inode, size, mtime_ns)) WITHOUT ROWID;
"""
_STRAY = (
    *("results/[0-9a-f][0-9a-f]/*.ng", "results/[0-9a-f][0-9a-f]/*.part"),
    *("checkpoints/*.part", "packs/*.json.*.part", "catalogs/*.json.*.part", f".{SALT_FILE}.*"),
)
"""What a process may leave that is killed while it writes."""
_COLUMNS = "key, head, body, digest, size, seconds, used"
_SIZE = "SELECT coalesce(sum(size), 0) FROM results"
_DROP = "DROP TABLE IF EXISTS results; DROP TABLE IF EXISTS links;"
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What the process or the machine is short of: nothing is wrong with the file."""
_CLOSED = (errno.EACCES, errno.EPERM, errno.ESTALE)
"""Nothing is wrong with the file for those who may read it: it is another user's, or lies behind a network."""
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
log = logging.getLogger("nodegraph.store")


class Store:
    """The disk tier in one folder, bounded by `budget` bytes. Thread-safe; writing happens in a thread of its own.

    `debug`: every write checks that the budget is not passed; if it is, that is trouble with the disk.
    """

    def __init__(self, folder: Path, budget: int, debug: bool = False):
        self.folder, self.budget, self.debug = folder, budget, debug
        self.trouble = ""
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._hurry = threading.Event()
        self._room = threading.Condition()
        self._backlog = 0  # bytes of the results that wait to be written
        self._committed: list[Callable[[bool], None]] = []  # to be told of the next commit
        self._fresh: list[Path] = []  # files whose rows are not committed yet
        self._results = _KnownKeys("results", "key")
        self._links = _KnownKeys("links", "plan")
        self._size = 0
        self._linked = -1  # links that were written here: the first looks whether there are too many
        self._damaged = 0  # results that were found so
        self._unreadable: set[bytes] = set()  # keys of results that others may read: here they are none
        self._seen_version = 0
        self._database: sqlite3.Connection | None = None
        self._pause, self._again = AGAIN, math.inf  # when trouble may be over, by time.monotonic
        self._inode = 0  # of the index
        with self._guard("open"):
            self._open()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # SQLite would make it for its owner alone to write to, whatever the umask lets a group do
            os.close(os.open(self.folder / INDEX, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        database = sqlite3.connect(self.folder / INDEX, timeout=PATIENCE, check_same_thread=False, isolation_level=None)
        database.text_factory = bytes  # there is no text in it: what a damaged one says is text is looked at like all else
        try:
            self._inode = os.stat(self.folder / INDEX).st_ino
            if _version(database) > FORMAT:
                raise OSError(f"the cache is of format {_version(database)}, newer than this nodegraph's {FORMAT}")
            _write_ahead(database)
            database.execute("PRAGMA synchronous=NORMAL")
            if _version(database) != FORMAT:
                database.execute("BEGIN IMMEDIATE")
                if _version(database) != FORMAT:  # another process may have been faster
                    for statement in (_DROP + _SCHEMA).split(";"):  # an older format: a cache may be forgotten, not misread
                        database.execute(statement)
                    database.execute(f"PRAGMA user_version={FORMAT}")
                database.execute("COMMIT")
            self._size = database.execute(_SIZE).fetchone()[0]
        except (sqlite3.Error, OSError, UnicodeDecodeError):
            database.close()
            raise
        self._database = database

    def _is_replaced(self) -> bool:
        try:
            return os.stat(self.folder / INDEX).st_ino != self._inode
        except FileNotFoundError:
            return True

    def _reopen(self) -> None:
        """Under the lock: begin with the folder as it is now. What is written to an index without a name would be lost."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._results.forget()
        self._links.forget()
        self._seen_version = 0
        self._open()

    def _guard(self, doing: str) -> _Guard:
        return _Guard(self, doing)

    def fail(self, doing: str, error: Exception) -> None:
        """Go on without the disk tier, for a while. Said once."""
        with self._lock:
            if not (now := time.monotonic()) < self._again < math.inf:  # or else it is the same trouble, seen by another thread
                self._again, self._pause = now + self._pause, min(2 * self._pause, 60 * AGAIN)
            database, self._database = self._database, None
            if database is not None:
                if not (_is_damage(error) or self._commit(database)):
                    self._drop_fresh()
                with suppress(sqlite3.Error):
                    database.close()  # a transaction left open would keep every other process from writing
            if not self.trouble:
                self.trouble = f"cannot {doing} the cache in {str(self.folder)!r}: {error}"
                if _is_damage(error) and self._index_aside():
                    self.trouble += "; its index is set aside, and whoever comes next begins a new one"
                log.warning("%s; going on without the disk tier", self.trouble)

    def _commit(self, database: sqlite3.Connection) -> bool:
        """Commit what was written before trouble came, each piece of which is whole. Whether that was done."""
        with suppress(sqlite3.Error):
            if database.in_transaction:
                database.execute("COMMIT")
                self._fresh.clear()
        return not self._fresh

    def _drop_fresh(self) -> None:
        """Remove files that no row will tell of: on a full disk they would stay for good."""
        for path in self._fresh:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        self._fresh.clear()

    def _index_aside(self) -> bool:
        """Keep a damaged index for a person to look at, unless another process has done so. Whether that was done."""
        index = self.folder / INDEX
        with suppress(OSError):
            if index.stat().st_ino == self._inode:
                for end in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.replace(f"{index}{end}", f"{index}.damaged{end}")
                return True
        return False

    @staticmethod
    def worth(seconds: float, nbytes: int) -> bool:
        """Whether writing and reading a result back costs clearly less than computing it again."""
        return seconds > 0.02 + nbytes / 100e6

    # -- reading ---------------------------------------------------------------------------------------------------

    def may_have(self, key: bytes) -> bool:
        """False when there is surely no result under a work key. Asks no lock."""
        known = self._results._known  # no further call, as every step asks
        return (known is None or key[:8] in known) and self._database is not None

    def may_link(self, plan_key: bytes) -> bool:
        """False when there is surely no link from a plan key. Asks no lock."""
        known = self._links._known
        return (known is None or plan_key[:8] in known) and self._database is not None

    def get(self, key: bytes) -> Entry | None:
        """The result under a work key, without its values."""
        row = self._row(self._results, "SELECT key, head, size, seconds FROM results WHERE key = ?", key)
        if row is None or key in self._unreadable:
            return None
        entry = None
        with self._guard("read"):
            try:
                kind, ports, idents, outside = unpack(_headed(row))
                entry = Entry(key, kind, tuple(ports), None, tuple(idents), float(row[3]), tuple(outside))
                entry.nbytes, entry.stored = int(row[2]), True
            except (TypeError, ValueError, OverflowError):  # an Unpackable is a TypeError
                entry = None
                self._damaged += 1
                self._discard(key)
        return entry

    def linked(self, plan_key: bytes) -> tuple[bytes, tuple[Any, ...]] | None:
        """The work key that a plan key led to, and the outside values behind it."""
        row = self._row(self._links, "SELECT plan, key, outside FROM links WHERE plan = ?", plan_key)
        if row is None:
            return None
        try:
            return row[1], tuple(unpack(memoryview(row[2]))) if row[2] is not None else ()
        except (ValueError, Unpackable):
            return None

    def _row(self, known: _KnownKeys, query: str, key: bytes) -> Any:
        if self._database is None or known.surely_not(key):
            return None
        found = None
        with self._lock, self._guard("read"):
            if self._database is not None and known.may_have(self._database, key):  # another thread may have given it up
                found = self._database.execute(query, (key,)).fetchone()
        return found if found is not None and found[0] == key else None  # a damaged index leads to the row of another

    def refresh(self) -> None:
        """Notice what other processes have written, that the folder is another one (it may have been removed, or renamed), and that
        trouble with the disk is over."""
        with self._lock, self._guard("open"):
            if self._database is None and time.monotonic() >= self._again:
                self._reopen()
                self.trouble = ""
                log.warning("the cache in %r is used again", str(self.folder))
        with self._lock, self._guard("read"):
            if self._database is not None:
                if not self._database.in_transaction and self._is_replaced():
                    self._reopen()
                version = self._database.execute("PRAGMA data_version").fetchone()[0]  # of what others write
                if version != self._seen_version:
                    self._seen_version = version
                    self._size = self._database.execute(_SIZE).fetchone()[0]
                    self._results.refresh(self._database)
                    self._links.refresh(self._database)

    def read(self, entry: Entry) -> Any:
        """The values of a result, or None when they are gone or damaged (then the result is forgotten)."""
        row = None
        with self._lock, self._guard("read"):
            if self._database is not None:
                row = self._database.execute("SELECT body, digest, key FROM results WHERE key = ?", (entry.key,)).fetchone()
                self._database.execute("UPDATE results SET used = ? WHERE key = ?", (time.time(), entry.key)) if row else None
        if row is None or entry.key is None:
            return None
        try:
            data = memoryview(row[0]) if row[0] is not None else _content(self._path(entry.key))
            if keys.digest(b"record", data) != row[1] or row[2] != entry.key:  # type: ignore[arg-type]
                raise ValueError("the bytes are not those that were written")
            values = unpack(data)
            return tuple(values) if entry.kind == "values" else values
        except (OSError, ValueError, Unpackable) as error:
            if getattr(error, "errno", 0) in _SHORT:
                self.fail("read", error)
                return None
            if getattr(error, "errno", 0) in _CLOSED:
                log.warning("a cached result cannot be read, so it is made again: %s", error)
                self._unreadable.add(entry.key)
                return None
            self._damaged += 1
            log.warning("a cached result is damaged and set aside: %s", error)
            self._set_aside(entry.key)
            return None

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, entry: Entry, plan_key: bytes | None, outside: tuple[Any, ...], sink: bool = False) -> None:
        """Write a result soon, in the writer's thread; waits while very much is to be written. `sink`: let its values go from memory
        after that, or at once."""

        if self._database is None or (sink and self._backlog > BACKLOG):
            if sink:
                entry.values = None
            return
        values, nbytes = entry.values, entry.nbytes  # memory may let them go before they are written

        def write() -> None:
            try:
                self._write(entry, values, plan_key, outside)
            finally:
                if sink:
                    entry.values = None
                self._wait_for_room(-nbytes)

        self._wait_for_room(nbytes)
        self.later(write)

    def _wait_for_room(self, nbytes: int) -> None:
        """Count bytes that wait to be written, or are written; who adds some waits while there are too many."""
        with self._room:
            while nbytes > 0 and self._backlog > BACKLOG and self._database is not None:
                self._room.wait(1.0)
            self._backlog += nbytes
            self._room.notify_all()

    def link(self, plan_key: bytes, key: bytes, outside: tuple[Any, ...]) -> None:
        """Write a link soon."""
        self.later(lambda: self._write_link(plan_key, key, outside))

    def when_written(self, call: Callable[[bool], None]) -> None:
        """Have something told, once, when everything asked for so far was written; False if the disk tier is in trouble."""
        if self._database is None:
            call(False)
        else:
            self._enqueue(lambda: self._committed.append(call))

    def later(self, work: Callable[[], None]) -> None:
        """Do a piece of writing soon, in the writer's thread. Trouble with the disk ends the disk tier."""
        if self._database is not None:
            self._enqueue(work)

    def _enqueue(self, work: Callable[[], None]) -> None:
        if self._writer is None:
            with self._lock:
                if self._writer is None:
                    self._writer = threading.Thread(target=self._write_loop, name="nodegraph-store", daemon=True)
                    self._writer.start()
                    when_ending(self.close, STORES)
        self._queue.put(work)

    def _write_loop(self) -> None:
        """Write what waits, many results in one transaction: a commit costs more than most of them."""
        ended = False
        while not ended:
            works = [self._queue.get()]
            self._hurry.wait(GATHER)
            while len(works) < BATCH and not self._queue.empty():
                works.append(self._queue.get())
            ended = None in works
            self._write_batch([work for work in works if work is not None])

    def _write_batch(self, works: list[Callable[[], None]]) -> None:
        """Do pieces of work in one transaction, and tell those who wait for it. Never raises."""
        written = False
        with self._guard("write to"), self._lock:
            if self._database is not None:
                self._database.execute("BEGIN IMMEDIATE")
        for work in works:
            self._do(work)
        with self._guard("write to"), self._lock:
            if self._database is not None and self._database.in_transaction:
                self._database.execute("COMMIT")
                self._fresh.clear()
                written = True
        calls, self._committed = self._committed, []
        for call in calls:
            self._do(partial(call, written))

    def _do(self, work: Callable[[], None]) -> None:
        try:
            with self._guard("write to"):
                work()
        except Exception:  # a mistake must not end the writer's thread
            log.exception("something was not written to the cache")

    def flush(self) -> None:
        """Wait until everything asked for so far is written."""
        if self._writer is not None and self._writer.is_alive():
            written = threading.Event()
            self.when_written(lambda _: written.set())
            self._hurry.set()
            written.wait()
            self._hurry.clear()

    def _write(self, entry: Entry, values: Any, plan_key: bytes | None, outside: tuple[Any, ...]) -> None:
        if self._database is None or values is None or entry.key is None:
            return
        if not entry.stored:
            try:
                packed = Packed(list(values) if entry.kind == "values" else values)
                head = b"".join(Packed([entry.kind, list(entry.ports), list(entry.idents), list(entry.outside)]).chunks())
                head = keys.digest(b"head", entry.key, head) + head
            except Unpackable as error:
                log.debug("not stored: %s", error)
                return
            except Exception:  # a value of a pack may fail to be packed in any way, which is no trouble of the disk
                log.exception("something was not written to the cache")
                return
            size = packed.size + len(head) + ROW
            if size > self.budget:
                return
            if self._size + size > self.budget:
                self.prune(max(0, int(self.budget * 0.9) - size))
            body, digest = self._write_body(entry.key, packed)
            row = (entry.key, head, body, digest, size, entry.seconds, time.time())
            with self._lock:
                if self._database is None:
                    self._drop_fresh()
                    return
                self._database.execute(f"INSERT OR REPLACE INTO results ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                self._results.add(entry.key)
                self._size += size
                self._unreadable.discard(entry.key)
            entry.stored = True
        if plan_key is not None:
            self._write_link(plan_key, entry.key, outside)
        if self.debug and (held := self.info()["bytes"]) > self.budget:
            self.fail("keep to the budget of", RuntimeError(f"it holds {held} bytes of {self.budget}"))

    def _write_link(self, plan_key: bytes, key: bytes, outside: tuple[Any, ...]) -> None:
        packed = b"".join(Packed(list(outside)).chunks()) if outside else None
        with self._lock:
            if self._database is not None:
                self._database.execute("INSERT OR REPLACE INTO links (plan, key, outside) VALUES (?, ?, ?)", (plan_key, key, packed))
                self._links.add(plan_key)
                self._linked += 1
                if self._linked % LINKS == 0:
                    self._forget_links()

    def _forget_links(self) -> None:
        """Under the lock: when links are many more than results, forget the half that was written first."""
        assert self._database is not None
        links, results = (self._database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("links", "results"))
        if links > 4 * results + LINKS:
            half = "(SELECT id FROM links ORDER BY id LIMIT 1 OFFSET ?)"
            self._database.execute(f"DELETE FROM links WHERE id < {half}", (links // 2,))
            self._links.forget()

    def _write_body(self, key: bytes, packed: Packed) -> tuple[bytes | None, bytes]:
        """Write a packed record: into the index if it is small (returned), otherwise to its file.

        Nothing is synced: what a crash of the whole machine may leave half-written is found by its digest, and is a miss.
        """
        if packed.size <= INLINE:
            body = b"".join(packed.chunks())
            return body, keys.digest(b"record", body)
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        hasher = keys.hasher(b"record")
        hasher.update(packed.size.to_bytes(8, "little"))
        try:
            with open(aside, "wb") as file:
                for chunk in packed.chunks():
                    hasher.update(chunk)
                    file.write(chunk)
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        self._fresh.append(path)
        return None, hasher.digest()

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / "results" / name[:2] / f"{name[2:]}.ng"

    # -- files' digests --------------------------------------------------------------------------------------------

    def file_digest(self, path: Path) -> bytes:
        """The digest of a file, remembered by device, inode, size and time, so that a file of a renamed folder is not read again."""
        stat = path.stat()
        changed = changed_ns(stat)
        name = (stat.st_dev, stat.st_ino, stat.st_size, changed)
        row = None
        with self._lock, self._guard("read"):
            if self._database is not None:
                query = "SELECT digest FROM files WHERE device = ? AND inode = ? AND size = ? AND mtime_ns = ?"
                row = self._database.execute(query, name).fetchone()
        if row:
            return row[0]
        digest = keys.file_digest(path)
        with self._lock, self._guard("write to"):
            # a file changed within the clock's grain could change again without a new time: do not remember it yet
            if self._database is not None and time.time_ns() - changed > SETTLED:
                self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*name, digest))
        return digest

    # -- keeping house ---------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Counts and bytes."""
        facts: dict[str, Any] = {"folder": str(self.folder), "budget": self.budget, "trouble": self.trouble or None}
        with self._lock, self._guard("read"):
            if self._database is not None:
                count, size, seconds = self._database.execute(
                    "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(seconds), 0) FROM results"
                ).fetchone()
                links = self._database.execute("SELECT count(*) FROM links").fetchone()[0]
                facts.update(results=count, bytes=size, seconds_saved_by_each_use=round(seconds, 3), links=links)
        return facts

    def verify(self) -> dict[str, Any]:
        """Read everything back: damaged results are set aside, files without a result removed. Ends early in trouble with the disk."""
        self.refresh()
        whole, before = 0, self._damaged
        for key in self._all_keys():
            entry = self.get(key)  # none where another process has removed it since
            whole += entry is not None and self.read(entry) is not None
        damaged = self._damaged - before
        return {"checked": whole + damaged, "damaged": damaged, "stray_files_removed": self._remove_stray()}

    def _remove_stray(self) -> int:
        """Remove files without a result, which a process leaves that is killed while it writes. Returns how many."""
        names = [path for pattern in _STRAY for path in self.folder.glob(pattern)]
        known = {self._path(key) for key in self._all_keys()}
        if self._database is None:  # nothing is known of any file
            return 0
        removed = 0
        for path in names:
            if path not in known and _old(path):
                with suppress(OSError):  # it is another user's, or a folder: it stays
                    path.unlink()
                    removed += 1
        return removed

    def prune(self, bound: int) -> dict[str, Any]:
        """Remove what saves the least time for its bytes, oldest first among equals, until `bound` bytes are left; and files without
        a result. Ends early in trouble with the disk."""
        removed = freed = stray = 0
        with self._guard("prune"), self._lock:
            if self._database is not None:
                self._database.execute("DELETE FROM results WHERE typeof(key) != 'blob'")  # in a damaged index
                rows = self._database.execute(
                    "SELECT key, coalesce(CAST(size AS INTEGER), 0) FROM results"
                    " ORDER BY seconds / (size + 1000.0) * (1 + 1 / (1 + max(0, ? - used) / 86400)), used",
                    (time.time(),),
                ).fetchall()
                total = sum(size for _, size in rows)
                for key, size in rows:
                    if total - freed <= bound:
                        break
                    self._discard(key)
                    removed, freed = removed + 1, freed + size
                self._database.execute("DELETE FROM links WHERE key NOT IN (SELECT key FROM results)")
                self._results.forget()
                self._links.forget()
                self._size = total - freed
        with self._guard("prune"):
            stray = self._remove_stray()
        return {"removed": removed, "freed": freed, "stray_files_removed": stray}

    def clear(self) -> dict[str, Any]:
        """Remove every result."""
        return self.prune(-1)

    def close(self) -> None:
        """Write what is waiting and close the index."""
        if self._writer is not None:
            self._queue.put(None)
            self._hurry.set()
            self._writer.join()
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
            self._again = math.inf
        not_when_ending(self.close)  # a process that ends meanwhile waits for it too

    def _all_keys(self) -> Iterator[bytes]:
        rows: list[Any] = []
        with self._lock, self._guard("read"):
            if self._database is not None:
                rows = self._database.execute("SELECT key FROM results").fetchall()
        yield from (row[0] for row in rows if row[0].__class__ is bytes)  # none in a damaged index

    def _discard(self, key: bytes) -> None:
        with self._lock:
            if self._database is not None:
                self._database.execute("DELETE FROM results WHERE key = ?", (key,))
        with suppress(OSError):  # of another user: no row tells of it any more
            self._path(key).unlink(missing_ok=True)

    def _set_aside(self, key: bytes) -> None:
        """Keep a damaged file for a person to look at, where it is never read again."""
        path = self._path(key)
        with self._guard("write to"):
            if path.exists():
                path.replace(path.with_suffix(".damaged"))
            self._discard(key)


class _Guard:
    """Turns any trouble with the disk into a run without the disk tier."""

    def __init__(self, store: Store, doing: str):
        self.store, self.doing = store, doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, sqlite3.Error | OSError | UnicodeDecodeError):  # the last from texts of a damaged index
            self.store.fail(self.doing, error)
            return True
        return False


class _KnownKeys:
    """The first bytes of all keys of a table, so that a miss costs no query. Read when single look-ups become many."""

    def __init__(self, table: str, column: str):
        self._query = f"SELECT id, {column} FROM {table} WHERE id > ?"
        self._count = f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT ?)"
        self._known: set[bytes] | None = None
        self._last_row = 0
        self._lookups = 0

    def may_have(self, database: sqlite3.Connection, key: bytes) -> bool:
        if self._known is None:
            self._lookups += 1
            if self._lookups <= LOOKUPS:
                return True
            if database.execute(self._count, (KNOWN + 1,)).fetchone()[0] > KNOWN:
                self._give_up()
                return True
            known: set[bytes] = set()
            self._read(database, known)
            self._known = known  # only when it is whole: `surely_not` looks without a lock
        return key[:8] in self._known

    def surely_not(self, key: bytes) -> bool:
        """Whether a key is known not to be there. Needs no lock: a set only grows until it is forgotten as a whole."""
        known = self._known
        return known is not None and key[:8] not in known

    def add(self, key: bytes) -> None:
        if self._known is not None:
            self._known.add(key[:8])
            if len(self._known) > KNOWN:
                self._give_up()

    def forget(self) -> None:
        """Rows are gone: read those that are left when they are asked for next."""
        self._known, self._last_row = None, 0

    def _give_up(self) -> None:
        """There are too many: look each up, for a long time."""
        self.forget()
        self._lookups = -KNOWN

    def refresh(self, database: sqlite3.Connection) -> None:
        """Notice rows that were added since."""
        if self._known is not None:
            self._read(database, self._known)

    def _read(self, database: sqlite3.Connection, known: set[bytes]) -> None:
        for row, key in database.execute(self._query, (self._last_row,)):
            if key.__class__ is bytes:  # none in a damaged index
                known.add(key[:8])
            self._last_row = row


def _is_damage(error: Exception) -> bool:
    """Whether an error says that the index is not what was written, and not only that it cannot be had now."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # of extended codes, the plain one
    return isinstance(error, UnicodeDecodeError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _version(database: sqlite3.Connection) -> int:
    return database.execute("PRAGMA user_version").fetchone()[0]


def _write_ahead(database: sqlite3.Connection) -> None:
    """Switch to WAL. While another process makes the index, SQLite refuses that at once, where it waits otherwise."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _headed(row: Any) -> memoryview:
    """The head of a row of results: key, and digest and head. Raises ValueError when it is not what was written under this key."""
    raw = memoryview(row[1])
    if keys.digest(b"head", row[0], raw[keys.SIZE :]) != raw[: keys.SIZE]:  # type: ignore[arg-type]
        raise ValueError("the bytes are not those that were written")
    return raw[keys.SIZE :]


def _content(path: Path) -> memoryview:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < MAPPED or len(_maps) >= MAPS:
            return memoryview(file.read())
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _maps.add(mapped)
    return memoryview(mapped)


def _old(path: Path) -> bool:
    """Not being written by another process right now."""
    try:
        return time.time() - path.stat().st_mtime > 60
    except OSError:
        return False
