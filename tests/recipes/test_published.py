"""The table of public sets and networks: what two of its rows differ in."""

from dataclasses import replace
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qmargin import recipes
from qmargin.backbones import IResNetConfig
from qmargin.data import RecordWriter
from qmargin.data.face_records import pack_face
from qmargin.losses import CosFace
from qmargin.protocols import training_validator, write_bin
from qmargin.recipes import FACE_SETS, RECIPES, PublishedRecipe, find_recipe
from qmargin.recipes.published import NETWORKS, PUBLISHED
from qmargin.training import DataConfig, TrainConfig, train
from qmargin.training.codec import differing, from_json, to_json
from qmargin.training.log import read_log
from qmargin.training.schedule import learning_rate

SETS = ("ms1mv2", "ms1mv3", "glint360k", "webface4m", "webface12m")
EXPECTED = [
    f"faces-{face_set}-{network}"
    for face_set in SETS
    for network in ("r18", "r34", "r50", "r100", "r200", "mobilefacenet")
]
NAMES = ("recipe",)  # every recipe has its own


def fields_that_differ(first: TrainConfig, second: TrainConfig) -> set[str]:
    """Fields of the config, not their leaves: a backbone is one thing."""
    return {name.split(".")[0] if not name.startswith("data.") else name for name in differing(first, second)} - {
        *NAMES
    }


def test_every_row_is_a_recipe_by_name() -> None:
    assert [recipe.name for recipe in PUBLISHED] == EXPECTED
    assert all(name in RECIPES for name in EXPECTED)
    assert find_recipe("faces-ms1mv2-r50").summary == "r50 on MS1MV2, 85,742 identities, with arcface_torch's settings."
    for face_set in ("ms1mv3", "glint360k"):  # arcface_torch's mobilefacenet is another network
        summary = find_recipe(f"faces-{face_set}-mobilefacenet").summary
        assert summary.endswith("identities, the paper's network, with arcface_torch's settings for its own.")


def test_every_row_has_a_name_in_python() -> None:
    loss = find_recipe("faces").losses["qmargin"]
    assert recipes.faces_ms1mv3_r50(loss) == find_recipe("faces-ms1mv3-r50").with_loss("qmargin")
    assert recipes.faces_ms1mv3_r50() == find_recipe("faces-ms1mv3-r50").with_loss()
    assert all(getattr(recipes, name.replace("-", "_")).name == name for name in EXPECTED)
    assert {"faces_glint360k_r100", "million", "RECIPES"} <= set(dir(recipes))
    with pytest.raises(AttributeError, match=r"no attribute 'faces_ms1mv3_r51'; find_recipe takes the name"):
        _ = recipes.faces_ms1mv3_r51


@pytest.mark.parametrize("face_set", SETS)
def test_two_networks_of_one_set_differ_in_the_backbone_alone(face_set: str) -> None:
    rows = [find_recipe(f"faces-{face_set}-{network}") for network in NETWORKS]
    for name in rows[0].losses:
        for first, second in combinations([recipe.with_loss(name) for recipe in rows], 2):
            assert fields_that_differ(first, second) == {"backbone"}


@pytest.mark.parametrize("face_set", [name for name in SETS if name != "ms1mv3"])
def test_two_sets_differ_in_the_data_and_its_validation_and_glint_in_its_weight_decay(face_set: str) -> None:
    loss = find_recipe("faces").losses["qmargin"]
    first, second = (PublishedRecipe(name, "r50")(loss) for name in ("ms1mv3", face_set))
    sizes = {"data.expected_identities", "data.expected_images", "data.source.path", "validation"}
    assert fields_that_differ(first, second) - {"optimizer"} == sizes
    assert ("optimizer.weight_decay" in differing(first, second)) is (face_set == "glint360k")
    assert {name for name in differing(first, second) if name.startswith("optimizer")} <= {"optimizer.weight_decay"}


def test_losses_are_the_published_ones() -> None:
    assert find_recipe("faces-glint360k-r50").losses["cosface"].final == CosFace(margin=0.4, scale=64.0)
    assert find_recipe("faces-ms1mv3-r50").losses["cosface"].final == CosFace(margin=0.35, scale=64.0)
    assert find_recipe("faces-glint360k-r50").losses["qmargin"] == find_recipe("faces-ms1mv3-r50").losses["qmargin"]


@pytest.mark.parametrize(("face_set", "steps"), [("ms1mv2", 113_720), ("ms1mv3", 101_160), ("glint360k", 333_820)])
def test_steps_and_learning_rate_are_those_of_the_published_runs(face_set: str, steps: int) -> None:
    config = find_recipe(f"faces-{face_set}-r50").with_loss("arcface")
    assert FACE_SETS[face_set].images // config.batch_size * config.epochs == steps
    settings = config.optimizer
    rates = [
        learning_rate(step, steps, settings.learning_rate, settings.warmup, settings.decay) for step in (0, steps // 2)
    ]
    assert rates == pytest.approx([0.1, 0.05])
    assert config.batch_size // config.gradient_accumulation == 128
    # the published loss is descended as it stands, and every other one with its rate
    assert settings.as_of_scale == config.loss.final.scale == 64.0
    assert find_recipe(f"faces-{face_set}-r50").with_loss("qmargin").optimizer == settings


@pytest.mark.parametrize("recipe", PUBLISHED, ids=lambda recipe: recipe.name)
def test_a_config_survives_json_and_its_network_can_be_built(recipe: PublishedRecipe) -> None:
    config = find_recipe(recipe.name).with_loss()
    assert from_json(to_json(config), "config.json") == config
    with torch.device("meta"):
        config.backbone.build()
    assert config.backbone.embedding_dim == 512


def test_a_copy_of_another_size_is_refused(tmp_path: Path) -> None:
    config = find_recipe("faces-orl").with_loss()
    for expected, law in (
        ({"expected_images": 301}, r"recipe faces-orl is for 301 training images, the source has 300: is it another"),
        ({"expected_identities": 31}, r"is for 31 training identities, the source has 30.* set data.expected_ident"),
    ):
        with pytest.raises(ValueError, match=law):
            train(replace(config, data=replace(config.image_data, **expected)), tmp_path / "run")  # type: ignore[arg-type]
    right = replace(config.image_data, expected_images=300, expected_identities=30, validation_identities=5)
    train(replace(config, data=right, max_steps=1), tmp_path / "run")


def jpeg(seed: int) -> bytes:
    """A picture of noise at the size of the sets."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (112, 112, 3)).astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


def test_a_recipe_trains_on_a_record_file_with_its_sets_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As shipped: record 0 holds the range of the identity records, those the ranges of their images."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ms1mv3"
    folder.mkdir()
    with RecordWriter(folder / "train.rec") as writer:
        writer.write(0, pack_face(b"", (33, 37), 0))
        for key in range(1, 33):
            writer.write(key, pack_face(jpeg(key), [(key - 1) // 8], key))
        for person in range(4):
            writer.write(33 + person, pack_face(b"", (1 + 8 * person, 9 + 8 * person), 33 + person))
    for name in ("lfw", "cfp_fp", "agedb_30"):
        write_bin(folder / f"{name}.bin", [jpeg(n % 7) for n in range(24)], [bool(n % 2) for n in range(12)])
    config = find_recipe("faces-ms1mv3-r18").with_loss("qmargin")
    assert isinstance(config.data, DataConfig)
    assert isinstance(config.backbone, IResNetConfig)
    small = replace(
        config,
        data=replace(config.data, expected_identities=4, expected_images=32, workers=1),
        backbone=replace(config.backbone, width=2, embedding_dim=8),
        batch_size=32,
        max_steps=1,
    )
    run = train(small, tmp_path / "run", validate=training_validator(small))
    (row,) = read_log(run.validation)
    figures = {f"{name}.{figure}" for name in ("lfw", "cfp_fp", "agedb_30") for figure in ("accuracy", "eer")}
    assert set(row) == {"step"} | figures
