# Made by `make stubs` from kudari/rules; do not edit.
from typing import Literal

from torch import Tensor

from kudari.compile.notation import Rule as Rule
from kudari.optim.catalogue import get as get
from kudari.optim.catalogue import names as names
from kudari.optim.catalogue import rules as rules
from kudari.optim.describe import Description as Description
from kudari.optim.describe import describe as describe
from kudari.optim.fused import averaged as averaged
from kudari.optim.fused import fuse as fuse
from kudari.optim.fused import grad_norm as grad_norm
from kudari.optim.release import GradientRelease as GradientRelease
from kudari.optim.assignments import Assignment as Assignment
from kudari.optim.assignments import assign as assign
from kudari.optim.groups import groups as groups
from kudari.optim.groups import groups_table as groups_table
from kudari.optim.bound_group import EagerFallbackWarning as EagerFallbackWarning
from kudari.optim.faces import AveragingOptimizer as AveragingOptimizer
from kudari.optim.faces import EstimatedHessianOptimizer as EstimatedHessianOptimizer
from kudari.optim.faces import GradientHessianOptimizer as GradientHessianOptimizer
from kudari.optim.optimizer import Params as Params
from kudari.optim.optimizer import RuleOptimizer as RuleOptimizer
from kudari.optim.make import make_class as make_class

class Adadelta(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class Adafactor(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = ...,
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class Adagrad(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

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
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class AdamAtan2(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        betas: tuple[float, float] = ...,
        weight_decay: float = 0.0,
        a: float = 1.27,
        b: float = 1.0,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class Adamax(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.002,
        betas: tuple[float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        cautious: bool = False,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
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
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class Adan(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        no_prox: bool = False,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class AdEMAMix(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float, float] = ...,
        alpha: float = 2.0,
        beta3_warmup: float | None = None,
        alpha_warmup: float | None = None,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class ADOPT(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float] = ...,
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        clip_exp: float | None = 0.25,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
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
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
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
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
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
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class MARS(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.003,
        betas: tuple[float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        gamma: float = 0.025,
        *,
        optimize_1d: bool = False,
        lr_1d_factor: float = 1.0,
        betas_1d: tuple[float, float] = ...,
        weight_decay_1d: float = 0.1,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class Muon(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = ...,
        eps: float = 1e-07,
        ns_steps: float = 5,
        adjust_lr_fn: Literal[None, 'original', 'match_rms_adamw'] = None,
        *,
        use_muon: Literal[None, True, False] = None,
        adamw_lr_ratio: float = 1.0,
        adamw_betas: tuple[float, float] = ...,
        adamw_eps: float = 1e-10,
        adamw_weight_decay: float | None = None,
        ns_dtype: Literal[None, 'bfloat16', 'float16', 'float32', 'float64'] = None,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class NAdam(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.002,
        betas: tuple[float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        momentum_decay: float = 0.004,
        decoupled_weight_decay: bool = False,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class Prodigy(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = ...,
        beta3: float | None = None,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-06,
        d_coef: float = 1.0,
        growth_rate: float = ...,
        *,
        slice_p: float = 1,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class RAdam(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        cautious: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class RMSprop(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class ScheduleFreeAdamW(AveragingOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0025,
        betas: tuple[float, float] = ...,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        warmup_steps: float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class ScheduleFreeSGD(AveragingOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
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
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class Shampoo(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, float] = ...,
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        decoupled_weight_decay: bool = True,
        damping: Literal['relative', 'absolute'] = 'relative',
        grafting: Literal['adam', 'adagrad', 'sgd', None] = 'adam',
        grafting_eps: float = 1e-08,
        precondition_frequency: float = 10,
        start_preconditioning_step: float = 10,
        max_precond_dim: float = 1024,
        precondition_1d: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class SOAP(RuleOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.003,
        betas: tuple[float, float] = ...,
        shampoo_beta: float = -1.0,
        eps: float = 1e-08,
        weight_decay: float = 0.01,
        *,
        precondition_frequency: float = 10,
        max_precond_dim: float = 10000,
        precondition_1d: bool = False,
        correct_bias: bool = True,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class SophiaG(GradientHessianOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        betas: tuple[float, float] = ...,
        rho: float = 0.04,
        weight_decay: float = 0.1,
        eps: float = 1e-12,
        bs: float = 5120,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...

class SophiaH(EstimatedHessianOptimizer):
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        betas: tuple[float, float] = ...,
        rho: float = 0.01,
        weight_decay: float = 0.1,
        eps: float = 1e-12,
        *,
        probe: Literal['rademacher', 'gaussian'] = 'rademacher',
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
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
        state_dtype: Literal['fp32', 'bf16', '8bit', '4bit', '8bit-dynamic'] = 'fp32',
        rounding: Literal['nearest', 'stochastic', 'kahan'] = 'nearest',
        skip_nonfinite: bool = False,
    ) -> None: ...
