"""Replace attributes and put every one of them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.compiler import is_compiling

_ABSENT = object()


class Patcher:
    """Keeps what it replaced; :meth:`restore` puts it back in reverse order, also after an exception."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []
        self._removers: list[Callable[[], None]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.name`` by ``make(original)``; does nothing where the name does not exist."""
        original = getattr(owner, name, _ABSENT)
        if original is _ABSENT:
            return
        self._undo.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, make(original))

    def remove_later(self, handle: Any) -> None:
        """Call ``handle.remove()`` on restore, for hooks that torch hands out."""
        self._removers.append(handle.remove)

    def restore(self) -> None:
        """Put everything back."""
        while self._undo:
            owner, name, own = self._undo.pop()
            if own is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, own)
        while self._removers:
            self._removers.pop()()


def is_traced() -> bool:
    """True while torch.compile traces or torch.func transforms: tensors there have no values to look at.

    Asked first everywhere: what a compiler traces must not depend on the doctor's state.
    """
    return is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
