"""Claims about the recipe's rules: what each situation gets, with a reason and a source."""

import pytest

from kudari.errors import ArgumentError
from kudari.tune import Hardware, recipe
from kudari.tune.rates import PRETRAINING, STARTS
from kudari.tune.situation import kind_of


def chosen(task="classification", **facts):
    facts = {"samples": 10_000, "parameters": 100_000, **facts}
    return {c.key: c for c in recipe(task, **facts)}


def value(key, **facts):
    return float(chosen(**facts)[f"optimizer.{key}"].value)


@pytest.mark.parametrize(
    ("facts", "optimizer"),
    [
        ({}, "adamw"),
        ({"purpose": "finetuning"}, "adamw"),
        ({"purpose": "pretraining", "kind": "transformer"}, "adamw"),
        ({"kind": "cnn", "samples": 1_281_167}, "sgd"),
        ({"kind": "cnn", "batch_size": 8192}, "lars"),
        ({"kind": "transformer", "batch_size": 1024, "accumulate": 4}, "lamb"),
        ({"parameters": 10**9, "hardware": Hardware(memory_gib=24)}, "lion"),
        ({"parameters": 10**6, "hardware": Hardware(memory_gib=24)}, "adamw"),
    ],
)
def test_each_situation_gets_its_optimizer(facts, optimizer):
    assert chosen(**facts)["optimizer.name"].value == optimizer


def test_what_was_decided_stays():
    assert chosen(kind="cnn", batch_size=8192, optimizer="adamw")["optimizer.name"].value == "adamw"


def test_adaptive_rates_grow_with_the_square_root_of_the_batch_and_sgd_in_proportion():
    def lr(optimizer, **batch):
        return value("lr", optimizer=optimizer, epochs=100, **batch)

    for optimizer, factor in (("adamw", 2.0), ("lion", 2.0), ("sgd", 4.0)):
        assert lr(optimizer, batch_size=256) / lr(optimizer, batch_size=64) == pytest.approx(factor)
    assert lr("sgd", batch_size=64, accumulate=4) == lr("sgd", batch_size=256)


def test_adaptive_rates_of_short_runs_grow_with_the_cube_root_of_their_samples():
    def lr(steps, optimizer="adamw", **facts):
        return value("lr", steps=steps, batch_size=64, optimizer=optimizer, **facts)

    assert lr(1_250) == pytest.approx(2 * lr(10_000))
    assert lr(20_000) == lr(10_000) == STARTS["adamw"].lr_small
    assert lr(1) == lr(10) == 4 * lr(10_000)
    assert lr(1_250, "sgd") == lr(10_000, "sgd")
    for purpose in ("pretraining", "finetuning"):  # rates published for runs of their own length
        assert lr(1_250, purpose=purpose, parameters=10**8) == lr(10_000, purpose=purpose, parameters=10**8)
    batches_of_16 = value("lr", steps=5_000, batch_size=16, optimizer="adamw")
    assert batches_of_16 == pytest.approx(0.5 * lr(1_250)), "samples count, not steps"
    assert value("lr", epochs=8, samples=10_000, batch_size=64, optimizer="adamw") == pytest.approx(lr(1_250))


def test_the_rate_of_lars_is_near_those_published_for_large_batches():
    """5, 10, 25 and 32 in TensorFlow's ResNet-50: of the same order at every batch."""
    for batch, published in ((4096, 5), (8192, 10), (16384, 25), (32768, 32)):
        facts = {"kind": "cnn", "samples": 1_281_167, "batch_size": batch, "epochs": 90}
        assert chosen(**facts)["optimizer.name"].value == "lars"
        assert published / 2 < value("lr", **facts) < published * 2


def test_sgd_without_momentum_takes_the_rate_that_moves_weights_as_far():
    assert value("lr", optimizer="sgd", momentum=0.0) == pytest.approx(10 * value("lr", optimizer="sgd"))
    assert chosen(optimizer="sgd", momentum=0.0)["optimizer.momentum"].value == "0"
    assert value("lr", optimizer="sgd", momentum=0.9) == value("lr", optimizer="sgd")
    assert value("lr", optimizer="adamw", momentum=0.0) == value("lr", optimizer="adamw")


def test_a_tiny_data_set_gets_the_rate_of_the_small_batch_that_is_chosen_for_it():
    few = {"samples": 150, "optimizer": "adamw"}
    assert chosen(**few)["batch_size"].value == "8"
    assert value("lr", **few) == value("lr", **few, batch_size=8)


def test_a_batch_larger_than_the_data_counts_as_the_data():
    of_all = chosen(samples=1437, batch_size=1437)
    for facts in ({"batch_size": 100_000}, {"batch_size": 64, "accumulate": 1000}):
        more = chosen(samples=1437, **facts)
        for key in ("optimizer.name", "optimizer.lr", "schedule", "epochs"):
            assert more[key].value == of_all[key].value


def test_pretraining_rates_pass_through_the_table_and_fall_in_between():
    rates = [
        value("lr", purpose="pretraining", kind="transformer", optimizer="adamw", parameters=int(size))
        for size, _ in PRETRAINING
    ]
    assert rates == pytest.approx([lr for _, lr in PRETRAINING])
    between = value(
        "lr", purpose="pretraining", kind="transformer", optimizer="adamw", parameters=200_000_000
    )
    assert 3e-4 < between < 6e-4


def test_fine_tuning_moves_weights_less_and_warms_up_longer():
    assert value("lr", purpose="finetuning") < value("lr")
    assert value("lr", purpose="finetuning", parameters=110_000_000) == 2e-5
    assert "warmup('5%')" in chosen(purpose="finetuning")["schedule"].value


def test_every_schedule_can_be_read_and_warms_up_over_one_to_five_percent():
    from kudari.schedules import parse

    for facts in (
        {},
        {"purpose": "pretraining"},
        {"purpose": "finetuning"},
        {"optimizer": "schedulefreeadamw"},
    ):
        bound = parse(chosen(**facts)["schedule"].value).bind(1000)
        rising = next(step for step in range(1000) if bound(step) >= bound(step + 1))
        assert 8 <= rising <= 51
        assert bound(999) == pytest.approx(1.0 if "optimizer" in facts else 0.1, abs=0.01)


def test_recurrent_and_attention_models_are_clipped_at_one():
    assert chosen(kind="recurrent")["clip_norm"].value == "1.0"
    assert chosen(kind="transformer")["clip_norm"].value == "1.0"
    assert chosen(kind="cnn")["clip_norm"].value == "null"


@pytest.mark.parametrize("purpose", ["training", "pretraining", "finetuning"])
@pytest.mark.parametrize("optimizer", sorted(STARTS))
def test_every_rate_has_a_sentence_and_a_source_and_is_allowed_by_its_rule(optimizer, purpose):
    from kudari.cli._config.source import parse_value
    from kudari.cli._rules import check_optimizer

    found = chosen(optimizer=optimizer, purpose=purpose)
    assert found["optimizer.lr"].why.endswith(".")
    assert found["optimizer.lr"].source
    values = {
        k.removeprefix("optimizer."): parse_value(c.value) for k, c in found.items() if k[:10] == "optimizer."
    }
    values.pop("name")
    declared = {"weight_decay"} & set(values)
    problems = [p for p in check_optimizer(optimizer, values) if p[0] not in declared]
    assert problems == []


@pytest.mark.parametrize("task", ["classification", "regression", "language"])
def test_every_choice_has_a_sentence_and_a_source(task):
    for choice in recipe(task, samples=5_000, parameters=10**6, kind="cnn", picture_side=32):
        assert choice.why.endswith("."), choice.key
        assert choice.source, choice.key


def test_next_tokens_are_learned_by_cross_entropy_without_smoothing():
    found = chosen(task="language", kind="transformer")
    assert found["loss.name"].value == "cross_entropy"
    assert "loss.label_smoothing" not in found


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        (["Sequential", "Linear", "ReLU"], "mlp"),
        (["Conv2d", "BatchNorm2d", "Linear"], "cnn"),
        (["Embedding", "LSTM", "Linear"], "recurrent"),
        (["Embedding", "MultiheadAttention", "Linear"], "transformer"),
        (["Embedding", "Linear", "LayerNorm"], "transformer"),
    ],
)
def test_a_model_is_known_by_its_layers(layers, kind):
    assert kind_of(layers) == kind


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"task": "clasification"}, "Did you mean 'classification'"),
        ({"task": "classification", "purpose": "fine-tuning"}, "Did you mean 'finetuning'"),
        ({"task": "classification", "momentum": 1.0}, "momentum is 1.0"),
        ({"task": "classification", "steps": 0}, "steps is 0"),
        ({"task": "classification", "epochs": -1}, "epochs is -1"),
        ({"task": "classification", "samples": None}, "neither data nor samples"),
        ({"task": "classification", "parameters": None}, "neither model nor parameters"),
        ({"task": "classification", "samples": 0}, "samples is 0"),
        ({"task": "classification", "samples": "many"}, "samples is 'many'"),
        ({"task": "classification", "batch_size": 0}, "batch_size is 0"),
        ({"task": "classification", "accumulate": 0.5}, "accumulate is 0.5"),
        ({"task": "classification", "model": "resnet"}, "model is a str.*parameters="),
        ({"task": "classification", "hardware": "cpu"}, r"hardware='cpu' is no machine.*Hardware\("),
    ],
)
def test_mistakes_are_named(facts, words):
    facts = {"samples": 10, "parameters": 10, **facts}
    with pytest.raises(ArgumentError, match=words):
        recipe(facts.pop("task"), **facts)


def test_a_recipe_loads_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, kudari.tune as t; t.recipe('regression', samples=9, parameters=9); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
