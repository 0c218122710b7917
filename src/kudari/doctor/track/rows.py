"""Which rows every model was trained on, and how many of them an evaluation met again."""

from __future__ import annotations

import random
from typing import Any

import torch

from kudari.doctor.observe.stream import Stream
from kudari.doctor.track.calls import Call, Root

MAX_ROWS = 200_000
MAX_COLUMNS = 256
MAX_HASHED_PASSES = 10
# Training rows are hashed until this many calls in a row bring no new one.
QUIET_CALLS = 12
MAX_HASHED_CALLS = 4000


class RowBook:
    """The training rows of one model, by hash.

    Attributes:
        seen: hashes of all rows.
        given: rows of all training calls, hashed or not.
        hashed: rows that were hashed, the same row as often as it came.
        repeated: rows that came twice in one batch.
        discrete: all values are whole numbers, so that equal rows may be no copies of each other.
    """

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.given = self.hashed = self.repeated = 0
        self.calls = self.quiet_calls = 0
        self.discrete = True

    @property
    def closed(self) -> bool:
        """True when training has stopped to bring new rows."""
        return self.quiet_calls >= QUIET_CALLS

    def adds(self, hashes: list[int], discrete: bool) -> None:
        """A training batch."""
        before, batch = len(self.seen), set(hashes)
        self.seen |= batch
        self.hashed += len(hashes)
        self.repeated += len(hashes) - len(batch)
        self.discrete = self.discrete and discrete
        self.calls += 1
        self.quiet_calls = 0 if len(self.seen) > before else self.quiet_calls + 1


class RowTracker:
    """The rows of every model."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.books: dict[int, RowBook] = {}
        self._constants: dict[int, Any] = {}
        self._last: set[int] = set()

    def called(self, call: Call, root: Root, x: Any) -> None:
        """A model was called with ``x`` first."""
        book = self.books.get(root.key)
        training = call.grad and call.training
        if training and x.dim() > 1:
            book = book or self.books.setdefault(root.key, RowBook())
            book.given += x.shape[0]
            if book.closed:
                return
        if book is None or x.device.type != "cpu" or x.dim() < 2 or x.numel() < 2:
            return
        if training:
            if book.calls <= MAX_HASHED_CALLS and len(book.seen) <= MAX_ROWS:
                hashes, discrete = self._hash(x, book.discrete)
                self._last = set(hashes)
                book.adds(hashes, discrete)
        elif not call.grad and root.current is not None and len(root.passes) < MAX_HASHED_PASSES:
            hashes, _ = self._hash(x, False)
            if book.calls and not self._last.issuperset(hashes):  # else a score of the batch just trained on
                current = root.current
                current.rows_hashed += len(hashes)
                current.rows_seen += sum(h in book.seen for h in hashes)
                current.row_keys.update(hashes if len(current.row_keys) < MAX_ROWS else ())

    def epochs(self) -> int:
        """How often the training rows were gone through; 0 where nobody knows."""
        return max((round(b.given / len(b.seen)) for b in self.books.values() if b.seen), default=0)

    def _hash(self, x: Any, ask_discrete: bool) -> tuple[list[int], bool]:
        self.stream.quiet += 1
        try:
            flat = x.detach().reshape(x.shape[0], -1)
            if flat.shape[1] > MAX_COLUMNS:
                flat = flat[:, :: flat.shape[1] // MAX_COLUMNS]
            discrete = ask_discrete
            if flat.is_floating_point():
                flat = flat.float().contiguous()
                discrete = discrete and bool((flat == flat.round()).all())
                flat = flat.view(torch.int32)
            width = flat.shape[1]
            constants = self._constants.get(width)
            if constants is None:
                generator = random.Random(width)  # noqa: S311 - a hash, private so the script's stream is untouched
                constants = torch.tensor([generator.getrandbits(40) | 1 for _ in range(width)])
                self._constants[width] = constants
            hashes: list[int] = (flat.long() * constants).sum(1).tolist()
            return hashes, discrete
        finally:
            self.stream.quiet -= 1
