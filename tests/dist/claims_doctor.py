"""The doctor on every rank of DDP and FSDP2."""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import kudari.doctor
from tests.dist.ranks import claim

EPOCHS, BATCH, ROWS, ACCUMULATE = 3, 16, 512, 2


def prepare():
    """Load the catalogue before the ranks are forked."""
    kudari.doctor.illnesses()


def _loader(world):
    torch.manual_seed(0)
    x = torch.randn(ROWS, 8)
    data = TensorDataset(x, x[:, :3].argmax(1))
    sampler = DistributedSampler(data, world.size, world.rank, shuffle=True)
    return sampler, DataLoader(data, batch_size=BATCH, sampler=sampler)


def _net():
    return nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))


def _loud(doctor):
    assert doctor.run.stream.failures == []
    assert all(r.steps for r in doctor.run.optimizers.records)
    return [f.fault for f in doctor.findings if f.severity != "note"]


def _train(model, optimizer, sampler, loader, bare=None, set_epoch=True):
    for epoch in range(EPOCHS):
        if set_epoch:
            sampler.set_epoch(epoch)
        model.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy((bare or model)(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            model(torch.randn(64, 8))


@claim(ranks=2)
def doctor_is_silent_on_healthy_ddp_with_accumulation(world):
    sampler, loader = _loader(world)
    with kudari.doctor.watch() as doctor:
        model = DistributedDataParallel(_net())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for epoch in range(EPOCHS):
            sampler.set_epoch(epoch)
            model.train()
            for i, (x, y) in enumerate(loader):
                last = (i + 1) % ACCUMULATE == 0
                model.require_backward_grad_sync = last
                loss = nn.functional.cross_entropy(model(x), y) / ACCUMULATE
                loss.backward()
                if last:
                    optimizer.step()
                    optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                model.module(torch.randn(64, 8))
        dist.barrier()
    assert _loud(doctor) == []


@claim(ranks=2)
def doctor_names_a_bypassed_wrapper_and_a_sampler_without_epochs(world):
    sampler, loader = _loader(world)
    with kudari.doctor.watch() as doctor:
        model = DistributedDataParallel(_net())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        _train(model, optimizer, sampler, loader, bare=model.module, set_epoch=False)
    found = _loud(doctor)
    assert sorted(found) == ["ddp-bypassed", "missing-set-epoch"], found


@claim(ranks=2)
def doctor_is_silent_on_healthy_fsdp2_and_names_a_missing_wipe(world):
    sampler, loader = _loader(world)
    with kudari.doctor.watch() as doctor:
        model = _net()
        fully_shard(model[0])
        fully_shard(model)
        _train(model, torch.optim.AdamW(model.parameters(), lr=1e-2), sampler, loader)
    assert _loud(doctor) == []
    with kudari.doctor.watch() as doctor:
        model = fully_shard(_net())
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for x, y in loader:
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert _loud(doctor) == ["missing-zero-grad"]
