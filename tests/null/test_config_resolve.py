"""Claims about filling the gaps: what the recipe chooses, what stays the user's, and what the file says."""

import dataclasses
import math
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kudari.cli._config.load import validate
from kudari.cli._config.resolve import Seen, check_data, model_spec, resolve
from kudari.cli._config.schema import Config
from kudari.cli._config.source import override, parse_value, read_text
from kudari.cli._config.write import to_yaml, values_of
from kudari.errors import ConfigError
from kudari.tune import recipe

MLP = {"name": "mlp", "in_features": 64, "widths": [128], "out_features": 10, "dropout": 0.2}
SEEN = Seen("image", "classification", 1437, (1, 8, 8), 9610)


def resolved(text, *words, seen=SEEN, spec=MLP):
    loaded = validate(override(read_text(text, "f.yaml"), words))
    return resolve(loaded, model_spec(loaded.config, seen.shape, spec), seen)


def choice(result, key):
    return next(c for c in result.choices if c.key == key)


def test_every_gap_is_filled_with_a_reason():
    result = resolved("data: digits\n")
    config = result.config
    assert (config.model.name, config.model.widths, config.batch_size) == ("mlp", [128], 64)
    assert config.optimizer.model_dump()["betas"] == [0.9, 0.999]
    assert result.steps == config.epochs * math.ceil(1437 / 64)
    assert all(c.why for c in result.choices)
    assert {c.by for c in result.choices} == {"recipe"}


def test_what_the_user_set_stays_and_is_marked():
    result = resolved("data: digits\noptimizer:\n  lr: 0.5\nclip_norm: null\n", "epochs=2", "seed=3")
    assert result.config.optimizer.lr == 0.5
    lr = choice(result, "optimizer.lr")
    assert (lr.value, lr.by, lr.why) == ("0.5", "you", "Set in f.yaml:3.")
    assert choice(result, "epochs").why == "Set on the command line."
    assert choice(result, "clip_norm").by == "you"
    assert choice(result, "seed").by == "you"
    assert choice(result, "batch_size").by == "recipe"
    assert not {"optimizer.lr", "epochs", "clip_norm"} & set(result.config.from_recipe)


def test_a_null_is_a_gap_for_the_recipe_to_fill():
    result = resolved("data: digits\noptimizer: {lr: null}\nepochs: null\n")
    assert result.config.optimizer.lr is not None
    assert choice(result, "optimizer.lr").by == "recipe"


def test_steps_take_the_place_of_epochs():
    result = resolved("data: digits\nsteps: 7\n")
    assert (result.config.epochs, result.steps) == (None, 7)
    assert "epochs" not in {c.key for c in result.choices}


def test_accumulation_makes_an_epoch_shorter():
    assert resolved("data: digits\nepochs: 2\nbatch_size: 10\naccumulate: 4\n").steps == 2 * math.ceil(
        1437 / 40
    )


def test_another_optimizer_gets_its_own_start():
    result = resolved("data: digits\n", "optimizer=SGD")
    values = result.config.optimizer.model_dump()
    assert (values["name"], values["momentum"]) == ("sgd", 0.9)
    assert values["lr"] > 0.01
    assert "betas" not in values


def test_regression_gets_its_loss_and_no_smoothing():
    seen = dataclasses.replace(SEEN, kind="array", task="regression")
    result = resolved("data: digits\n", seen=seen)
    assert (result.config.loss.name, result.config.loss.label_smoothing) == ("mse", None)


def test_a_model_argument_names_the_model():
    wide = resolved("data: digits\n", "model.widths=[8]")
    assert (wide.config.model.name, wide.config.model.widths) == ("mlp", [8])


def test_pictures_for_a_cnn_are_shifted_by_an_eighth():
    spec = {"name": "cnn", "in_channels": 3, "out_features": 2, "width": 32, "depth": 3, "downsample": 1}
    seen = Seen("image", "classification", 500, (3, 32, 48), 10**5)
    result = resolved("data: .\n", seen=seen, spec=spec)
    assert result.config.data.random_shift == 4
    assert result.config.data.random_flip is False


def test_what_was_inferred_from_the_data_is_written_down():
    pictures = dataclasses.replace(SEEN, shape=(1, 32, 48))
    data = resolved("data: .\n", seen=pictures).config.data
    assert (data.image_size, data.task, data.target) == ((32, 48), "classification", None)
    table = dataclasses.replace(SEEN, kind="table", task="regression", shape=(5,), target="price")
    data = resolved("data: .\n", seen=table).config.data
    assert (data.image_size, data.task, data.target) == (None, "regression", "price")


def test_a_warm_up_longer_than_the_run_is_refused_with_its_place():
    with pytest.raises(ConfigError, match=r"f\.yaml:2: schedule: .*500"):
        resolved("data: digits\nschedule: warmup(500) >> cosine()\nsteps: 100\n")


def test_what_the_data_turn_out_to_be_is_checked_before_a_model_is_built():
    loaded = validate(read_text("data: .\nmodel: cnn\nloss: mse\n", "f.yaml"))
    with pytest.raises(ConfigError) as caught:
        check_data(loaded, "table", "classification")
    assert [p.key for p in caught.value.problems] == ["model.name", "loss.name"]


def again(result):
    """Write the resolved configuration and resolve what was written."""
    return validate(read_text(to_yaml(values_of(result.config)), "config.yaml"))


def test_the_file_reads_back_to_the_same_configuration():
    result = resolved("data: digits\noptimizer: lion\n", "epochs=3", "device=cpu")
    loaded = again(result)
    assert loaded.config == result.config
    second = resolve(loaded, model_spec(loaded.config, SEEN.shape, MLP), SEEN)
    assert second.config == result.config
    assert second.steps == result.steps


def test_a_run_from_its_own_file_still_knows_who_decided():
    result = resolved("data: digits\n", "optimizer.lr=0.01")
    loaded = again(result)
    second = resolve(loaded, model_spec(loaded.config, SEEN.shape, MLP), SEEN)
    who = {c.key: c.by for c in result.choices}
    assert {c.key: c.by for c in second.choices if c.key in who} == who


def test_a_change_on_the_command_line_takes_a_key_from_the_recipe():
    text = to_yaml(values_of(resolved("data: digits\n").config))
    result = resolved(text, "optimizer.lr=0.02")
    assert choice(result, "optimizer.lr").by == "you"
    assert "optimizer.lr" not in result.config.from_recipe


def test_every_key_is_in_the_file():
    written = read_text(to_yaml(values_of(resolved("data: digits\n").config)), "f").values
    assert set(written) == set(Config.model_fields)
    assert set(written["data"]) == set(Config.model_fields["data"].default.__class__.model_fields)


def test_the_header_is_a_comment_with_the_command():
    text = to_yaml({"seed": 1}, "kudari train runs/x-1/config.yaml")
    assert "# Train the same again:      kudari train runs/x-1/config.yaml\n" in text
    assert read_text(text, "f").values == {"seed": 1}


TEXTS = st.text(string.ascii_letters + string.digits + " .:-_#'\"*&![]{}é\n\t=~%@", min_size=0, max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"), TEXTS | NUMBERS | st.none() | st.booleans() | st.lists(TEXTS | NUMBERS)
    )
)
def test_whatever_is_written_reads_back_the_same(values):
    read = read_text(to_yaml(values), "f")
    assert read.problems == []
    assert read.values == values
    assert {k: type(v) for k, v in read.values.items()} == {k: type(v) for k, v in values.items()}


@pytest.mark.parametrize(
    "text", ["1e-3", "no", "on", "012", "1:30", "2020-01-01", "null", "true", "0x10", "1_000", ""]
)
def test_names_that_look_like_something_else_come_back_as_names(text):
    assert read_text(to_yaml({"target": text}), "f").values == {"target": text}


# --- the recipe


@pytest.mark.parametrize("samples", [1, 2, 10, 100, 1437, 10**6])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_recipe_fits_any_number_of_samples(samples, task):
    found = {c.key: parse_value(c.value) for c in recipe(task, samples=samples, parameters=1000)}
    assert 1 <= found["batch_size"] <= min(64, max(samples, 1))
    assert found["epochs"] >= 10
    assert found["optimizer.lr"] > 0


def test_a_recipe_keeps_to_the_batch_size_it_is_given():
    found = {c.key: c.value for c in recipe("classification", samples=1000, parameters=1, batch_size=100)}
    assert (found["batch_size"], found["epochs"]) == ("100", "60")


def test_large_models_take_smaller_steps():
    def lr(parameters):
        found = recipe("classification", samples=1000, parameters=parameters)
        return next(float(c.value) for c in found if c.key == "optimizer.lr")

    assert lr(10**8) < lr(10**4)


def test_every_choice_has_a_reason():
    for optimizer in ("adamw", "adam", "lion", "sgd", "something_new"):
        for c in recipe("classification", samples=999, parameters=10, optimizer=optimizer, picture_side=32):
            assert c.why.endswith("."), c.key
            assert c.by == "recipe"


def test_an_optimizer_the_recipe_does_not_know_keeps_its_own_defaults():
    keys = {c.key for c in recipe("regression", samples=100, parameters=10, optimizer="something_new")}
    assert not any(key.startswith("optimizer.") and key != "optimizer.name" for key in keys)
