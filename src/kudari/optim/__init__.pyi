# Made by `make stubs` from kudari/rules; do not edit.
from typing import Literal

from torch import Tensor

from kudari.compile.notation import Rule as Rule
from kudari.optim.catalogue import get as get
from kudari.optim.catalogue import names as names
from kudari.optim.catalogue import rules as rules
from kudari.optim.describe import Description as Description
from kudari.optim.describe import describe as describe
from kudari.optim.groups import Assignment as Assignment
from kudari.optim.groups import assign as assign
from kudari.optim.groups import groups as groups
from kudari.optim.bound_group import EagerFallbackWarning as EagerFallbackWarning
from kudari.optim.optimizer import Params as Params
from kudari.optim.optimizer import RuleOptimizer as RuleOptimizer
from kudari.optim.optimizer import make_class as make_class

class Adam(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = False,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...

class AdamW(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...

class LAMB(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float] = ...,
        eps: float = 1e-06,
        weight_decay: float = 0.01,
        *,
        variant: Literal['paper', 'nvlamb', 'lambc'] = 'paper',
        max_grad_norm: float | None = 1.0,
        bias_correction: bool = True,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...

class LARS(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float | None = 0.001,
        eps: float = 0.0,
        nesterov: bool = False,
        *,
        variant: Literal['paper', 'post', 'larc'] = 'paper',
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...

class Lion(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        betas: tuple[float, float] = ...,
        weight_decay: float = 0.0,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...

class SGD(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...

class StableAdamW(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float] = ...,
        eps: float = 1e-06,
        weight_decay: float = 0.01,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...
