"""When which fault strikes: drawn from the seed, every kind once before any comes again."""

from __future__ import annotations

import random
import threading
import time

from tests.chaos.storm.faults import SHARED, Kind, Scene, deck
from tests.chaos.storm.journal import Journal
from tests.chaos.storm.settings import Piece
from tests.chaos.storm.system import Served

MOST_WORK = "worker-evaluate"  # the group that also serves the tests' own stage


class Weather:
    """Strikes until the piece is over; `run` returns when the last fault has ended."""

    def __init__(self, system: Served, piece: Piece, journal: Journal) -> None:
        self.system, self.piece, self.journal = system, piece, journal
        self.draw = random.Random(f"faults {piece.seed}")
        self.struck: set[str] = set()  # parts that a fault is on
        self.changed = threading.Condition()
        self.threads: list[threading.Thread] = []
        # a fault that could not be made is an error of the storm
        self.broken: list[BaseException] = []
        self.count = 0

    def run(self) -> None:
        """Draw and strike.

        Raises:
            RuntimeError: a fault could not be made.
        """
        until = (
            time.monotonic() + 60 * self.piece.minutes if self.piece.minutes is not None else None
        )
        rounds, cards = 0, list[Kind]()
        while until is None or time.monotonic() < until:
            if not cards:
                if rounds == self.piece.rounds:
                    break
                rounds, cards = rounds + 1, deck(self.piece.store)
                self.draw.shuffle(cards)
            if chosen := self._choose(cards):
                self._strike(*chosen)
                time.sleep(self.draw.uniform(*self.piece.pace.fault_gap_s))
            else:
                with self.changed:
                    self.changed.wait(timeout=0.5)
            if self.broken:
                break
        for thread in self.threads:
            thread.join()
        self._set_the_clock_right()
        if self.broken:
            raise RuntimeError("a fault could not be made") from self.broken[0]

    def _choose(self, cards: list[Kind]) -> tuple[Kind, str, set[str]] | None:
        """The first card that can be played now, whom it strikes, and the parts that it takes."""
        for n, kind in enumerate(cards):
            if (taken := self._free(kind)) is not None:
                return cards.pop(n), *taken
            if kind.on in ("everything", "fleet") and not self.struck & {"redis", "store"}:
                return None  # others wait until it has been played, or it never would be
        return None

    def _free(self, kind: Kind) -> tuple[str, set[str]] | None:
        with self.changed:
            struck = set(self.struck)
        if kind.on == "worker":
            # one that is up: who is killed while he starts, again and again, never works
            up = [w for w in self.system.workers if w not in struck and self.system.lease(w)]
            if not up:
                return None
            (worker,) = self.draw.choices(up, [3 if w.startswith(MOST_WORK) else 1 for w in up])
            return worker, {worker}
        if kind.on == "fleet":
            workers = set(self.system.workers)
            return (
                ("", workers)
                if not workers & struck and all(map(self.system.lease, workers))
                else None
            )
        if kind.on == "everything":
            return ("", set(self.system.names) | {"store"}) if not struck else None
        if kind.on in SHARED:
            return ("", {"redis", "store"}) if not {"redis", "store"} & struck else None
        return ("", {kind.on}) if kind.on not in struck else None

    def _strike(self, kind: Kind, worker: str, parts: set[str]) -> None:
        with self.changed:
            self.struck |= parts
        self.count += 1
        scene = Scene(
            self.system,
            self.piece.pace,
            random.Random(f"fault {self.piece.seed} {self.count}"),
            worker,
        )
        thread = threading.Thread(target=self._make, args=(kind, scene, parts), name=kind.name)
        self.threads.append(thread)
        thread.start()

    def _make(self, kind: Kind, scene: Scene, parts: set[str]) -> None:
        began = time.time()
        try:
            kind.strike(scene)
        except BaseException as error:
            self.broken.append(error)
        finally:
            self.journal.note(
                "fault", kind=kind.name, on=kind.on, worker=scene.worker, note=scene.note, may_charge=kind.may_charge,
                began=began, ended=time.time(),
            )  # fmt: skip
            with self.changed:
                self.struck -= parts
                self.changed.notify_all()

    def _set_the_clock_right(self) -> None:
        store = self.system.store
        if getattr(store, "offset", 0):
            step = Kind(
                "PostgreSQL's clock stepped by an hour", "store", lambda s: s.postgres.set_clock(0)
            )
            self._make(
                step,
                Scene(self.system, self.piece.pace, self.draw, note="back to the right time"),
                set(),
            )
