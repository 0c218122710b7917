"""Everything the doctor replaces while it watches, in one table per kind of call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.compiler import is_compiling
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer
from torch.utils import data as torch_data

from kudari.doctor.observe.functions import watch_functions
from kudari.doctor.observe.patching import Patcher, is_traced
from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import user_site
from kudari.doctor.track.backwards import Backward
from kudari.doctor.track.resting import Rest
from kudari.doctor.track.roots import RootTracker

LOSSES = (
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
)


def install(stream: Stream, roots: RootTracker, rest: Rest) -> Patcher:
    """Put every patch in place; the patcher that is returned takes them out again."""
    patcher = Patcher()
    try:
        for kind in (_losses, _schedulers, _loading, _loaders, watch_functions, _ddp):
            kind(patcher, stream)
        for resting in (_optimizers, _backward, _clips, _scalers):
            resting(patcher, stream, rest)
        _root_calls(patcher, stream, roots, rest)
    except BaseException:
        patcher.restore()
        raise
    return patcher


def _optimizers(patcher: Patcher, stream: Stream, rest: Rest) -> None:
    def built(original: Any) -> Any:
        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(self, *args, **kwargs)
            stream.emit("optimizer_built", self, user_site())

        return __init__

    patcher.replace(torch_optimizer.Optimizer, "__init__", built)

    def begins(optimizer: Any, args: Any, kwargs: Any) -> None:
        stream.in_step.append(optimizer)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")  # args[0] is the optimizer
        if stream.resting and stream.guard(rest.step_begins, optimizer, closure is not None):
            return
        stream.emit("step_begins", optimizer, closure is not None)

    def ends(optimizer: Any, args: Any, kwargs: Any) -> None:
        if stream.in_step:
            stream.in_step.pop()
        if stream.resting:
            stream.guard(rest.step_ends, optimizer)
        else:
            stream.emit("step_ends", optimizer)

    patcher.remove_later(torch_optimizer.register_optimizer_step_pre_hook(begins))
    patcher.remove_later(torch_optimizer.register_optimizer_step_post_hook(ends))


def _backward(patcher: Patcher, stream: Stream, rest: Rest) -> None:
    def wrap(original: Any) -> Any:
        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if stream.quiet or stream.in_backward or stream.is_over():
                return original(tensors, *args, **kwargs)
            site = user_site()
            full = not stream.resting or not stream.guard(rest.backward, site, tensors)
            event = Backward(tensors, site, stream.tick, bool(stream.in_step), kwargs.get("inputs"))
            if full:
                stream.emit("backward_begins", event, tensors)
            stream.in_backward += 1
            try:
                original(tensors, *args, **kwargs)
            finally:
                stream.in_backward -= 1
            if full:
                stream.emit("backward_ends", event)
            return None

        return backward

    patcher.replace(torch.autograd, "backward", wrap)


def _losses(patcher: Patcher, stream: Stream) -> None:
    functional = nn.functional

    def make(name: str) -> Callable[[Any], Any]:
        def wrap(original: Any) -> Any:
            @functools.wraps(original)
            def loss(input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
                if is_traced():
                    return original(input, target, *args, **kwargs)
                if stream.quiet or not isinstance(input, torch.Tensor):
                    return original(input, target, *args, **kwargs)
                if stream.resting and input.requires_grad and torch.is_grad_enabled():
                    try:
                        return original(input, target, *args, **kwargs)
                    except Exception:
                        stream.emit("loss_called", name, user_site(), input, target, args, kwargs, None)
                        raise
                site, value = user_site(), None
                stream.quiet += 1  # cross_entropy may call nll_loss
                try:
                    value = original(input, target, *args, **kwargs)
                finally:
                    stream.quiet -= 1
                    stream.emit("loss_called", name, site, input, target, args, kwargs, value)
                return value

            return loss

        return wrap

    for name in LOSSES:
        patcher.replace(functional, name, make(name))


def _clips(patcher: Patcher, stream: Stream, rest: Rest) -> None:
    def wrap(original: Any) -> Any:
        @functools.wraps(original)
        def clip(parameters: Any, limit: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(parameters, torch.Tensor):
                params = [parameters]
            else:
                params = parameters = list(parameters)
            if stream.resting:
                rest.clipped()
            else:
                stream.emit("clipped", params, limit, user_site())
            return original(parameters, limit, *args, **kwargs)

        return clip

    def by_norm(original: Any) -> Any:
        clip = wrap(original)

        @functools.wraps(original)
        def clip_grad_norm_(parameters: Any, max_norm: Any, *args: Any, **kwargs: Any) -> Any:
            return clip(parameters, max_norm, *args, **kwargs)

        return clip_grad_norm_

    def by_value(original: Any) -> Any:
        clip = wrap(original)

        @functools.wraps(original)
        def clip_grad_value_(parameters: Any, clip_value: Any, *args: Any, **kwargs: Any) -> Any:
            return clip(parameters, clip_value, *args, **kwargs)

        return clip_grad_value_

    for owner in (nn.utils, nn.utils.clip_grad):
        patcher.replace(owner, "clip_grad_norm_", by_norm)
        patcher.replace(owner, "clip_grad_value_", by_value)


def _schedulers(patcher: Patcher, stream: Stream) -> None:
    nesting = [0]

    def built(original: Any) -> Any:
        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            site = user_site()
            nesting[0] += 1
            try:
                original(self, *args, **kwargs)
            finally:
                nesting[0] -= 1
            if not nesting[0]:
                stream.emit("scheduler_built", self, args, kwargs, site)

        return __init__

    def stepped(original: Any) -> Any:
        @functools.wraps(original)
        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            if nesting[0]:
                return original(self, *args, **kwargs)
            stream.emit("scheduler_stepped", self, args, kwargs, user_site())
            nesting[0] += 1
            try:
                return original(self, *args, **kwargs)
            finally:
                nesting[0] -= 1

        return step

    for cls in {c for c in vars(lr_scheduler).values() if isinstance(c, type)}:
        if issubclass(cls, lr_scheduler.LRScheduler):
            if "__init__" in vars(cls):
                patcher.replace(cls, "__init__", built)
            if "step" in vars(cls):
                patcher.replace(cls, "step", stepped)


def _scalers(patcher: Patcher, stream: Stream, rest: Rest) -> None:
    scaler = torch.amp.GradScaler

    def announce(event: str) -> Callable[[Any], Any]:
        def wrap(original: Any) -> Any:
            @functools.wraps(original)
            def method(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                if self.is_enabled() and stream.resting:
                    rest.notices()
                elif self.is_enabled():
                    stream.emit(event, self, optimizer)
                return original(self, optimizer, *args, **kwargs)

            return method

        return wrap

    patcher.replace(scaler, "step", announce("scaler_steps"))
    patcher.replace(scaler, "unscale_", announce("scaler_unscaled"))


def _loading(patcher: Patcher, stream: Stream) -> None:
    def load(original: Any) -> Any:
        @functools.wraps(original)
        def load_state_dict(self: Any, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            stream.emit("state_loads", self, state_dict, user_site())
            return original(self, state_dict, *args, **kwargs)

        return load_state_dict

    patcher.replace(nn.Module, "load_state_dict", load)

    def mode(original: Any) -> Any:
        @functools.wraps(original)
        def train(self: Any, mode: bool = True) -> Any:
            if not stream.quiet:
                stream.quiet += 1  # train() calls itself on every child
                try:
                    result = original(self, mode)
                finally:
                    stream.quiet -= 1
                stream.emit("mode_called", self, mode, user_site())
                return result
            return original(self, mode)

        return train

    patcher.replace(nn.Module, "train", mode)


def _loaders(patcher: Patcher, stream: Stream) -> None:
    def start(original: Any) -> Any:
        @functools.wraps(original)
        def __iter__(self: Any) -> Any:  # noqa: N807
            iterator = original(self)
            stream.emit("iterator_started", self, iterator, user_site())
            return iterator

        return __iter__

    def advance(original: Any) -> Any:
        @functools.wraps(original)
        def __next__(self: Any) -> Any:  # noqa: N807
            began = perf_counter()
            try:
                batch = original(self)
            except StopIteration:
                stream.emit("iterator_ended", self)
                raise
            stream.emit("batch_loaded", self, perf_counter() - began)
            return batch

        return __next__

    base = torch_data.dataloader._BaseDataLoaderIter
    patcher.replace(torch_data.DataLoader, "__iter__", start)
    patcher.replace(base, "__next__", advance)

    def sampled(original: Any) -> Any:
        @functools.wraps(original)
        def __iter__(self: Any) -> Any:  # noqa: N807
            stream.emit("sampler_iterated", self, user_site())
            return original(self)

        return __iter__

    patcher.replace(torch_data.DistributedSampler, "__iter__", sampled)


def _ddp(patcher: Patcher, stream: Stream) -> None:
    def built(original: Any) -> Any:
        @functools.wraps(original)
        def __init__(self: Any, module: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(self, module, *args, **kwargs)
            stream.emit("ddp_built", self, module, user_site())

        return __init__

    patcher.replace(nn.parallel.DistributedDataParallel, "__init__", built)


def _root_calls(patcher: Patcher, stream: Stream, roots: RootTracker, rest: Rest) -> None:
    def wrap(original: Any) -> Any:
        @functools.wraps(original)
        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if is_compiling():
                return original(self, *args, **kwargs)
            if roots.depth or stream.quiet or stream.in_backward:
                if roots.probe is not None:
                    roots.probe.enters(self, args)
                return original(self, *args, **kwargs)
            call = None
            resting = stream.resting and self.training and torch.is_grad_enabled()
            if not resting or not stream.guard(rest.call, self, args, kwargs):
                call = stream.guard(roots.begins, self, args, kwargs)
                if call is None:
                    return original(self, *args, **kwargs)
            roots.depth = 1
            try:
                result = original(self, *args, **kwargs)
            finally:
                roots.depth = 0
            if call is not None:
                stream.guard(roots.ends, call, result)
            return result

        return __call__

    patcher.replace(nn.Module, "__call__", wrap)
