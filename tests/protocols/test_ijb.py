"""IJB's protocols on an invented set: agreement with the public scripts' steps, counts, and every fault by line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from qmargin.protocols import (
    IjbLists,
    identify_templates,
    ijb_lists,
    pooled,
    read_identification,
    read_ijb,
    read_template_list,
    verify_templates,
)
from qmargin.protocols.identification import TemplateList
from qmargin.protocols.ijb_synthetic import SyntheticIjb
from qmargin.scoring import Features, find_pooling

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
SHAPE = SyntheticIjb(subjects=50, probes=300, images=1500, genuine=290, impostor=12_000, dim=24, noise=3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ijb")
    SHAPE.write(path)
    return path


@pytest.fixture(scope="module")
def lists(folder: Path) -> IjbLists:
    return read_ijb(folder / "meta")


@pytest.fixture(scope="module")
def features(folder: Path) -> Features:
    return Features.load(folder / "features.npy", folder / "mirrors.npy")


def public_steps(folder: Path, *, norm: bool, detector: bool, flip: bool) -> dict[float, float]:
    """The de-facto script, step by step, from the files to TAR; nothing of the package is used."""
    meta = folder / "meta"
    rows = [line.split() for line in (meta / "ijbc_face_tid_mid.txt").read_text().splitlines()]
    templates, media = np.array([int(row[1]) for row in rows]), np.array([int(row[2]) for row in rows])
    scores = np.array(
        [float(line.split()[11]) for line in (meta / "ijbc_name_5pts_score.txt").read_text().splitlines()]
    )
    pairs = [
        [int(word) for word in line.split()]
        for line in (meta / "ijbc_template_pair_label.txt").read_text().splitlines()
    ]
    vectors = np.load(folder / "features.npy").astype(np.float64)
    if flip:  # 1. add the raw vectors of image and mirror
        vectors = vectors + np.load(folder / "mirrors.npy")
    if not norm:  # 2. keep the norm, or not; multiply by the detector score, or not
        vectors = vectors / np.sqrt(np.sum(vectors**2, axis=-1, keepdims=True))
    if detector:
        vectors = vectors * scores[:, np.newaxis]
    template_vectors = {}
    for template in np.unique(templates):  # 3. mean within a medium, sum over media, L2 at the end
        rows_of_template = np.where(templates == template)[0]
        total = np.zeros(vectors.shape[1])
        for medium in np.unique(media[rows_of_template]):
            frames = [vectors[row] for row in rows_of_template if media[row] == medium]
            total = total + sum(frames) / len(frames)
        template_vectors[int(template)] = total / np.sqrt(np.sum(total**2))
    similarity = [float(np.sum(template_vectors[a] * template_vectors[b])) for a, b, _ in pairs]  # 4. dot products
    fpr, tpr, _ = roc_curve([label for _, _, label in pairs], similarity)  # 5. the nearest point
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    return {far: float(tpr[min(zip(abs(fpr - far), range(len(fpr)), strict=True))[1]]) for far in FARS}


@pytest.mark.parametrize("preset", ["insightface", "normalised", "adaface", "tface", "facex-zoo", "N1D1F0", "N0D0F1"])
def test_the_nearest_read_out_is_that_of_the_public_scripts(
    folder: Path, lists: IjbLists, features: Features, preset: str
) -> None:
    pooling = find_pooling(preset)
    expected = public_steps(folder, norm=pooling.keep_norm, detector=pooling.detector_score, flip=pooling.flip)
    report = verify_templates(lists, features, preset)
    assert {point.far_target: point.tar for point in report.of_rule("nearest")} == pytest.approx(expected, abs=1e-12)
    assert len(set(expected.values())) == len(FARS)  # figures that could differ


def test_presets_give_different_figures(lists: IjbLists, features: Features) -> None:
    tars = {
        preset: tuple(point.tar for point in verify_templates(lists, features, preset).points)
        for preset in ("insightface", "normalised", "adaface", "magface", "tface", "facex-zoo")
    }
    assert len(set(tars.values())) == len(tars)


def test_the_report_says_what_it_rests_on(lists: IjbLists, features: Features) -> None:
    report = verify_templates(lists, features, "magface")
    assert (report.preset, report.pooling) == ("magface", "N1D0F0, unit media")
    assert (report.images, report.templates, report.genuine, report.impostor) == (1500, 350, 290, 12_000)
    assert report.left_out == (1e-5, 1e-6)
    assert [(point.rule, point.far_target) for point in report.points] == [
        (rule, far) for rule in ("conservative", "nearest") for far in FARS
    ]
    for point in report.of_rule("conservative"):
        assert point.far <= point.far_target
        assert point.false_accepts == round(point.far * 12_000)
    assert report.sha256 == lists.sha256


def test_the_lists_are_read_as_they_are_written(folder: Path, lists: IjbLists) -> None:
    assert lists.counts == (1500, 350, 12_290, 290)
    assert lists.name == "IJB-shaped set, neither IJB-B nor IJB-C"
    pairs = np.loadtxt(folder / "meta" / "ijbc_template_pair_label.txt", dtype=int)
    assert lists.template_ids[lists.first].tolist() == pairs[:, 0].tolist()
    assert lists.template_ids[lists.second].tolist() == pairs[:, 1].tolist()
    assert lists.same.tolist() == (pairs[:, 2] == 1).tolist()
    first = (folder / "meta" / "ijbc_name_5pts_score.txt").read_text().splitlines()[0].split()
    assert lists.landmarks[0].ravel().tolist() == [float(word) for word in first[1:11]]
    assert lists.detector_scores[0] == float(first[11])
    assert set(lists.sha256) == {
        f"ijbc_{name}.txt" for name in ("face_tid_mid", "name_5pts_score", "template_pair_label")
    }


def test_a_set_is_named_by_its_counts(folder: Path, lists: IjbLists, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"has 1,500 images, .* IJB-B has 227,630 images, 12,115 templates, 8,010,270 pairs"
    ):
        read_ijb(folder / "meta", "IJB-B")
    with pytest.raises(ValueError, match=r"unknown set 'IJBC': it must be one of IJB-B, IJB-C"):
        read_ijb(folder / "meta", "IJBC")
    monkeypatch.setitem(ijb_lists.COUNTS, "IJB-C", lists.counts)
    assert read_ijb(folder / "meta", "IJB-C").name == "IJB-C"


def edit(name: str, old: str, new: str) -> tuple[str, Callable[[str], str]]:
    def change(text: str) -> str:
        lines = text.splitlines()
        place = int(old)
        lines[place : place + 1] = new.replace("...", lines[place]).split("|") if new else []
        return "\n".join(lines) + "\n"

    return f"ijbc_{name}.txt", change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("face_tid_mid", "4", "5.jpg one 3"), r"_mid\.txt, line 5: template and media ids must be"),
        (edit("face_tid_mid", "4", "5.jpg 1"), r"face_tid_mid\.txt, line 5: .*got '5\.jpg 1'"),
        (edit("face_tid_mid", "4", "4.jpg 1 1"), r"_mid\.txt, line 5: the image 4\.jpg is listed in line 4"),
        (edit("face_tid_mid", "4", "x.jpg 1 1"), r"line 5: the image is 5\.jpg, in the same line .* x\.jpg"),
        (edit("face_tid_mid", "1499", ""), r"score\.txt has 1,500 images, .*mid\.txt has 1,499: one of them"),
        (edit("name_5pts_score", "4", "5.jpg 1 2 3"), r"score\.txt, line 5: an image, 10 coordinates .* got 4"),
        (edit("name_5pts_score", "4", "5.jpg 1 2 3 4 5 6 7 8 9 0 high"), r"score\.txt, line 5: could not"),
        (edit("name_5pts_score", "4", "5.jpg 1 2 3 4 5 6 7 8 9 0 nan"), r"line 5: landmarks and score must be finite"),
        (edit("template_pair_label", "4", "1 2 2"), r"pair_label\.txt, line 5: the label must be 0 or 1, got 2"),
        (edit("template_pair_label", "4", "...|99999 1 0"), r"_label\.txt, line 6: template 99999 has no image"),
        (edit("template_pair_label", "4", "1 x 0"), r"pair_label\.txt, line 5: 3 integers"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_by_line(
    folder: Path, tmp_path: Path, change: tuple[str, Callable[[str], str]], message: str
) -> None:
    meta = tmp_path / "meta"
    shutil.copytree(folder / "meta", meta)
    path = meta / change[0]
    path.write_text(change[1](path.read_text()))
    with pytest.raises(ValueError, match=message):
        read_ijb(meta)


def test_a_folder_must_hold_one_set(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds the lists of neither set: it must hold one file of ijbb_"):
        read_ijb(tmp_path)
    meta = tmp_path / "meta"
    shutil.copytree(folder / "meta", meta)
    shutil.copy(meta / "ijbc_template_pair_label.txt", meta / "ijbb_template_pair_label.txt")
    with pytest.raises(ValueError, match=r"holds the lists of both sets"):
        read_ijb(meta)
    (meta / "ijbb_template_pair_label.txt").unlink()
    (meta / "ijbc_name_5pts_score.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*ijbc_name_5pts_score\.txt: No such file"):
        read_ijb(meta)


def test_features_must_be_those_of_the_lists(lists: IjbLists, features: Features) -> None:
    with pytest.raises(ValueError, match=r"features of 1,499 images, the lists have 1,500"):
        verify_templates(lists, Features(features.images[:-1]), "tface")
    with pytest.raises(ValueError, match=r"pooling N1D1F1 adds the features of the mirrored images"):
        verify_templates(lists, Features(features.images), "insightface")


def slow_search(
    vectors: NDArray[np.float64], lists: IjbLists, gallery: TemplateList, probes: TemplateList, fpir: float
) -> tuple[float, float, float]:
    """Probe by probe: rank 1, rank 5, and TPIR by trying every threshold."""
    place = {int(template): row for row, template in enumerate(lists.template_ids)}
    ranks, hits, others = [], [], []
    for template, subject in zip(probes.templates, probes.subjects, strict=True):
        best: dict[int, float] = {}
        for held, owner in zip(gallery.templates, gallery.subjects, strict=True):
            score = float(vectors[place[int(template)]] @ vectors[place[int(held)]])
            best[int(owner)] = max(best.get(int(owner), -np.inf), score)
        if int(subject) in best:
            rank = 1 + sum(best[other] >= best[int(subject)] for other in best if other != int(subject))
            ranks.append(rank)
            hits.append(best[int(subject)] if rank == 1 else -np.inf)
        else:
            others.append(max(best.values()))
    threshold = min(t for t in [*hits, *others, np.inf] if np.mean(np.array(others) >= t) <= fpir)
    return (
        float(np.mean(np.array(ranks) <= 1)),
        float(np.mean(np.array(ranks) <= 5)),
        float(np.mean(np.array(hits) >= threshold)),
    )


def test_search_is_that_of_the_loop_in_each_gallery(folder: Path, lists: IjbLists, features: Features) -> None:
    vectors = pooled(lists, features, "insightface")
    galleries, probes = read_identification(folder / "meta")
    report = identify_templates(lists, vectors, galleries, probes)
    for one, gallery in zip(report.galleries, galleries, strict=True):
        expected = slow_search(vectors, lists, gallery, probes, 1e-1)
        assert (one.rank[1], one.rank[5], one.tpir[1e-1]) == pytest.approx(expected, abs=1e-12)
        assert one.tpir[1e-2] <= one.tpir[1e-1] < one.rank[1] < one.rank[5] < one.rank[10] < 1
        assert one.mated + one.non_mated == 300
        assert 1e-3 not in one.tpir  # fewer than 1,000 probes are not mated
    assert report.rank[1] == pytest.approx(np.mean([one.rank[1] for one in report.galleries]))
    assert report.tpir[1e-2] == pytest.approx(np.mean([one.tpir[1e-2] for one in report.galleries]))


def test_a_subject_with_several_templates_counts_once_and_ties_count_against_the_probe(lists: IjbLists) -> None:
    ids = lists.template_ids
    vectors = np.tile([1.0, 0.0], (len(ids), 1))
    vectors[1] = 0.0, 1.0
    probes = TemplateList("probes", ids[[10]], np.array([7]))
    several = TemplateList("several", ids[[0, 1, 2]], np.array([7, 7, 8]))
    assert identify_templates(lists, vectors, [several], probes).galleries[0].rank == {1: 0.0, 5: 1.0, 10: 1.0}
    alone = TemplateList("alone", ids[[0, 1]], np.array([7, 7]))
    assert identify_templates(lists, vectors, [alone], probes).galleries[0].rank[1] == 1.0


def test_a_mated_probe_of_another_rank_is_no_identification_however_high_its_score(lists: IjbLists) -> None:
    ids = lists.template_ids
    vectors = np.tile([-1.0, 0.0], (len(ids), 1))
    vectors[:4] = [1, 0], [0, 1], [0.6, 0.8], [0.6, 0.8]
    gallery = TemplateList("gallery", ids[:2], np.array([1, 2]))
    probes = TemplateList("probes", ids[2:14], np.array([1, 2, *range(3, 13)]))  # the first is of rank 2
    report = identify_templates(lists, vectors, [gallery], probes).galleries[0]
    assert (report.rank[1], report.tpir[1e-1]) == (0.5, 0.5)
    assert 0 < report.thresholds[1e-1] <= 0.8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TEMPLATE,SUBJECT\n1,2\n", r"g\.csv, line 1: no columns TEMPLATE_ID and SUBJECT_ID, got TEMPLATE, SUBJECT"),
        ("TEMPLATE_ID,SUBJECT_ID\n1,2\n1,3\n", r"line 3: template 1 is of subject 3 here and of 2 above"),
        ("TEMPLATE_ID,SUBJECT_ID\n1,x\n", r"line 2: template and subject ids must be integers, got 'x'"),
        ("TEMPLATE_ID,SUBJECT_ID\n1\n", r"line 2: .* got None"),
        ("TEMPLATE_ID,SUBJECT_ID\n", r"has a header but no template"),
        ("", r"line 1: no columns TEMPLATE_ID and SUBJECT_ID, got none"),
    ],
)
def test_a_wrong_gallery_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_template_list(tmp_path / "g.csv")


def test_a_template_may_have_a_line_an_image(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("TEMPLATE_ID, SUBJECT_ID, FILENAME\n4, 2, a.jpg\n4, 2, b.jpg\n5, 2, c.jpg\n")
    found = read_template_list(tmp_path / "g.csv")
    assert (found.templates.tolist(), found.subjects.tolist()) == ([4, 5], [2, 2])


def test_galleries_of_another_set_are_refused(lists: IjbLists, tmp_path: Path) -> None:
    probes = TemplateList("probes", lists.template_ids[:2], np.array([1, 2]))
    vectors = np.ones((len(lists.template_ids), 2))
    with pytest.raises(ValueError, match=r"no probe of probes is of a subject of g: are they of one set\?"):
        identify_templates(lists, vectors, [TemplateList("g", lists.template_ids[:1], np.array([5]))], probes)
    with pytest.raises(ValueError, match=r"1 of the 1 templates of g have no image in the lists, the first is 99999"):
        identify_templates(lists, vectors, [TemplateList("g", np.array([99999]), np.array([1]))], probes)
    with pytest.raises(
        ValueError, match=r"has no gallery: ijbb_1N_gallery_S1\.csv or ijbc_1N_gallery_G1\.csv must be there"
    ):
        read_identification(tmp_path)


@pytest.mark.parametrize("counts", [{"genuine": 301}, {"subjects": 1}, {"images": 349}, {"impostor": 300 * 49 + 1}])
def test_counts_that_contradict_each_other_are_refused(counts: dict[str, int]) -> None:
    given = {"subjects": 50, "probes": 300, "images": 1500, "genuine": 290, "impostor": 12_000}
    with pytest.raises(ValueError, match=r"a synthetic set needs|impostor pairs, asked were 14,701"):
        SyntheticIjb(**{**given, **counts})


def test_the_invented_pairs_are_what_they_claim_and_none_twice(folder: Path, lists: IjbLists) -> None:
    galleries, probes = read_identification(folder / "meta")
    subject = {
        int(t): int(s) for part in (*galleries, probes) for t, s in zip(part.templates, part.subjects, strict=True)
    }
    pairs = list(zip(lists.template_ids[lists.first].tolist(), lists.template_ids[lists.second].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert [subject[a] == subject[b] for a, b in pairs] == lists.same.tolist()
