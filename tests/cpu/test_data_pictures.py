"""Folders of class folders of pictures."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits as sklearn_digits

from kudari.data import Pipeline, load_digits, load_path
from kudari.errors import ArgumentError, DataError


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Real digits 0, 1 and 2 as PNG files, 12 of each."""
    raw = sklearn_digits()
    root = tmp_path / "digits"
    for digit in range(3):
        for number, row in enumerate(np.flatnonzero(raw.target == digit)[:12]):
            save(root / str(digit) / f"{number:03}.png", (raw.images[row] * 15.9375).astype(np.uint8))
    return root


def test_class_folders_become_standardised_tensors(digits):
    bundle = load_path(digits, seed=1)
    assert bundle.task == "classification"
    assert bundle.kind == "image"
    assert bundle.classes == ("0", "1", "2")
    assert bundle.train.inputs.shape == (28, 1, 8, 8)
    assert bundle.train.inputs.dtype == torch.float32
    assert bundle.train.targets.dtype == torch.int64
    assert bundle.train.inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert bundle.train.inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert "28 training pictures and 8 validation pictures." in bundle.said


def test_split_keeps_the_shares_of_the_classes(digits):
    bundle = load_path(digits)
    assert torch.bincount(bundle.valid.targets).tolist() == [3, 3, 2]
    for name, target in zip(bundle.valid_names, bundle.valid.targets, strict=True):
        assert name.split("/")[0] == bundle.classes[target]


def test_same_seed_same_split_other_seed_other_split(digits):
    names = [load_path(digits, seed=seed).valid_names for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_pipeline_reads_new_files_as_training_did(digits):
    bundle = load_path(digits)
    pipeline = Pipeline.from_dict(json.loads(json.dumps(bundle.pipeline.to_dict())))
    assert pipeline == bundle.pipeline
    names, inputs = pipeline.encode([digits / name for name in bundle.valid_names])
    assert torch.equal(inputs, bundle.valid.inputs)
    assert names[0] == str(digits / bundle.valid_names[0])
    from_folder, more = pipeline.encode(digits)
    assert len(more) == 36
    assert from_folder[0] == "0/000.png"
    assert pipeline.encode(str(digits / "0" / "000.png"))[1].shape == (1, 1, 8, 8)


def test_pictures_come_back_as_png(digits):
    bundle = load_path(digits)
    png = bundle.pipeline.decode_picture(bundle.valid.inputs[0])
    again = np.asarray(Image.open(io.BytesIO(png)))
    assert np.array_equal(again, np.asarray(Image.open(digits / bundle.valid_names[0])))


def test_statistics_come_from_the_training_pictures_only(digits):
    root = digits.parent / "split"
    (root / "train").mkdir(parents=True)
    for digit in range(3):
        (digits / str(digit)).rename(root / "train" / str(digit))
        save(root / "val" / str(digit) / "white.png", np.full((8, 8), 255, dtype=np.uint8))
    bundle = load_path(root)
    assert len(bundle.train) == 36
    assert len(bundle.valid) == 3
    assert bundle.train.inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert any("val/" in sentence for sentence in bundle.said)


def test_a_test_folder_validates_only_where_there_is_no_other(digits):
    root = digits.parent / "split"
    for part in ("train", "valid", "test"):
        for digit in range(2):
            for number in range(3):
                save(root / part / str(digit) / f"{part}{number}.png", np.full((8, 8), 9, dtype=np.uint8))
    bundle = load_path(root)
    assert all("valid" in name for name in bundle.valid_names)
    assert any("test/ was left untouched" in sentence for sentence in bundle.said)


def test_classes_only_in_valid_are_refused(digits):
    root = digits.parent / "split"
    for where in ("train/a", "train/b", "valid/a", "valid/c"):
        save(root / where / "1.png", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match=r"valid/ has classes that train/ has not: c\."):
        load_path(root)


def test_all_broken_files_are_named_at_once(digits):
    whole = (digits / "1" / "003.png").read_bytes()
    (digits / "1" / "003.png").write_bytes(whole[: len(whole) // 2])
    (digits / "2" / "004.png").write_bytes(b"")
    (digits / "0" / "hello.jpg").write_text("not a picture at all")
    with pytest.raises(DataError) as caught:
        load_path(digits)
    text = str(caught.value)
    assert "3 pictures cannot be read" in text
    for name in ("1/003.png", "2/004.png", "0/hello.jpg"):
        assert name in text
    assert "on_bad=skip" in caught.value.fix
    bundle = load_path(digits, on_bad="skip")
    assert len(bundle.train) + len(bundle.valid) == 34
    assert any("3 unreadable pictures left out" in sentence for sentence in bundle.said)
    with pytest.raises(DataError, match="1 picture cannot be read"):
        bundle.pipeline.encode(digits / "1" / "003.png")


def test_truncated_jpeg_is_named(digits):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    save(digits / "1" / "photo.jpg", noise)
    whole = (digits / "1" / "photo.jpg").read_bytes()
    (digits / "1" / "photo.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"photo\.jpg: image file is truncated"):
        load_path(digits)


def test_mixed_sizes_are_scaled_and_said(digits):
    for side in (10, 16, 20):
        save(digits / "1" / f"side{side}.png", np.full((side, 2 * side), 7, dtype=np.uint8))
    bundle = load_path(digits)
    assert bundle.train.inputs.shape[1:] == (1, 8, 8)
    assert any("of 4 different sizes and are scaled to 8x8" in sentence for sentence in bundle.said)
    assert load_path(digits, image_size=12).train.inputs.shape[1:] == (1, 12, 12)
    assert load_path(digits, image_size=(6, 10)).train.inputs.shape[1:] == (1, 6, 10)
    with pytest.raises(ArgumentError, match="image_size=0"):
        load_path(digits, image_size=0)


def test_large_pictures_are_scaled_down_and_keep_their_proportions(tmp_path):
    for number in range(4):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", np.full((150, 300), 50 * number, dtype=np.uint8))
    bundle = load_path(tmp_path, valid_fraction=0.5)
    assert bundle.train.inputs.shape[1:] == (1, 64, 128)


def test_the_centre_of_a_wide_picture_is_kept(digits):
    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = 200
    save(digits / "wide.png", wide)
    pipeline = load_path(digits).pipeline
    _, inputs = pipeline.encode(digits / "wide.png")
    decoded = np.asarray(Image.open(io.BytesIO(pipeline.decode_picture(inputs[0]))))
    assert (decoded == 200).all()


def colour_of(path: Path, pipeline: Pipeline) -> list[int]:
    _, inputs = pipeline.encode(path)
    decoded = np.asarray(Image.open(io.BytesIO(pipeline.decode_picture(inputs[0]))))
    return decoded[4, 4].tolist()


def test_every_mode_of_pillow_becomes_colour(tmp_path):
    root = tmp_path / "data"
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    red[..., 0] = 255
    for number in range(4):
        save(root / "ab"[number % 2] / f"{number}.png", red * (number % 2))
    pipeline = load_path(root, valid_fraction=0.5).pipeline
    save(tmp_path / "grey.png", np.full((8, 8), 100, dtype=np.uint8))
    save(tmp_path / "palette.png", red, "P")
    save(tmp_path / "cmyk.jpg", red, "CMYK")
    save(tmp_path / "one.png", np.full((8, 8), 255, dtype=np.uint8), "1")
    save(tmp_path / "deep.png", np.full((8, 8), 65535, dtype=np.uint16))
    save(tmp_path / "clear.png", np.concatenate([red, np.zeros((8, 8, 1), dtype=np.uint8)], 2))
    save(tmp_path / "solid.png", np.concatenate([red, np.full((8, 8, 1), 255, dtype=np.uint8)], 2))
    Image.fromarray(red).save(
        tmp_path / "moving.gif", save_all=True, append_images=[Image.fromarray(red * 0)]
    )
    assert colour_of(tmp_path / "grey.png", pipeline) == [100, 100, 100]
    assert colour_of(tmp_path / "palette.png", pipeline) == [255, 0, 0]
    assert colour_of(tmp_path / "cmyk.jpg", pipeline)[0] > 200
    assert colour_of(tmp_path / "one.png", pipeline) == [255, 255, 255]
    assert colour_of(tmp_path / "deep.png", pipeline) == [255, 255, 255]
    assert colour_of(tmp_path / "clear.png", pipeline) == [255, 255, 255]  # laid on white
    assert colour_of(tmp_path / "solid.png", pipeline) == [255, 0, 0]
    assert colour_of(tmp_path / "moving.gif", pipeline) == [255, 0, 0]


def test_mixed_grey_and_colour_is_read_as_colour_and_said(digits):
    save(digits / "1" / "colour.png", np.zeros((8, 8, 3), dtype=np.uint8))
    save(digits / "1" / "clear.png", np.zeros((8, 8, 4), dtype=np.uint8))
    bundle = load_path(digits)
    assert bundle.train.inputs.shape[1] == 3
    assert any("36 of 38 pictures are grey" in sentence for sentence in bundle.said)
    assert any("1 picture with transparency" in sentence for sentence in bundle.said)


def test_rotation_marks_of_cameras_are_applied(digits):
    picture = Image.fromarray(np.repeat(np.array([[0] * 8, [255] * 8], dtype=np.uint8), 4, axis=0))
    exif = picture.getexif()
    exif[0x0112] = 6  # shown after a quarter turn
    picture.save(digits / "turned.jpg", exif=exif, quality=100)
    pipeline = load_path(digits).pipeline
    _, inputs = pipeline.encode(digits / "turned.jpg")
    decoded = np.asarray(Image.open(io.BytesIO(pipeline.decode_picture(inputs[0]))))
    assert decoded[0, 0] > 200  # the bright lower half is on the left now
    assert decoded[7, 7] < 50


def test_empty_class_folders_are_named(digits):
    (digits / "7").mkdir()
    (digits / "8").mkdir()
    (digits / "8" / "notes.txt").write_text("nothing here")
    with pytest.raises(DataError, match=r"No pictures in 2 class folders of .*: 7 and 8"):
        load_path(digits)


def test_hidden_folders_and_other_files_are_ignored(digits):
    (digits / ".cache").mkdir()
    (digits / "0" / "notes.txt").write_text("nothing here")
    (digits / "0" / ".DS_Store").write_text("nothing here")
    bundle = load_path(digits)
    assert bundle.classes == ("0", "1", "2")
    assert any(sentence.startswith("1 other file was ignored") for sentence in bundle.said)


def test_folders_without_two_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match="has no sub-folders"):
        load_path(tmp_path)
    save(tmp_path / "cat" / "1.png", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match="only one class folder, 'cat'"):
        load_path(tmp_path)
    save(tmp_path / "dog" / "1.png", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match="no class has two"):
        load_path(tmp_path)
    with pytest.raises(DataError, match="task=regression does not fit"):
        load_path(tmp_path, task="regression")


def test_a_class_with_one_picture_is_trained_on_and_said(digits):
    save(digits / "9" / "only.png", np.zeros((8, 8), dtype=np.uint8))
    bundle = load_path(digits)
    assert 3 in bundle.train.targets
    assert 3 not in bundle.valid.targets
    assert any("1 class has a single sample" in sentence and "9" in sentence for sentence in bundle.said)
    assert any("Imbalanced: 12 of '0', 1 of '9'" in sentence for sentence in bundle.said)


def test_what_cannot_be_predicted_is_said(digits, tmp_path):
    pipeline = load_path(digits).pipeline
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        pipeline.encode(tmp_path / "empty")
    with pytest.raises(DataError, match=r"There is no .*gone\.png"):
        pipeline.encode([tmp_path / "gone.png", digits])
    with pytest.raises(DataError, match="No pictures were given"):
        pipeline.encode([])


def test_answers_are_class_names_with_probabilities(digits):
    pipeline = load_path(digits).pipeline
    answer = pipeline.describe_output(torch.tensor([[0.0, 3.0, 1.0]]))[0]
    assert answer["prediction"] == "1"
    assert list(answer["probabilities"]) == ["1", "2", "0"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    with pytest.raises(ArgumentError, match=r"\(1, 4\) are not \(N, 3\)"):
        pipeline.describe_output(torch.zeros(1, 4))


def test_data_that_do_not_fit_into_memory_are_refused_before_reading(digits, monkeypatch):
    monkeypatch.setattr("kudari.data.image_folder._available_bytes", lambda: 1000)
    with pytest.raises(DataError, match="Pass a smaller image_size"):
        load_path(digits)


def test_built_in_digits_are_split_in_equal_shares():
    bundle = load_digits()
    assert len(bundle.train) == 1437
    assert len(bundle.valid) == 360
    assert bundle.valid.targets.bincount().tolist() == pytest.approx([36] * 10, abs=1)
    assert bundle.train.inputs.shape[1:] == (1, 8, 8)
    assert load_digits(0).valid_names == bundle.valid_names != load_digits(1).valid_names
    png = bundle.pipeline.decode_picture(bundle.train.inputs[0])
    assert Image.open(io.BytesIO(png)).size == (8, 8)


def test_a_folder_of_tables_is_answered_with_the_file_to_pass(tmp_path):
    (tmp_path / "iris.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"Pass the file itself: .*iris\.csv"):
        load_path(tmp_path)


def test_paths_that_lead_nowhere_are_refused(tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        load_path(tmp_path / "gone")
    (tmp_path / "data.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match="not known by its ending"):
        load_path(tmp_path / "data.xlsx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"valid_fraction": 0.0}, "valid_fraction=0.0"),
        ({"valid_fraction": 1.0}, "valid_fraction=1.0"),
        ({"seed": -1}, "seed=-1"),
        ({"task": "clasification"}, "Did you mean 'classification'"),
        ({"on_bad": "ignore"}, "Allowed: error, skip"),
    ],
)
def test_arguments_out_of_range_are_refused(digits, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        load_path(digits, **arguments)
