"""What and where many tensors are, asked in one compiled loop instead of several Python calls for each.

A Python call such as ``Tensor.data_ptr`` takes some 50 ns a tensor, and twice that where the tensor has left
the cache, as it waits for memory at one place after another. torch exports the same questions as C functions
with a stable interface, for code that is compiled at run time; a loop around them takes a fifth.

They want the address of C++'s tensor, which torch keeps in the Python object right behind its header. That is
looked at before it is believed, and where it does not hold there are no loops. Objects of any class but
``Tensor`` and ``Parameter`` end a loop. It runs under the interpreter's lock, and touches Python's objects
through functions of Python's stable interface.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kudari.compile.cpu import machine_code

# The code knows no addresses of this process, so that it can lie on disk: `table` has them, in this order.
_OF_PYTHON = ("PyList_GetItem", "PyDict_GetItem", "PyObject_Type", "Py_DecRef")
_OF_TORCH = ("get_layout", "get_dtype", "is_contiguous", "get_numel", "get_data_ptr")
_WORDS = (*_OF_PYTHON, *_OF_TORCH, "tensor", "parameter", "header", "strided")


def _load(*names: str) -> str:
    """Load words of the table."""
    lines = []
    for name in names:
        lines.append(f"  %{name}.p = getelementptr ptr, ptr %table, i64 {_WORDS.index(name)}")
        lines.append(f"  %{name} = load ptr, ptr %{name}.p")
    return "\n".join(lines)


def _ask(name: str, kind: str, wanted: str) -> str:
    """Ask torch something, and leave the loop if the answer is another than the wanted one."""
    return f"""
  %{name}.place = getelementptr i64, ptr %room, i64 {_OF_TORCH.index(name)}
  %{name}.error = call i32 %{name}(ptr %handle, ptr %{name}.place)
  %{name}.now = load {kind}, ptr %{name}.place
  %{name}.fine = icmp eq i32 %{name}.error, 0
  %{name}.same = icmp eq {kind} %{name}.now, {wanted}
  %{name}.good = and i1 %{name}.fine, %{name}.same
  br i1 %{name}.good, label %{name}.passed, label %done
{name}.passed:"""


def _prefetch(name: str, lines: int) -> str:
    """Ask the memory for what will be looked at later, without waiting for it."""
    calls = []
    for i in range(lines):
        calls.append(f"  %{name}.line{i} = getelementptr i8, ptr %{name}, i64 {64 * i}")
        calls.append(f"  call void @llvm.prefetch.p0(ptr %{name}.line{i}, i32 0, i32 3, i32 1)")
    return "\n".join(calls)


# Over the first n of something; the body goes on to `next`, or ends the loop by `done`.
_LOOP = """entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
next:
  %i.next = add i64 %i, 1
  br label %loop
done:
  ret i64 %i"""
# `find` and `find_under` collect the objects, then look where C++'s tensors are, then ask: so memory is
# waited for at many places at once. Both return how many tensors they got through.
_TEXT = f"""
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

define internal ptr @handle_of(ptr %table, ptr %object) {{
entry:
{_load("PyObject_Type", "Py_DecRef", "tensor", "parameter", "header")}
  %some = icmp ne ptr %object, null
  br i1 %some, label %look, label %none
look:
  %class = call ptr %PyObject_Type(ptr %object)
  call void %Py_DecRef(ptr %class)
  %is.tensor = icmp eq ptr %class, %tensor
  %is.parameter = icmp eq ptr %class, %parameter
  %known = or i1 %is.tensor, %is.parameter
  br i1 %known, label %found, label %none
found:
  %offset = ptrtoint ptr %header to i64
  %handle = getelementptr i8, ptr %object, i64 %offset
  ret ptr %handle
none:
  ret ptr null
}}

define internal i64 @approach(ptr %table, ptr %objects, i64 %n) {{
{_LOOP}
body:
  %object.p = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %object.p
  %handle = call ptr @handle_of(ptr %table, ptr %object)
  %known = icmp ne ptr %handle, null
  br i1 %known, label %go, label %done
go:
  store ptr %handle, ptr %object.p
  %tensor = load ptr, ptr %handle
{_prefetch("tensor", 4)}
  br label %next
}}

define internal i64 @ask(ptr %table, i1 %strict, i64 %dtype, ptr %sizes, ptr %handles, ptr %found, i64 %n) {{
start:
  %room = alloca i64, i64 {len(_OF_TORCH)}
{_load(*_OF_TORCH, "strided")}
  %layout.wanted = ptrtoint ptr %strided to i32
  %dtype.wanted = trunc i64 %dtype to i32
  br label %entry
{_LOOP}
body:
  %handle.p = getelementptr ptr, ptr %handles, i64 %i
  %handle = load ptr, ptr %handle.p
{_ask("get_layout", "i32", "%layout.wanted")}
  br i1 %strict, label %more.questions, label %where
more.questions:
{_ask("get_dtype", "i32", "%dtype.wanted")}
{_ask("is_contiguous", "i8", "1")}
  %size.p = getelementptr i64, ptr %sizes, i64 %i
  %size = load i64, ptr %size.p
{_ask("get_numel", "i64", "%size")}
  br label %where
where:
  %place = getelementptr i64, ptr %found, i64 %i
  %error = call i32 %get_data_ptr(ptr %handle, ptr %place)
  %fine = icmp eq i32 %error, 0
  br i1 %fine, label %next, label %done
}}

define internal void @collect(ptr %table, ptr %key, ptr %list, ptr %objects, i64 %n) {{
start:
{_load("PyList_GetItem", "PyDict_GetItem")}
  %direct = icmp eq ptr %key, null
  br label %entry
{_LOOP.replace("ret i64 %i", "ret void")}
body:
  %item = call ptr %PyList_GetItem(ptr %list, i64 %i)
  br i1 %direct, label %keep, label %look
look:
  %value = call ptr %PyDict_GetItem(ptr %item, ptr %key)
  br label %keep
keep:
  %object = phi ptr [ %item, %body ], [ %value, %look ]
{_prefetch("object", 1)}
  %place = getelementptr ptr, ptr %objects, i64 %i
  store ptr %object, ptr %place
  br label %next
}}

define i64 @find(ptr %table, ptr %list, i64 %dtype, ptr %sizes, ptr %handles, ptr %found, i64 %n) {{
  call void @collect(ptr %table, ptr null, ptr %list, ptr %handles, i64 %n)
  %known = call i64 @approach(ptr %table, ptr %handles, i64 %n)
  %passed = call i64 @ask(ptr %table, i1 1, i64 %dtype, ptr %sizes, ptr %handles, ptr %found, i64 %known)
  ret i64 %passed
}}

define i64 @find_under(ptr %table, ptr %key, ptr %list, ptr %handles, ptr %found, i64 %n) {{
  call void @collect(ptr %table, ptr %key, ptr %list, ptr %handles, i64 %n)
  %known = call i64 @approach(ptr %table, ptr %handles, i64 %n)
  %passed = call i64 @ask(ptr %table, i1 0, i64 0, ptr null, ptr %handles, ptr %found, i64 %known)
  ret i64 %passed
}}
"""


class Addresses:
    """Rows of addresses, each of as many tensors.

    Args:
        rows: how many rows.
        sizes: how many elements each tensor of a row has.

    Attributes:
        table: int64 (rows, tensors).
    """

    def __init__(self, loops: Loops, rows: int, sizes: list[int]) -> None:
        self.table = np.zeros((rows, len(sizes)), dtype=np.int64)
        self._loops, self._sizes, self._count = loops, np.array(sizes, dtype=np.int64), len(sizes)
        self._handles = np.zeros(len(sizes), dtype=np.int64)
        arrays = (self.table, self._sizes, self._handles, loops.table)
        self._at, self._sizes_at, self._handles_at, self._words = (a.ctypes.data for a in arrays)

    def find(self, row: int, tensors: list[Any], dtype: int) -> bool:
        """Write a row: where the tensors of a list lie.

        Args:
            row: which.
            tensors: as many as a row has.
            dtype: as torch numbers them; see :meth:`Loops.number`.

        Returns:
            Whether all have it, are contiguous and have as many elements as they should.
        """
        place = self._at + 8 * self._count * row
        room = (self._sizes_at, self._handles_at, place, self._count)
        return bool(self._loops.find(self._words, tensors, dtype, *room) == self._count)

    def find_under(self, row: int, key: str, dicts: list[Any]) -> bool:
        """Write a row: where the tensors lie that plain dicts have under a key; False if one has none."""
        place = self._at + 8 * self._count * row
        room = (self._handles_at, place, self._count)
        return bool(self._loops.find_under(self._words, key, dicts, *room) == self._count)


class Loops:
    """The compiled loops.

    Raises:
        AttributeError, OSError: this torch or Python has not what they call.
        RuntimeError: LLVM cannot compile them.
    """

    def __init__(self) -> None:
        name = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")
        # Already in the process: this only finds it.
        mode = getattr(os, "RTLD_NOLOAD", 0) | ctypes.DEFAULT_MODE
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name), mode=mode)
        functions = [getattr(ctypes.pythonapi, name) for name in _OF_PYTHON]
        functions += [getattr(library, f"aoti_torch_{name}") for name in _OF_TORCH]
        words = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions]
        words += [
            id(Tensor),
            id(torch.nn.Parameter),
            object.__basicsize__,
            library.aoti_torch_layout_strided(),
        ]
        self.table: npt.NDArray[np.int64] = np.array(words, dtype=np.int64)
        self._get_dtype = library.aoti_torch_get_dtype
        self._library, _ = machine_code(_TEXT, "addresses", ("find", "find_under"))
        at, count, one = ctypes.c_void_p, ctypes.c_int64, ctypes.py_object
        find = ctypes.PYFUNCTYPE(count, at, one, count, at, at, at, count)
        self.find: Any = find(self._library["find"])
        under = ctypes.PYFUNCTYPE(count, at, one, one, at, at, count)
        self.find_under: Any = under(self._library["find_under"])

    def number(self, dtype: torch.dtype) -> int:
        """torch's number of a dtype."""
        sample, found = torch.empty(0, dtype=dtype, device="cpu"), ctypes.c_int32()
        self._get_dtype(ctypes.c_void_p(id(sample) + object.__basicsize__), ctypes.byref(found))
        return found.value


@functools.cache
def loops() -> Loops | None:
    """The loops, tried before they are trusted; None where there cannot be any.

    Example:
        >>> x, here = torch.zeros(4), loops()
        >>> found = None if here is None else Addresses(here, 1, [4, 3])
        >>> found is None or found.find(0, [x, x[1:]], here.number(x.dtype))
        True
        >>> found is None or (found.table - x.data_ptr()).tolist()
        [[0, 4]]
    """
    if not _behind_the_header():
        return None
    try:
        made = Loops()
    except (AttributeError, OSError, RuntimeError):
        return None
    return made if _tells_the_truth(made) else None


def _behind_the_header() -> bool:
    """Whether a tensor's Python object has C++'s tensor, which is one address, right behind its header."""
    header = object.__basicsize__
    if header + 8 > Tensor.__basicsize__:
        return False
    whole = torch.zeros(3, device="cpu")
    some = (whole, whole[1:], torch.nn.Parameter(whole), torch.zeros((), dtype=torch.int8, device="meta"))
    return all(ctypes.c_int64.from_address(id(x) + header).value == x._cdata for x in some)


def _tells_the_truth(made: Loops) -> bool:
    """Whether the loops know what Python knows."""
    whole = torch.zeros((2, 3), device="cpu")
    part, turned, number = torch.nn.Parameter(whole[1:]), whole.t(), made.number(whole.dtype)
    found = Addresses(made, 2, [6, 3])
    every = found.find(0, [whole, part], number) and found.find_under(1, "a", [{"a": part}, {"a": turned}])
    told = found.table.tolist() == [[x.data_ptr() for x in row] for row in ((whole, part), (part, turned))]
    wrong = (whole[0], turned, whole.double(), None)
    others = [found.find(0, [x, part], number) for x in wrong]
    others += [found.find_under(0, "a", [{"a": whole}, x]) for x in ({"b": whole}, {"a": 1.0})]
    return every and told and not any(others)
