import json
from dataclasses import replace
from pathlib import Path

import pytest

from qmargin.backbones import MobileFaceNetConfig
from qmargin.data import ImageFolders, ManifestFile
from qmargin.losses import (
    AdditiveMargin,
    AlphaLoss,
    AngularMargin,
    LogPriorMargin,
    Margin,
    NoMargin,
    Ramp,
    ReferenceAngularMargin,
    ReferenceMargin,
    ScheduledLoss,
)
from qmargin.recipes import RECIPES, find_recipe
from qmargin.training import AveragingConfig, TrainConfig, ValidationConfig
from qmargin.training.codec import differing, flatten, from_json, places, to_json


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_with_every_loss_survives_the_round_trip(recipe: str) -> None:
    for loss in RECIPES[recipe].losses:
        config = RECIPES[recipe].with_loss(loss)
        assert from_json(to_json(config), "here") == config


@pytest.mark.parametrize(
    "margin",
    [NoMargin(), AdditiveMargin(0.2), AngularMargin(0.3, True), ReferenceMargin(0.1), ReferenceAngularMargin(0.2),
     LogPriorMargin(2.0)],
    ids=lambda margin: type(margin).__name__,
)  # fmt: skip
def test_the_kind_of_margin_is_written_down(tiny: TrainConfig, margin: Margin) -> None:
    loss = ScheduledLoss(name="x", final=AlphaLoss(1.25, 16.0, margin), alpha=Ramp(start=1.0, end=0.5))
    config = replace(tiny, loss=loss)
    assert json.loads(to_json(config))["loss"]["final"]["margin"]["kind"] == type(margin).__name__
    assert from_json(to_json(config), "here") == config


def test_other_members_of_the_unions_survive_too(tiny: TrainConfig) -> None:
    source = ImageFolders(train=Path("a"), test=Path("b"))
    backbone = MobileFaceNetConfig(height=28, input_width=23, channels=1, embedding_dim=16)
    config = replace(tiny, data=replace(tiny.image_data, source=source), backbone=backbone)
    assert from_json(to_json(config), "here") == config


def test_an_unknown_key_is_refused_by_name(tiny: TrainConfig) -> None:
    tree = json.loads(to_json(tiny))
    tree["optimizer"]["learning_rat"] = 0.1
    with pytest.raises(ValueError, match=r"run/config.json is not a valid config: .*learning_rat"):
        from_json(json.dumps(tree), "run/config.json")


def test_a_missing_key_a_wrong_type_and_a_bad_range_are_refused_by_name(tiny: TrainConfig) -> None:
    for change, text in (
        ({"recipe": None}, "recipe"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
    ):
        tree = {**json.loads(to_json(tiny)), **change}
        if change == {"recipe": None}:
            del tree["recipe"]
        with pytest.raises(ValueError, match=text):
            from_json(json.dumps(tree), "c.json")


def test_a_config_of_before_there_was_a_choice_of_heads_is_read(tiny: TrainConfig) -> None:
    tree = json.loads(to_json(tiny))
    del tree["head"], tree["max_steps"]
    assert from_json(json.dumps(tree), "c.json") == tiny


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(ValueError, match=r"c.json is not JSON .* config.json of a run"):
        from_json("{", "c.json")


def test_flatten_names_every_leaf_and_differing_finds_the_change(tiny: TrainConfig) -> None:
    other = replace(tiny, seed=5, optimizer=replace(tiny.optimizer, momentum=0.5))
    assert flatten(tiny)["optimizer.momentum"] == "0.9"
    assert flatten(tiny)["loss.final.margin"] == "ReferenceMargin"
    assert flatten(tiny)["backbone.blocks"] == "(1, 1, 1, 1)"
    bins = replace(tiny, validation=ValidationConfig(every=1, bins=(Path("/a/lfw.bin"), Path("b.bin"))))
    assert flatten(bins)["validation.bins"] == "(/a/lfw.bin, b.bin)"
    assert from_json(to_json(bins), "config.json") == bins
    assert differing(tiny, tiny) == []
    assert sorted(differing(tiny, other)) == ["optimizer.momentum", "seed"]


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("epochs", 3.7, "expected int, got 3.7"),
        ("epochs", True, "expected int, got True"),
        ("optimizer", {"nesterov": "false"}, "expected bool, got 'false'"),
        ("precision", 16, "precision"),
    ],
)
def test_a_value_of_another_type_is_refused_not_converted(
    tiny: TrainConfig, field: str, value: object, text: str
) -> None:
    tree = {**json.loads(to_json(tiny)), field: value}
    with pytest.raises(ValueError, match=text):
        from_json(json.dumps(tree), "c.json")
    with pytest.raises(ValueError, match=r"it holds list, not an object of fields"):
        from_json("[]", "c.json")


def test_numbers_that_are_equal_do_not_differ_and_harmless_settings_do_not_count(tiny: TrainConfig) -> None:
    whole = replace(tiny, loss=replace(tiny.loss, final=replace(tiny.loss.final, scale=3)), log_every=7)
    assert whole.loss.final.scale == tiny.loss.final.scale
    assert differing(whole, tiny) == []
    assert flatten(whole)["loss.final.scale"] == flatten(tiny)["loss.final.scale"] == "3"


def test_how_images_are_decoded_does_not_count_and_paths_of_the_source_are_places(tiny: TrainConfig) -> None:
    sources = [ManifestFile(path=Path(name), verify=name == "b.csv") for name in ("a.csv", "b.csv")]
    first, second = (replace(tiny, data=replace(tiny.image_data, source=source)) for source in sources)
    for data in (replace(first.image_data, processes=True), replace(first.image_data, keep_decoded=True)):
        assert differing(first, replace(first, data=data)) == []
    assert differing(first, second) == ["data.source.path"]
    assert places(first) == {"data.source.path"}
    folders = ImageFolders(train=Path("a"), test=Path("b"))
    assert places(replace(tiny, data=replace(tiny.image_data, source=folders))) == {
        "data.source.train",
        "data.source.test",
    }
    assert places(tiny) == frozenset()


def test_paths_of_noise_of_kept_features_and_of_first_weights_are_places() -> None:
    base = find_recipe("voxceleb-resnet34-large-margin").with_loss("arcface")
    assert places(base) == {
        "data.source.train",
        "data.augmentation.noise.musan",
        "data.augmentation.noise.impulse_responses",
        "init_from",
    }
    data = base.speech_data
    kept = replace(data, augmentation=replace(data.augmentation, noise=None), feature_cache=Path("kept"))
    assert "data.feature_cache" in places(replace(base, data=kept))
    assert "data.feature_cache" not in places(base)  # no path: segments of kept features are others


def test_a_mean_every_so_many_steps_and_once_an_epoch_are_read_back(tiny: TrainConfig) -> None:
    for every in (None, 4265):
        config = replace(tiny, averaging=AveragingConfig(last=10, every=every))
        assert from_json(to_json(config), "here") == config
