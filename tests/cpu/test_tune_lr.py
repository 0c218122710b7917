"""Claims about learning rates found by trying: what is left as it was, what is found, what is refused."""

import copy
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kudari import optim, tune
from kudari.errors import ArgumentError
from kudari.train.options import Options
from kudari.tune.learning_rate import _decide, scan_weight
from kudari.tune.range_test import RangeTest, _read, has_diverged, smooth
from kudari.tune.short_runs import Probe, ShortRuns, short_runs, vertex
from kudari.tune.step_shape import StepShape, step_of
from kudari.tune.trial import open_trials
from kudari.tune.untouched import untouched
from tests.cpu.train_runs import network, points

pytestmark = pytest.mark.cpu

SHORT = {"steps": 240, "batch_size": 16}
SHORTEST = {"steps": 130, "batch_size": 16}  # little is found in so few, by the same steps


class Counting(nn.Module):
    """Writes all a module can write while it runs: counters, buffers, attributes old and new."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.average, self.replaced, self.lengths = torch.zeros(2), torch.zeros(2), []
        self.cache = {"last": torch.zeros(2)}

    def forward(self, x):
        self.calls += 1
        self.seen = self.seen + len(x)
        self.hidden += 1
        self.average += 1
        self.replaced = self.replaced + 1
        self.lengths.append(len(x))
        self.cache["last"] += 1
        self.cache["input"] = self.late = x
        random.random()
        np.random.rand()
        return self.inner(x)


def bits(model, optimizer=None):
    """Every byte that a trial could change, with the identities of the tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    found = [t.detach().clone() for t in tensors]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    pointers = [t.data_ptr() for t in tensors]
    own = [
        copy.deepcopy({k: v for k, v in vars(m).items() if not k.startswith("_")}) for m in model.modules()
    ]
    rng = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    state = copy.deepcopy(optimizer.state_dict()) if optimizer is not None else None
    return found, grads, modes, wanted, pointers, own, rng, state


def same(a, b):
    """Whether two nests of tensors and values are equal, byte by byte."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def used(cls, model, **values):
    """An optimizer with a history, and gradients that wait for the next step."""
    optimizer = cls(model.parameters(), **values)
    x, y = points(16)
    if hasattr(optimizer, "train") and callable(optimizer.train):
        optimizer.train()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (optim.AdamW, {"lr": 1e-3}),
        (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (optim.Lion, {"lr": 1e-3}),
        (optim.LAMB, {"lr": 1e-3}),
        (optim.ScheduleFreeAdamW, {"lr": 1e-3}),
        (optim.Muon, {"lr": 1e-2}),
        (torch.optim.AdamW, {"lr": 1e-3}),
        (torch.optim.Adagrad, {"lr": 1e-2}),
        (torch.optim.AdamW, {"lr": torch.tensor(1e-3)}),
    ],
)
def test_everything_is_as_before_to_the_byte(cls, values):
    model = Counting(network(dropout=0.1))
    optimizer = used(cls, model, **values)
    model.inner[0].eval()
    del model.late
    before, calls = bits(model, optimizer), model.calls
    found = tune.lr(model, "cross_entropy", points(200), optimizer, **SHORTEST)
    assert found.lr > 0
    assert same(bits(model, optimizer), before)
    assert model.calls == calls
    optimizer.step()  # what it is bound to is still there
    assert not same(bits(model)[0], before[0])


@pytest.mark.parametrize("after", [1, 30, 60])  # in the first step, in the range test, in a short run
def test_an_exception_leaves_everything_as_before(after):
    left = [10**9]

    class Failing(Counting):
        def forward(self, x):
            left[0] -= 1
            if left[0] < 0:
                raise ValueError("no more")
            return super().forward(x)

    model = Failing(network())
    optimizer = used(torch.optim.AdamW, model, lr=1e-3)
    left[0] = after
    before, calls = bits(model, optimizer), model.calls
    with pytest.raises(ValueError, match="no more"):
        tune.lr(model, "cross_entropy", points(200), optimizer, **SHORTEST)
    assert same(bits(model, optimizer), before)
    assert model.calls == calls


def test_a_loader_begins_where_it_would_have_begun():
    def loader():
        generator = torch.Generator().manual_seed(3)
        return DataLoader(TensorDataset(*points(64)), 16, shuffle=True, generator=generator)

    ours, theirs = loader(), loader()
    next(iter(ours)), next(iter(theirs))
    tune.lr(network(), "cross_entropy", ours, "adamw", steps=130)
    for (a, _), (b, _) in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_a_model_whose_weights_have_no_size_yet_is_refused_and_stays_lazy():
    model = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ArgumentError, match=r"0\.weight has no size yet.*model\(x\)"):
        tune.lr(model, "cross_entropy", points(200), **SHORTEST)
    assert type(model[0]) is nn.LazyLinear


def test_what_the_block_moves_to_another_tensor_comes_back():
    model = network()
    before = bits(model)
    with untouched(model):
        model.to(torch.float64)
        model[0].weight.requires_grad_(False)
    assert same(bits(model), before)


def test_the_cost_is_at_most_half_a_run():
    for optimizer in ("adamw", "sgd", "muon"):
        found = tune.lr(network(), "cross_entropy", points(200), optimizer, **SHORTEST)
        assert found.spent <= 0.5 * found.steps + 1  # the last judging may end in the middle of a step


def test_a_suggestion_trains_far_better_than_rates_an_order_of_magnitude_off():
    x, y = points(400)
    found = tune.lr(network(), "cross_entropy", (x, y), "adamw", steps=300, batch_size=16)
    assert found.reliable
    assert found.low < found.lr < found.high

    def loss_at(lr):
        from tests.cpu.train_runs import quiet_fit

        return quiet_fit(network(), (x, y), (x, y), steps=300, batch_size=16, lr=lr).metrics["valid_loss"]

    good = loss_at(found.lr)
    assert good < loss_at(found.lr / 30)
    assert good < 0.3  # a constant guess has log 3 = 1.1


def test_the_same_search_finds_the_same():
    one, two = (tune.lr(network(), "cross_entropy", points(200), "adamw", **SHORTEST) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("options", [{"accumulate": 2}, {"precision": "bf16"}, {"clip_norm": 1.0}])
def test_accumulation_bf16_and_clipping_are_searched_as_they_are_trained(options):
    found = tune.lr(network(), "cross_entropy", points(300), "adamw", **SHORT, **options)
    assert found.reliable


def test_frozen_layers_stay_frozen_and_without_gradients():
    model = network()
    model[0].requires_grad_(False)
    before = bits(model)
    found = tune.lr(model, "cross_entropy", points(300), "adamw", **SHORT)
    assert found.reliable
    assert same(bits(model), before)


def test_groups_keep_the_ratios_of_their_rates():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[4].parameters(), "lr": 1e-2}]
    seen = set()

    class Watching(torch.optim.AdamW):
        def step(self, closure=None):
            first, second = (g["lr"] for g in self.param_groups)
            if second > 0:
                seen.add(round(first / second, 6))
            return super().step(closure)

    found = tune.lr(model, "cross_entropy", points(200), Watching(groups), **SHORTEST)
    assert seen == {0.1}
    assert found.default == 1e-2


def test_labels_that_have_nothing_to_do_with_the_inputs_get_no_suggestion():
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(400, 6)  # nothing to learn from, and no constant beats the even one
    y = torch.arange(400)[torch.randperm(400, generator=generator)] % 3
    model = nn.Linear(6, 3)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    found = tune.lr(model, "cross_entropy", (x, y), "adamw", **SHORT)
    assert (found.confidence, found.lr, found.low, found.high) == ("none", 1e-3, 1e-3, 1e-3)
    assert found.why.startswith("No reliable suggestion.")


def test_a_loss_that_is_never_finite_gets_no_suggestion():
    def broken(outputs, targets):
        return outputs.sum() * math.nan

    found = tune.lr(network(), broken, points(200), "adamw", **SHORT)
    assert not found.reliable
    assert "not finite" in found.why


def test_a_run_too_short_for_a_search_says_how_short():
    found = tune.lr(network(), "cross_entropy", points(200), "adamw", steps=50, batch_size=16)
    assert not found.reliable
    assert "50 steps" in found.why
    assert found.spent == 0


def test_the_picture_is_one_svg_with_the_rate_in_words():
    from xml.etree import ElementTree

    found = tune.lr(network(), "cross_entropy", points(200), "adamw", **SHORT)
    root = ElementTree.fromstring(found.picture)
    words = " ".join(root.itertext())
    assert f"{found.lr:.2g}" in words
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 1 + len(found.probes)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"bacth_size": 8}, "Did you mean 'batch_size'"),
        ({"budget": 0.0}, "budget=0.0"),
        ({"data": iter([])}, "read once"),
        ({"schedule": 3}, "schedule is a int"),
    ],
)
def test_mistakes_are_named(call, words):
    arguments = {"data": points(), "steps": 300, **call}
    with pytest.raises(ArgumentError, match=words):
        tune.lr(network(), "cross_entropy", optimizer="adamw", **arguments)


def test_a_scheduler_that_cannot_be_shortened_is_refused():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    with pytest.raises(ArgumentError, match="cannot be shortened"):
        tune.lr(model, "cross_entropy", points(), optimizer, schedule=scheduler, steps=300)


def decided(probes, start=2.3, by_scan=1e-2, ignores=0.0, fall=0.7, **scan):
    """What is suggested where both are a tenth of the run and the range test suggests ``by_scan``."""
    trials = SimpleNamespace(steps=200, lr=1e-3, spent=10.0)
    rates = (1.0, math.exp(1 / 20))
    middle = by_scan * 10 ** (0.15 + 0.25 * ignores)  # brought down to the run's length again
    values = {"low": 1e-3, "best": 1e-2, "middle": middle, "high": 9.0, "diverged": True}
    test = RangeTest(rates, (), (1.0,), **{**values, **scan}, drop=fall, noise=0.1)
    step = StepShape(moved=1e-2, ignores=ignores, memory=0.0)
    return _decide(trials, test, ShortRuns(tuple(probes), 20, start), step)


@pytest.mark.parametrize(
    ("reached", "fall", "confidence"),
    [(1.1, 0.6, "high"), (1.1, 0.3, "medium"), (1.6, 0.6, "medium"), (1.9, 0.6, "low"), (1.1, 0.2, "low")],
)
def test_a_suggestion_is_as_sure_as_the_loss_fell_in_both(reached, fall, confidence):
    found = decided([Probe(1e-3, 2.2), Probe(1e-2, reached), Probe(1e-1, 2.1)], fall=fall)
    assert found.confidence == confidence
    assert ("larger budget" in found.why) == (confidence == "low")


@pytest.mark.parametrize(("high", "highest"), [(3e-2, 3e-2), (9.0, 0.1)])
def test_no_suggestion_is_above_the_rate_at_which_the_range_test_diverged(high, highest):
    probes = [Probe(1e-3, 2.2), Probe(1e-2, 1.5), Probe(1e-1, 0.5)]
    assert decided(probes, by_scan=highest, high=high).lr == pytest.approx(highest)


def test_range_test_and_short_runs_are_averaged_and_short_runs_of_some_brought_down_to_the_length():
    probes = [Probe(1e-3, 2.0), Probe(1e-2, 1.0), Probe(1e-1, 2.0)]
    follows, ignores = (decided(probes, ignores=share, by_scan=1e-3).lr for share in (0.0, 1.0))
    assert follows == pytest.approx(10**-2.5)  # both a tenth: one to one over log rate, between 1e-3 and 1e-2
    assert ignores == pytest.approx(10**-2.625)  # 1e-2 is 10**-2.25 in ten times as many steps


def test_what_an_estimate_counts_is_the_inverse_square_of_how_much_shorter_it_was():
    assert scan_weight(0.01, 0.01) == 0.5
    assert scan_weight(0.1, 0.01) == pytest.approx(0.8)
    assert scan_weight(0.01, 0.1) == pytest.approx(0.2)
    assert scan_weight(0.01, 1.0) == 0


def scanned(**changed):
    """A range test that diverged at 1 and learned a twentieth of the loss, hardly any noise in it."""
    values = {"low": 1e-3, "best": 1e-2, "middle": 1e-2, "high": 1.0, "diverged": True}
    values |= {"drop": 0.1, "noise": 0.02, "losses": (), "smoothed": (2.0,)}
    return RangeTest((1.0, math.exp(1 / 13)), **{**values, **changed})


@pytest.mark.parametrize(("memory", "edge"), [(0.0, 10**-0.7), (0.9, 10**-1.51)])
def test_where_little_was_learned_the_edge_counts_as_much_as_little_was_learned(memory, edge):
    step = StepShape(moved=1e-2, ignores=0.0, memory=memory)
    middle = scanned(drop=1.6).suggests(300, step)
    assert middle < edge
    assert scanned(drop=0.0, noise=0.0).suggests(300, step) == pytest.approx(edge)
    assert scanned().suggests(300, step) == pytest.approx(middle**0.3 * edge**0.7)
    assert scanned(drop=0.0, noise=0.8).suggests(300, step) == pytest.approx(middle)  # who knows
    assert scanned(diverged=False).suggests(300, step) == pytest.approx(middle)
    assert scanned(middle=0.9).suggests(13, step) == pytest.approx(0.9)  # never below the middle
    ignoring = StepShape(moved=1e-2, ignores=1.0, memory=memory)
    assert scanned(drop=0.0).suggests(13, ignoring) == scanned(drop=1.6).suggests(13, ignoring)


@pytest.mark.parametrize(
    ("steps", "budget", "decades"), [(300, 0.5, 82 / 30), (3000, 0.5, 3.5), (300, 9, 3.5)]
)
def test_a_range_test_has_thirty_steps_a_decade_and_begins_no_lower_for_more_of_them(steps, budget, decades):
    found = tune.lr(
        network(), "cross_entropy", points(200), "adamw", steps=steps, batch_size=16, budget=budget
    )
    rates = found.scan.rates
    assert rates[30] / rates[0] == pytest.approx(10)
    options = Options(loss="cross_entropy", optimizer="adamw", steps=steps, batch_size=16)
    with open_trials(network(), points(200), None, options) as trials:
        moved = step_of(trials).moved
    assert rates[0] * moved / found.default == pytest.approx(10**-decades, rel=1e-3)


def test_where_short_runs_learned_nothing_the_range_test_alone_suggests_and_says_little():
    nothing = [Probe(1e-2, 2.3), Probe(1e-1, 2.5)]
    found = decided(nothing, by_scan=4e-3)
    assert (found.lr, found.confidence) == (pytest.approx(4e-3), "low")
    assert decided(nothing, by_scan=4e-3, fall=0.05).confidence == "none"  # no more than the noise
    assert decided([Probe(1e-2, math.inf)]).confidence == "none"


def test_the_middle_of_a_basin_is_found_and_without_one_a_tenth_of_what_diverged():
    rates = [10 ** (i / 30 - 3) for i in range(91)]
    lopsided = [2.0 if i < 30 or i > 60 else 1.0 - 0.001 * i for i in range(91)]  # its minimum is an edge
    assert _read(rates, lopsided, True).middle == pytest.approx(10**-1.5, rel=0.05)
    generator = random.Random(0)
    noise = [2.0 + 0.1 * generator.gauss(0, 1) for _ in range(91)]
    scan = _read(rates, noise, True)
    assert not scan.seen
    assert scan.middle == pytest.approx(rates[-1] / 10)


def test_runs_are_judged_on_batches_kept_from_training_the_same_whatever_their_length():
    seen = {True: [], False: []}

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(dropout=0.5)

        def forward(self, x):
            seen[torch.is_grad_enabled()].append(tuple(x[:, 0].tolist()))
            return self.inner(x)

    options = Options(loss="cross_entropy", optimizer="sgd", steps=20, batch_size=16)
    with open_trials(Watching(), points(320), None, options) as trials:
        seen[True].clear(), seen[False].clear()  # preparing looks at the first batch
        one = trials.run(0.1, 0, judge=3).judged
        judges = list(seen[False])
        again = trials.run(1e-30, 4, judge=3).judged
        trials.run(0.1, 7, judge=3)
    assert seen[False] == judges * 3
    assert not set(judges) & set(seen[True])
    assert again == pytest.approx(one, rel=1e-6)  # without dropout, and nothing has moved


def test_labels_drawn_at_random_get_no_sure_suggestion():
    x, _ = points(400)
    y = torch.randint(0, 3, (400,), generator=torch.Generator().manual_seed(1))
    found = tune.lr(network(), "cross_entropy", (x, y), "sgd", **SHORT)
    assert found.confidence in ("low", "none")


class Ramp:
    """A schedule that rises until ``peak`` of its 100 steps and falls to nothing."""

    def __init__(self, peak):
        self.peak = peak

    def __call__(self, step, total):
        assert total == 100
        return (step + 1) / (self.peak + 1) if step <= self.peak else (total - step) / (total - self.peak)


@pytest.mark.parametrize(("peak", "squeezed"), [(0, 1), (5, 1), (10, 1), (40, 4)])
def test_short_runs_take_the_first_steps_of_the_schedule_and_reach_its_peak(peak, squeezed):
    options = Options(loss="cross_entropy", optimizer="sgd", steps=100, batch_size=16, schedule=Ramp(peak))
    with open_trials(network(), points(64), None, options) as trials:
        begun = [trials.begun(20)(step) for step in range(20)]
        whole = [trials.factor(step) for step in range(100)]
    assert begun == whole[: 20 * squeezed : squeezed]
    assert max(begun[:11]) == max(whole)


class Valley:
    """Trials whose loss is a parabola over log rate; the first judging is that of the start."""

    spent, steps, lr = 0.0, 300, 1e-2

    def __init__(self, best):
        self.best, self.tried = best, []

    def begun(self, steps):
        return lambda step: 1.0

    def run(self, lr, steps, *, judge, factor=None, stop=None):
        self.spent += steps + judge / 3
        place = round(2 * math.log10(lr / 1e-2), 6)
        if steps:
            self.tried.append(place)
        loss = 1.0 + 0.1 * (place - self.best) ** 2 if steps else 3.0
        return SimpleNamespace(judged=(loss,) * judge)


@pytest.mark.parametrize(
    ("budget", "steps", "runs"), [(80, 24, 3), (150, 47, 3), (300, 97, 3), (1300, 300, 4), (9000, 300, 8)]
)
def test_a_larger_budget_makes_short_runs_longer_until_they_are_whole_ones_and_then_more(budget, steps, runs):
    trials = Valley(20)
    found = short_runs(trials, 1e-2, float(budget))
    assert (found.steps, len(found.probes)) == (steps, runs)
    assert trials.spent <= budget


def test_short_runs_that_have_nothing_left_to_learn_are_not_taken_for_diverged():
    found = tune.lr(network(), "cross_entropy", points(128), "adamw", steps=1500, batch_size=16)
    assert len(found.probes) == 3
    assert all(probe.loss < 0.3 for probe in found.probes)  # one loses four times its lowest loss again


@pytest.mark.parametrize("best", [-2, 0, 3])
def test_short_runs_climb_to_the_best_rate_and_one_beyond(best):
    trials = Valley(best)
    found = short_runs(trials, 1e-2, 110.0)
    assert trials.tried[:2] == [0, 1]
    assert trials.tried[2] == (-1 if best <= 0 else 2)
    assert found.steps >= 30
    assert trials.spent <= 110


@pytest.mark.parametrize(
    ("cls", "values", "ignores", "memory"),
    [
        (optim.SGD, {"lr": 0.1}, 0, 0),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 0, 0.9),
        (optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}, 0, 0.8),
        (optim.AdamW, {"lr": 1e-3}, 1, 0),
        (optim.Lion, {"lr": 1e-3}, 1, 0),
        (optim.Muon, {"lr": 1e-3}, 1, 0),
        (optim.ADOPT, {"lr": 1e-3}, 1, 0.9),  # moves nothing at first; its average is not corrected
    ],
)
def test_how_an_optimizer_answers_to_a_gradient_is_measured(cls, values, ignores, memory):
    model = network()
    optimizer = cls(model.parameters(), **{"weight_decay": 0.0, **values})
    with open_trials(
        model, points(64), None, Options(loss="cross_entropy", optimizer=optimizer, steps=100)
    ) as t:
        step = step_of(t)
    assert step.ignores == pytest.approx(ignores, abs=0.02)  # epsilons beside gradients of 1e-2
    assert step.memory == pytest.approx(memory, abs=1e-3)


def test_noise_alone_is_no_divergence_and_a_lost_gain_is():
    generator = random.Random(0)
    noise = [1.7 + 0.2 * generator.gauss(0, 1) for _ in range(200)]
    assert not any(has_diverged(noise[: i + 1]) for i in range(200))
    falling = [2.3 * 0.97**i for i in range(60)]
    assert not any(has_diverged(falling[: i + 1]) for i in range(60))
    assert has_diverged([*falling, *([2.3] * 5)])


def test_smoothing_does_not_move_a_minimum():
    values = [1 + abs(i - 40) / 40 for i in range(81)]
    smoothed = smooth(values)
    assert min(range(81), key=smoothed.__getitem__) == 40


def test_the_vertex_of_a_parabola_is_found_and_a_cliff_is_not_taken_for_a_slope():
    curve = [Probe(10.0**k, (k + 1.8) ** 2) for k in (-3.0, -2.0, -1.0)]
    assert vertex(curve)[0] == pytest.approx(10**-1.8)
    cliff = [Probe(1e-3, 2.0), Probe(1e-2, 1.0), Probe(1e-1, math.inf)]
    assert 10**-2.5 < vertex(cliff)[0] < 1e-2
    flat = [Probe(10.0**k, 0.0) for k in (-3, -2, -1)]
    assert vertex([flat[0], flat[1], flat[2]])[0] == 1e-3  # the smallest of equals, at the end of those tried
    assert vertex([Probe(1e-4, 1.0), *flat])[0] == pytest.approx(10**-2.75)
    alone = [Probe(1e-3, math.inf), Probe(1e-2, 1.0), Probe(1e-1, math.inf)]
    assert vertex(alone)[0] == 1e-2
