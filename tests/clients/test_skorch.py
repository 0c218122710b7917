"""skorch's NeuralNet with our classes and our schedule."""

import pytest
import torch

from tests.clients.common import (
    BATCH,
    EPOCHS,
    LR,
    SCHEDULE,
    STEPS,
    Torchs,
    data,
    model,
    plain_schedule_free,
    rates,
    same,
    watch_rates,
    weights,
)  # fmt: skip

skorch = pytest.importorskip("skorch")
import kudari.optim  # noqa: E402


def net(optimizer, policy=None, **kw):
    from skorch.callbacks import Callback, LRScheduler

    class Rates(Callback):
        def on_train_begin(self, net, **_):
            self.seen = watch_rates(net.optimizer_)

    callbacks = [("rates", Rates())]
    if policy is not None:
        callbacks.append(("schedule", LRScheduler(policy=policy, step_every="batch")))
    return skorch.NeuralNetClassifier(
        model(), criterion=torch.nn.CrossEntropyLoss, optimizer=optimizer, lr=LR,
        optimizer__weight_decay=0.1, max_epochs=EPOCHS, batch_size=BATCH, train_split=None, verbose=0,
        iterator_train__shuffle=False, callbacks=callbacks, **kw,
    )  # fmt: skip


def test_fit_ends_where_it_does_with_torchs_and_steps_the_schedule_once_a_step():
    def attach(optimizer, **_):
        return SCHEDULE.attach(optimizer, STEPS)

    ours = net(kudari.optim.AdamW, attach).fit(*data())
    theirs = net(torch.optim.AdamW, lambda optimizer, **_: Torchs.scheduler(optimizer)).fit(*data())
    same(weights(ours.module_), weights(theirs.module_))
    assert dict(ours.callbacks_)["rates"].seen == pytest.approx(rates())


def test_saved_parameters_go_on(tmp_path):
    first = net(kudari.optim.AdamW).fit(*data())
    place = {"f_params": tmp_path / "p.pt", "f_optimizer": tmp_path / "o.pt"}
    first.save_params(**place)
    second = net(kudari.optim.AdamW).initialize()
    second.load_params(**place)
    for n in (first, second):
        n.partial_fit(*data())
    ends = weights(first.module_), weights(second.module_)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_schedule_free_ends_at_the_average_of_a_plain_loop():
    from skorch.callbacks import Callback

    class Switch(Callback):
        def on_train_begin(self, net, **_):
            net.optimizer_.train()

        def on_train_end(self, net, **_):
            net.optimizer_.eval()

    found = net(kudari.optim.ScheduleFreeAdamW, optimizer__warmup_steps=4)
    found.callbacks.append(("switch", Switch()))
    found.fit(*data())
    same(weights(found.module_), plain_schedule_free())
