"""NumPy files with X and y, and what is inferred from targets."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

from kudari.data import Pipeline, load_path
from kudari.data.split import random_split
from kudari.data.target import read_target
from kudari.errors import ArgumentError, DataError


@pytest.fixture
def cancer():
    raw = datasets.load_breast_cancer()
    return raw.data, raw.target


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_flat_arrays_become_standardised_tensors(tmp_path, cancer):
    x, y = cancer
    bundle = load_path(save(tmp_path / "cancer.npz", X=x, y=y))
    assert bundle.kind == "array"
    assert bundle.classes == ("0", "1")
    assert bundle.train.inputs.shape == (455, 30)
    assert bundle.train.inputs.dtype == torch.float32
    train = bundle.train.inputs.double()
    assert train.mean(0).abs().max() < 1e-5
    assert (train.std(0, correction=0) - 1).abs().max() < 1e-5
    share = bundle.valid.targets.double().mean() - bundle.train.targets.double().mean()
    assert abs(share) < 1 / len(bundle.valid)


def test_pipeline_reads_new_arrays_as_training_did(tmp_path, cancer):
    x, y = cancer
    bundle = load_path(save(tmp_path / "cancer.npz", X=x, y=y))
    pipeline = Pipeline.from_dict(json.loads(json.dumps(bundle.pipeline.to_dict())))
    assert pipeline == bundle.pipeline
    rows = [int(name.removeprefix("row ")) for name in bundle.valid_names]
    np.save(tmp_path / "new.npy", x[rows])
    assert torch.equal(pipeline.encode(tmp_path / "new.npy")[1], bundle.valid.inputs)
    names, inputs = pipeline.encode([save(tmp_path / "new.npz", X=x[:2]), tmp_path / "new.npy"])
    assert len(inputs) == 2 + len(rows)
    assert names[:3] == ["new.npz row 0", "new.npz row 1", "new.npy row 0"]
    assert pipeline.decode_picture(inputs[0]) is None
    with pytest.raises(DataError, match=r"shape \(7,\); training had \(30,\)"):
        pipeline.encode(save(tmp_path / "new.npz", X=x[:, :7]))
    with pytest.raises(DataError, match="has no X: it holds Z"):
        pipeline.encode(save(tmp_path / "new.npz", Z=x))
    with pytest.raises(DataError, match="1 NaN"):
        pipeline.encode(save(tmp_path / "new.npz", X=np.full((1, 30), [np.nan] + [0.0] * 29)))


def test_nan_and_infinite_inputs_are_counted_and_refused_or_left_out(tmp_path, cancer):
    x, y = cancer[0].copy(), cancer[1]
    x[5, 1] = x[9, 2] = x[9, 3] = np.nan
    x[7, 0] = np.inf
    path = save(tmp_path / "bad.npz", X=x, y=y)
    with pytest.raises(DataError) as caught:
        load_path(path)
    assert "X has 3 NaN and 1 infinite values in 3 of 569 rows: row 5, 7 and 9" in str(caught.value)
    assert "on_bad=skip" in caught.value.fix
    bundle = load_path(path, on_bad="skip")
    assert len(bundle.train) + len(bundle.valid) == 566
    assert any("3 rows with NaN or infinities left out" in sentence for sentence in bundle.said)


def test_nan_targets_are_refused(tmp_path):
    y = np.arange(20.0) / 3
    y[4] = np.nan
    with pytest.raises(DataError, match="y has 1 NaN and 0 infinite values in 1 of 20 rows: row 4"):
        load_path(save(tmp_path / "bad.npz", X=np.zeros((20, 1)), y=y))


def test_python_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    np.savez(tmp_path / "trap.npz", X=np.zeros((4, 1)), y=np.array([Trap()] * 4, dtype=object))
    with pytest.raises(DataError, match="holds Python objects"):
        load_path(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken", b"\x93NUMPYbroken"])
def test_files_that_are_no_arrays_are_refused(tmp_path, content):
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"is no NumPy file|cannot be read as NumPy arrays"):
        load_path(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((4, 2))}, "no array 'y': it holds X"),
        ({"features": np.zeros((4, 2)), "y": np.zeros(4)}, "no array 'X'"),
        ({"X": np.zeros((4, 2)), "y": np.zeros(3)}, r"X has shape \(4, 2\) and y has \(3,\)"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "empty"),
        ({"X": np.array(["a", "b"]), "y": np.zeros(2)}, "numbers are needed"),
        ({"X": np.zeros((4, 2)), "y": np.ones(4)}, "only one class, '1'"),
        ({"X": np.zeros((2, 2)), "y": np.array(["a", "b"])}, "no class has two"),
        ({"X": np.full((20, 1), 1e308), "y": [0, 1] * 10}, "too large to average"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        load_path(save(tmp_path / "t.npz", **arrays))


@pytest.mark.parametrize("layout", ["NHW uint8", "NHWC", "NCHW"])
def test_pictures_in_arrays_are_put_channels_first_and_come_back(tmp_path, layout):
    generator = np.random.default_rng(0)
    channels = 1 if layout == "NHW uint8" else 3
    pixels = generator.integers(0, 256, (40, 8, 10, channels)).astype(np.uint8)
    raw = {"NHW uint8": pixels[..., 0], "NHWC": pixels, "NCHW": pixels.transpose(0, 3, 1, 2)}[layout]
    bundle = load_path(save(tmp_path / "t.npz", X=raw, y=np.arange(40) % 2))
    assert bundle.train.inputs.shape == (32, channels, 8, 10)
    row = int(bundle.valid_names[0].removeprefix("row "))
    png = bundle.pipeline.decode_picture(bundle.valid.inputs[0])
    back = np.asarray(Image.open(io.BytesIO(png))).reshape(8, 10, channels)
    assert np.abs(back.astype(int) - pixels[row]).max() <= 1


def test_constant_features_stay_finite(tmp_path):
    x = np.column_stack([np.full(20, 7.3), np.arange(20)])
    bundle = load_path(save(tmp_path / "t.npz", X=x, y=np.arange(20) % 2))
    assert bundle.train.inputs[:, 0].abs().max() < 1e-6


def test_given_parts_are_respected(tmp_path, cancer):
    x, y = cancer
    path = save(tmp_path / "t.npz", x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    bundle = load_path(path)
    assert len(bundle.train) == 400
    assert torch.equal(bundle.valid.targets, torch.from_numpy(y[400:]))
    path = save(tmp_path / "t.npz", X_train=x[:9], y_train=y[:9] * 0, X_val=x[9:], y_val=y[9:])
    with pytest.raises(DataError, match="classes that training has not: 1"):
        load_path(path)


def test_several_values_are_regressed_together(tmp_path):
    raw = datasets.load_linnerud()
    bundle = load_path(save(tmp_path / "t.npz", X=raw.data, y=raw.target))
    assert bundle.task == "regression"
    assert bundle.train.targets.shape == (16, 3)
    answer = bundle.pipeline.describe_output(bundle.valid.targets)[0]["prediction"]
    row = int(bundle.valid_names[0].removeprefix("row "))
    assert list(answer.values()) == pytest.approx(raw.target[row].tolist())
    assert list(answer) == ["y_0", "y_1", "y_2"]
    with pytest.raises(ArgumentError, match="no units"):
        load_path(save(tmp_path / "c.npz", X=raw.data, y=[0, 1] * 10)).pipeline.to_units(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (np.array(["b", "a"] * 3), "classification", ("a", "b")),
        (np.array([True, False] * 3), "classification", ("False", "True")),
        (np.array([10, 9, 2] * 4), "classification", ("2", "9", "10")),
        (np.array([1.0, 2.0] * 4), "classification", ("1", "2")),
        (np.eye(3)[[0, 1, 2, 2, 1]], "classification", ("0", "1", "2")),
        (np.repeat(np.arange(100), 10), "classification", tuple(map(str, range(100)))),
        (np.arange(100), "regression", ()),
        (np.repeat(np.arange(100) * 2, 10), "regression", ()),
        (np.array([0.5, 1.0] * 4), "regression", ()),
        (np.random.default_rng(0).normal(size=(9, 2)), "regression", ()),
    ],
)
def test_the_task_is_inferred_and_said(values, task, classes):
    target = read_target(values, ["y"], None)
    assert target.task == task
    assert target.classes == classes
    assert any(task in sentence or "one-hot" in sentence for sentence in target.said)


def test_text_cannot_be_regressed():
    with pytest.raises(DataError, match="'high', which is not a number"):
        read_target(np.array(["1.5", "high", "2"]), ["level"], "regression")


@pytest.mark.parametrize("seed", range(5))
def test_split_is_exact_stratified_and_without_overlap(seed):
    groups = np.random.default_rng(seed).choice(4, 101, p=[0.6, 0.3, 0.07, 0.03])
    split = random_split(groups, 0.2, seed)
    assert len(split.valid) == 21  # the next whole number above 20.2
    assert sorted([*split.train, *split.valid]) == list(range(101))
    sizes, valid = np.bincount(groups), np.bincount(groups[split.valid], minlength=4)
    assert (np.abs(valid - 0.2 * sizes) <= 1).all()
    assert set(groups[split.train]) == set(groups)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_both_parts_get_samples_for_any_fraction(fraction):
    split = random_split(np.array([0, 0, 0, 1, 1, 2]), fraction, 0)
    assert len(split.valid) >= 1
    assert set(np.array([0, 0, 0, 1, 1, 2])[split.train]) == {0, 1, 2}


def test_pipelines_of_other_versions_are_refused():
    with pytest.raises(DataError, match="version 99"):
        Pipeline.from_dict({"version": 99})
    with pytest.raises(DataError, match="Did you mean 'table'"):
        Pipeline.from_dict({"version": 1, "inputs": {"kind": "tables"}, "outputs": {}})
    with pytest.raises(DataError, match="incomplete"):
        Pipeline.from_dict({"version": 1, "inputs": {"kind": "image"}, "outputs": {}})
