"""Claims about what a configuration may not say: every problem with its place, its key and the way out."""

import pytest

from kudari.cli._config.load import find_base, load, load_resumed, preset_names, split_words, validate
from kudari.cli._config.source import override, read_text
from kudari.errors import ConfigError


def problems(text: str, *words: str) -> list[str]:
    try:
        validate(override(read_text(text, "f.yaml"), words))
    except ConfigError as error:
        return [str(p) for p in error.problems]
    return []


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "houses.csv").write_text("a,price\n1,2\n")


def test_the_smallest_configuration_is_accepted():
    assert problems("data: digits\n") == []


def test_all_problems_are_reported_at_once_in_the_order_of_the_text():
    found = problems(
        "data: digits\nepoch: 3\noptimizer:\n  lr: fast\n  name: adamx\nmodel: {name: cnn, widths: [8]}\n",
        "seed=-1",
    )
    assert [p.split(": ")[0] for p in found] == [
        "f.yaml:2",
        "f.yaml:4",
        "f.yaml:5",
        "f.yaml:6",
        "command line",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("epoch: 3", "epoch: is not a key of a configuration. Did you mean 'epochs'?"),
        ("widths: [3]", "widths: is not a key of a configuration. Did you mean 'model.widths'?"),
        ("zzz: 1", "zzz: is not a key of a configuration. Keys: data, model, loss"),
        ("model: {width: 8, widht: 8}", "model.widht: is not a key of model. Did you mean 'width'?"),
        ("epochs: 0", "epochs: is 0; it must be a whole number of 1 or more"),
        ("epochs: ten", "epochs: is 'ten'; it must be a whole number of 1 or more"),
        (
            "epochs: 10.0",
            "epochs: is 10.0; it must be a whole number of 1 or more (passes over the data). Write 10.",
        ),
        ("epochs: '10'", "Write 10, without quotes."),
        ("steps: 1_000", "Write 1000, without quotes."),
        ("epochs: true", "epochs: is true; it must be"),
        ("batch_size: [1]", "batch_size: is [1]; it must be"),
        (
            "optimizer: {lr: '1e-3'}",
            "optimizer.lr: is '1e-3'; it must be a number above 0 (the peak learning rate). Write 1e-3",
        ),
        ("optimizer: {lr: 0}", "optimizer.lr: is 0; it must be a number above 0"),
        ("optimizer: {lr: .nan}", "optimizer.lr: is nan; it must be a number above 0"),
        ("optimizer: {lr: .inf}", "optimizer.lr: is inf; it must be a number above 0"),
        ("optimizer: {weight_decay: -1}", "optimizer.weight_decay: is -1; it must be a number of 0 or more"),
        ("optimizer: 3", "optimizer.name: is 3; it must be the name of an optimizer"),
        ("optimizer: adamx", "optimizer.name: there is no optimizer 'adamx'. Did you mean 'adamax'?"),
        ("optimizer: {beta: 1}", "optimizer.beta: AdamW has no such hyper-parameter. Did you mean 'betas'?"),
        (
            "optimizer: {name: lion, momentum: 1}",
            "optimizer.momentum: Lion has no such hyper-parameter. It takes lr, betas",
        ),
        ("optimizer: {betas: [0.9, 1]}", "optimizer.betas: is 1; allowed is 0 <= betas[1] < 1."),
        (
            "optimizer: {betas: 0.9}",
            "optimizer.betas: is 0.9; it must be a list of 2 numbers such as [0.9, 0.999].",
        ),
        ("optimizer: {betas: [0.9, no]}", "optimizer.betas: is 'no'; it must be a number."),
        ("optimizer: {amsgrad: yes}", "optimizer.amsgrad: is 'yes'; it must be false or true."),
        ("optimizer: {eps: small}", "optimizer.eps: is 'small'; it must be a number."),
        ("optimizer: {name: sgd, nesterov: true}", "optimizer.name: SGD: nesterov=True is not allowed"),
        (
            "schedule: warmup_cosin",
            "schedule: There is no schedule 'warmup_cosin'. Did you mean 'warmup_cosine'?",
        ),
        ("schedule: cosine(floor=2)", "schedule: "),
        ("schedule: __import__('os')", "schedule: "),
        ("threads: many", "threads: is 'many'; it must be auto, or a whole number of 1 or more."),
        ("threads: 0", "threads: is 0; it must be auto"),
        ("device: gpu", "device: is 'gpu'; it must be auto, cpu, cuda"),
        ("precision: fp16", "precision: is 'fp16'; it must be fp32 or bf16. Did you mean 'bf16'?"),
        ("loss: cross-entropy", "loss.name: is 'cross-entropy'; it must be cross_entropy for classes"),
        (
            "loss: mse",
            "loss.name: mse is a regression loss, and the target holds classes. Use cross_entropy.",
        ),
        ("loss: {label_smoothing: 1}", "loss.label_smoothing: is 1; it must be a number from 0 up to"),
        ("metrics: [accuracy, rmse]", "metrics.1: rmse is for regression, and the task is classification."),
        ("metrics: [acuracy]", "metrics.0: there is no metric 'acuracy'. Did you mean 'accuracy'?"),
        ("model: transformer", "model.name: is 'transformer'; it must be mlp or cnn."),
        ("model: {widths: [64, 0]}", "model.widths.1: is 0; it must be a list of layer sizes"),
        ("model: {name: cnn, widths: [64]}", "model.widths: belongs to model=mlp, and the model is cnn"),
        ("model: {name: mlp, depth: 3}", "model.depth: belongs to model=cnn, and the model is mlp"),
        ("model: {widths: [8], depth: 3}", "model.name: is missing: widths belong to an mlp"),
        (
            "model: {dropout: 1.0}",
            "model.dropout: is 1.0; it must be a number from 0 up to, not including, 1.",
        ),
        (
            "model: {name: cnn, activation: gelu}",
            "model.activation: can be chosen for an mlp; the cnn uses relu.",
        ),
        ("clip_norm: 0", "clip_norm: is 0; it must be a number above 0"),
        ("seed: -1", "seed: is -1; it must be a whole number of 0 or more."),
        ("out: 3", "out: is 3; it must be the folder of the run"),
        ("from_recipe: [optimizer.lr, speed]", "from_recipe.1: 'speed' is not a key."),
    ],
)
def test_each_mistake_is_named_with_line_key_and_what_is_allowed(line, expected):
    (problem,) = problems(f"data: digits\n{line}\n")
    assert problem.startswith("f.yaml:2: ")
    assert expected in problem


def test_the_same_mistake_on_the_command_line_says_so():
    assert problems("data: digits\n", "epoch=3") == [
        "command line: epoch: is not a key of a configuration. Did you mean 'epochs'?"
    ]


def test_two_lengths_are_refused_with_both_places():
    (problem,) = problems("data: digits\nepochs: 3\n", "steps=100")
    assert problem.startswith("command line: steps: the length of the run is given twice: epochs (f.yaml:2)")
    assert problems("data: digits\nepochs: 3\n", "steps=100", "epochs=null") == []


def test_nothing_to_train_on_is_refused():
    (problem,) = problems("epochs: 3\n")
    assert problem.startswith("f.yaml:1: data.path: is missing: nothing says what to train on.")


def test_data_that_are_not_there_are_refused_with_the_nearest_name(table):
    (problem,) = problems("data: house.csv\n")
    assert problem.startswith("f.yaml:1: data.path: there is no 'house.csv' in ")
    assert problem.endswith("Did you mean 'houses.csv'?")
    assert problems("data: digit\n")[0].endswith("Did you mean 'digits'?")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "model: cnn",
            "model.name: a cnn looks for neighbouring pixels, and a table has none. Use model=mlp",
        ),
        (
            "data: {path: houses.csv, image_size: 32}",
            "data.image_size: is for pictures, and the data are a table.",
        ),
        ("data: {path: houses.csv, random_flip: true}", "data.random_flip: is for pictures"),
        (
            "data: {path: houses.csv, task: regression}\nloss: cross_entropy",
            "loss.name: cross_entropy is a classification",
        ),
        (
            "data: {path: houses.csv, task: regression}\nloss: {label_smoothing: 0.1}",
            "loss.label_smoothing: belongs to",
        ),
        (
            "data: {path: houses.csv, task: regresion}",
            "data.task: is 'regresion'; it must be classification or regression.",
        ),
        (
            "data: {path: houses.csv, target: 2020}",
            'Put quotes around a name that looks like something else: "2020".',
        ),
        (
            "data: {path: houses.csv, image_size: [3]}",
            "data.image_size: is [3]; it must be a number of pixels",
        ),
        (
            "data: {path: houses.csv, valid_fraction: 1}",
            "data.valid_fraction: is 1; it must be a number between 0 and 1",
        ),
    ],
)
def test_what_does_not_fit_a_table_is_refused_before_it_is_read(table, line, expected):
    text = line if line.startswith("data") else f"data: houses.csv\n{line}"
    (problem,) = problems(text)
    assert expected in problem


@pytest.mark.parametrize("key", ["target: x", "task: regression", "image_size: 8", "valid_fraction: 0.5"])
def test_the_built_in_digits_have_their_data_settled(key):
    (problem,) = problems(f"data: {{path: digits, {key}}}\n")
    assert "is for your own data" in problem


def test_a_wrong_value_hides_no_other_problem_and_is_not_reported_twice():
    found = problems(
        "data: digits\nmodel: {name: cnn, widths: wide}\nloss: {name: mse, label_smoothing: 2}\n"
    )
    assert len(found) == 3
    assert sorted(p.split(": ")[1] for p in found) == ["loss.label_smoothing", "loss.name", "model.widths"]


def test_one_preset_or_file_at_most():
    assert split_words(["digits", "a=1", "b.c=2"]) == ("digits", ["a=1", "b.c=2"])
    with pytest.raises(ConfigError, match=r"only one preset .* 'digits' is one already"):
        split_words(["digits", "other.yaml"])


def test_the_default_is_the_digits_unless_data_are_given():
    assert find_base(None, []).values == {"data": {"path": "digits"}}
    assert find_base(None, ["epochs=3"]).values == {"data": {"path": "digits"}}
    assert find_base(None, ["data=x.csv"]).values == {}
    assert find_base(None, ["data.path=x.csv"]).values == {}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name):
    assert load([name]).config.data.path is not None


def test_data_in_the_place_of_a_configuration_get_the_right_command(table):
    with pytest.raises(ConfigError, match=r"To train on it: kudari train data=houses.csv"):
        load(["houses.csv"])
    with pytest.raises(ConfigError, match="is data, not a configuration"):
        load(["."])


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match=r"is neither a preset \(digits.*Did you mean 'digits'"):
        load(["digit"])


def test_a_missing_configuration_file_is_named():
    with pytest.raises(ConfigError, match=r"my\.yaml: \(file\): there is no such file"):
        load(["my.yaml"])


def test_only_what_leaves_the_trajectory_alone_may_change_on_resume(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: digits\nepochs: 3\n")
    assert load_resumed(path, ["threads=2", "save_every=10"]).config.threads == 2
    with pytest.raises(ConfigError) as caught:
        load_resumed(path, ["optimizer.lr=1", "epochs=9", "other.yaml"])
    keys = [p.key for p in caught.value.problems]
    assert keys == ["other.yaml", "optimizer.lr", "epochs"]
    assert f"Start a new one: kudari train {path} epochs=9" in str(caught.value)
