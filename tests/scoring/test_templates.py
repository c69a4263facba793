"""Template pooling and pair scores against loops that a reader can check."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from qmargin.scoring import POOLINGS, Pooling, find_pooling, pair_dots, pool_templates, templates

Floats = NDArray[np.float64]
SWITCHES = [
    Pooling(keep_norm=n, detector_score=d, flip=f, unit_media=u) for n, d, f, u in product((True, False), repeat=4)
]


def images(seed: int, count: int = 120, template_count: int = 17) -> dict[str, Any]:
    """Images in no order, of templates of 1 image and of many, some media ids in several templates."""
    generator = np.random.default_rng(seed)
    members = np.concatenate([np.arange(template_count), generator.integers(5, size=count - template_count)])
    return {
        "features": generator.normal(size=(count, 8)).astype(np.float32) * generator.uniform(1, 30, (count, 1)),
        "mirror": generator.normal(size=(count, 8)),
        "templates": generator.permutation(members),
        "media": generator.integers(9, size=count),
        "detector_scores": generator.uniform(0.3, 1, count),
    }


def slow(given: dict[str, Any], pooling: Pooling) -> Floats:
    """Template by template, medium by medium, as the module says it."""
    pooled = []
    for template in range(given["templates"].max() + 1):
        inside = given["templates"] == template
        total = np.zeros(given["features"].shape[1])
        for medium in np.unique(given["media"][inside]):
            vectors = []
            for image in np.flatnonzero(inside & (given["media"] == medium)):
                vector = given["features"][image].astype(float)
                if pooling.flip:
                    vector = vector + given["mirror"][image]
                if not pooling.keep_norm:
                    vector = vector / np.linalg.norm(vector)
                vectors.append(vector * (given["detector_scores"][image] if pooling.detector_score else 1.0))
            mean = np.mean(vectors, axis=0)
            total += mean / np.linalg.norm(mean) if pooling.unit_media else mean
        pooled.append(total / np.linalg.norm(total))
    return np.array(pooled)


@pytest.mark.parametrize("pooling", SWITCHES, ids=lambda pooling: pooling.code)
def test_pooling_is_that_of_the_loop(pooling: Pooling) -> None:
    given = images(0)
    assert_allclose(pool_templates(**given, pooling=pooling), slow(given, pooling), atol=1e-12)


@pytest.mark.parametrize("block", [1, 2, 50])
def test_the_blocks_do_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given, pooling = images(1), POOLINGS["magface"]
    whole = pool_templates(**given, pooling=pooling)
    monkeypatch.setattr(templates, "BLOCK_IMAGES", block)
    assert_allclose(pool_templates(**given, pooling=pooling), whole, atol=1e-13)


def test_the_order_of_the_images_does_not_matter() -> None:
    given = images(2)
    order = np.random.default_rng(3).permutation(len(given["media"]))
    shuffled = {name: values[order] for name, values in given.items()}
    assert_allclose(
        pool_templates(**given, pooling=Pooling()), pool_templates(**shuffled, pooling=Pooling()), atol=1e-13
    )


def test_what_a_preset_does_not_use_need_not_be_there() -> None:
    given = images(4)
    bare = {name: given[name] for name in ("features", "templates", "media")}
    assert_array_equal(
        pool_templates(**bare, pooling=POOLINGS["tface"]), pool_templates(**given, pooling=POOLINGS["tface"])
    )


def test_presets_have_codes_and_codes_are_presets() -> None:
    assert {name: pooling.code for name, pooling in POOLINGS.items()} == {
        "insightface": "N1D1F1",
        "normalised": "N0D1F1",
        "adaface": "N1D0F1",
        "magface": "N1D0F0, unit media",
        "tface": "N0D0F0",
        "facex-zoo": "N0D1F0",
    }
    assert all(find_pooling(f"N{n}D{d}F{f}").code == f"N{n}D{d}F{f}" for n, d, f in product((0, 1), repeat=3))
    with pytest.raises(ValueError, match=r"unknown preset 'arcface': it must be one of insightface, .*, N1D1F1"):
        find_pooling("arcface")


def broken(**changes: object) -> dict[str, Any]:
    return {**images(5), "pooling": Pooling(), **changes}


NAN = images(5)["features"].copy()
NAN[7, 2] = np.nan
ZERO = images(5)["features"].copy()
ZERO[9] = 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mirror": None}, r"pooling N1D1F1 adds the features of the mirrored images: .* got none; or choose"),
        ({"mirror": np.ones((3, 8))}, r"got \(3, 8\)"),
        ({"detector_scores": None}, r"pooling N1D1F1 needs a detector score for each of the 120 images"),
        ({"detector_scores": np.ones(3)}, r"needs a detector score for each of the 120 images"),
        ({"templates": np.arange(3)}, r"templates must be 120 integers, one an image, got int64 \(3,\)"),
        ({"media": np.ones(120)}, r"media must be 120 integers, one an image, got float64 \(120,\)"),
        ({"templates": np.full(120, 2)}, r"templates must be numbered 0, 1, \.\.\. with none missing"),
        ({"templates": np.full(120, -1)}, r"templates must be numbered 0, 1"),
        ({"features": np.ones(120)}, r"features must be floats of shape \(images, dim\), got float64 \(120,\)"),
        ({"features": np.ones((120, 8), int)}, r"features must be floats"),
        ({"features": NAN}, r"features must be finite, those of image 7 are not \(1 in its block\)"),
        ({"features": ZERO, "pooling": Pooling(keep_norm=False, flip=False)}, r"image 9 is a zero vector"),
        ({"features": np.zeros((120, 8)), "pooling": Pooling(flip=False)}, r"template 0 is a zero vector"),
    ],
)  # fmt: skip
def test_what_cannot_be_pooled_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool_templates(**broken(**changes))


@pytest.mark.parametrize("dense", [True, False], ids=["product", "gathered"])
@pytest.mark.parametrize("firsts", [3, 300])
def test_pair_scores_are_those_of_the_loop(dense: bool, firsts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "DENSE", 0.0 if dense else np.inf)
    monkeypatch.setattr(templates, "GATHER", 7)
    generator = np.random.default_rng(6)
    vectors = generator.normal(size=(310, 5))
    first, second = generator.integers(firsts, size=1000), generator.integers(310, size=1000)
    expected = [float(vectors[a] @ vectors[b]) for a, b in zip(first, second, strict=True)]
    assert_allclose(pair_dots(vectors, first, second), expected, atol=1e-13)
    single = pair_dots(vectors.astype(np.float32), first, second)
    assert single.dtype == np.float32
    assert_allclose(single, expected, atol=1e-5)


def test_no_pairs_have_no_scores_and_pairs_of_other_rows_are_refused() -> None:
    none = np.empty(0, dtype=int)
    assert pair_dots(np.eye(3), none, none).shape == (0,)
    with pytest.raises(ValueError, match=r"pairs name rows 0 to 3, there are 3"):
        pair_dots(np.eye(3), np.array([0, 1]), np.array([0, 3]))
    with pytest.raises(ValueError, match=r"pairs name rows -1 to 2, there are 3"):
        pair_dots(np.eye(3), np.array([-1, 2]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"each pair needs two sides, got \(1,\) first and \(2,\) second ones"):
        pair_dots(np.eye(3), np.array([0]), np.array([0, 1]))
