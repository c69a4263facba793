from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cattrs import Converter
from cattrs.strategies import configure_tagged_union

from qmargin.data import (
    ImageFolders,
    Manifest,
    ManifestFile,
    OrlFaces,
    RecordFile,
    TarShards,
    prepare_faces,
    read_manifest,
    read_orl,
    write_manifest,
)

Save = Callable[..., Path]


def test_orl_faces_are_those_of_the_reader() -> None:
    assert OrlFaces(test_identities=5).read() == read_orl(5)


def test_a_manifest_file_is_read_with_its_column_of_identities(people: Manifest) -> None:
    path = people.root / "manifest.csv"
    write_manifest(people, path)
    assert ManifestFile(path=path).read() == people
    path.write_text(path.read_text().replace("path,identity", "path,person"))
    assert ManifestFile(path=path, identity_column="person").read() == read_manifest(path, "person") == people


def test_two_folders_become_two_splits_under_their_common_root(save_image: Save, tmp_path: Path) -> None:
    for name in ("x/train/bo/1.png", "x/train/al/1.png", "y/cy/1.png", "y/cy/2.png"):
        save_image(name)
    manifest = ImageFolders(train=tmp_path / "x" / "train", test=tmp_path / "y").read()
    assert manifest == Manifest(
        tmp_path,
        ("x/train/al/1.png", "x/train/bo/1.png", "y/cy/1.png", "y/cy/2.png"),
        ("al", "bo", "cy", "cy"),
        ("train", "train", "test", "test"),
    )
    assert all((manifest.root / path).is_file() for path in manifest.paths)


def test_folders_of_many_blocks_are_joined_in_order(
    save_image: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train/bo/1.png", "train/bo/2.png", "train/bo/3.png", "train/di/1.png", "test/al/1.png"):
        save_image(name)
    whole = ImageFolders(train=tmp_path / "train", test=tmp_path / "test").read()
    monkeypatch.setattr("qmargin.data.sources.BLOCK", 2)
    blocks = ImageFolders(train=tmp_path / "train", test=tmp_path / "test").read()
    assert list(blocks.rows()) == list(whole.rows())
    assert blocks.names == ("al", "bo", "di")
    assert blocks.labels.tolist() == [1, 1, 1, 2, 0]
    assert blocks.digest == Manifest(tmp_path, *zip(*whole.rows(), strict=True)).digest


def test_a_folder_whose_name_no_manifest_can_hold_is_refused(save_image: Save, tmp_path: Path) -> None:
    for name in ("tr\nain/bo/1.png", "test/al/1.png"):
        save_image(name)
    with pytest.raises(ValueError, match=r"the path 'tr\\nain/bo/1.png' has a line break or is not UTF-8"):
        ImageFolders(train=tmp_path / "tr\nain", test=tmp_path / "test").read()


def test_relative_folders_are_those_of_the_working_directory(
    save_image: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image("train/al/1.png")
    save_image("test/bo/1.png")
    monkeypatch.chdir(tmp_path)
    manifest = ImageFolders(train=Path("train"), test=Path("test")).read()
    assert manifest.root == tmp_path
    assert manifest.paths == ("train/al/1.png", "test/bo/1.png")


def test_an_identity_in_both_folders_is_refused(save_image: Save, tmp_path: Path) -> None:
    for name in ("train/al/1.png", "train/bo/1.png", "test/bo/1.png"):
        save_image(name)
    with pytest.raises(ValueError, match=r"1 identities are in both .*train and .*test \(the first is 'bo'\): splits"):
        ImageFolders(train=tmp_path / "train", test=tmp_path / "test").read()


@pytest.mark.parametrize("test", ["train", "train/al", "."])
def test_folders_within_one_another_are_refused(save_image: Save, tmp_path: Path, test: str) -> None:
    save_image("train/al/1.png")
    with pytest.raises(ValueError, match=r"must be two folders side by side, got .*: one is, or lies in, the other"):
        ImageFolders(train=tmp_path / "train", test=tmp_path / test).read()


@pytest.mark.parametrize(
    "source",
    [
        OrlFaces(test_identities=12),
        ImageFolders(train=Path("a"), test=Path("b")),
        ManifestFile(path=Path("c.csv"), identity_column="who"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_a_source_survives_a_tagged_union(source: OrlFaces | ImageFolders | ManifestFile) -> None:
    union = OrlFaces | ImageFolders | ManifestFile
    converter = Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    configure_tagged_union(union, converter, tag_name="kind")
    tree = converter.unstructure(source, union)
    assert tree["kind"] == type(source).__name__
    assert converter.structure(tree, union) == source  # type: ignore[arg-type]


def test_prepared_sets_are_sources_and_verified(save_image: Save, tmp_path: Path) -> None:
    for seed, name in enumerate(("bo/1.jpg", "bo/2.jpg", "al/1.jpg")):
        save_image(f"faces/{name}", seed=seed)
    prepare_faces(tmp_path / "faces", "folder", tmp_path / "rec", "rec")
    prepare_faces(tmp_path / "faces", "folder", tmp_path / "tar", "tar")
    records, shards = RecordFile(path=tmp_path / "rec" / "train.rec"), TarShards(path=tmp_path / "tar")
    for source, verified in ((records, replace(records, verify=True)), (shards, replace(shards, verify=True))):
        samples = source.read()
        assert (len(samples), samples.num_classes) == (3, 2)
        assert samples.digest == verified.read().digest
        folder = source.path if source is shards else source.path.parent
        (folder / "identities.csv").write_text("changed")
        with pytest.raises(ValueError, match=r"1 files of .* are not as they were written: identities.csv"):
            source.read()
        (folder / "prepared.json").unlink()
        assert len(source.read()) == 3
        with pytest.raises(ValueError, match=r"has no prepared.json, so there are no checksums to verify"):
            verified.read()


def test_a_prepared_folder_is_verified_when_it_is_opened(save_image: Save, tmp_path: Path) -> None:
    for seed, name in enumerate(("al/1.jpg", "bo/1.jpg", "bo/2.jpg")):
        save_image(f"faces/{name}", seed=seed)
    out = tmp_path / "out"
    prepare_faces(tmp_path / "faces", "folder", out, "folder")
    source = ManifestFile(path=out / "manifest.csv")
    assert source.read().digest == replace(source, verify=True).read().digest
    image = out / "bo" / "2.jpg"
    data = image.read_bytes()
    image.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert len(source.read()) == 3
    with pytest.raises(ValueError, match=r"1 files of .*out are not as they were written: bo/2.jpg"):
        replace(source, verify=True).read()
    lines = source.path.read_text().splitlines(keepends=True)
    (out / "own.csv").write_text("".join(lines[:2]))
    source.path.write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"1 files of .*out are not as they were written: manifest.csv"):
        source.read()
    assert len(ManifestFile(path=out / "own.csv").read()) == 1  # a table of one's own in that folder
    (out / "prepared.json").unlink()
    assert len(source.read()) == 2
    with pytest.raises(ValueError, match=r"has no prepared.json, so there are no checksums to verify"):
        replace(source, verify=True).read()


def test_prepared_folders_are_verified_when_they_are_opened(save_image: Save, tmp_path: Path) -> None:
    for seed, name in enumerate(("al/1.png", "al/2.png", "bo/1.png")):
        save_image(f"faces/{name}", seed=seed)
    save_image("test/cy/1.png")
    out = tmp_path / "out"
    prepare_faces(tmp_path / "faces", "folder", out, "folder")
    source = ImageFolders(train=out, test=tmp_path / "test")
    assert len(source.read()) == 4
    (out / "al" / "2.png").rename(out / "bo" / "2.png")
    with pytest.raises(ValueError, match=r"2 images of .*out are not as .* added or gone: al/2.png, bo/2.png"):
        source.read()
    (out / "bo" / "2.png").rename(out / "al" / "2.png")
    (out / "identities.csv").write_text("label,identity\n0,bo\n1,al\n")
    with pytest.raises(ValueError, match=r"1 files of .*out are not as they were written: identities.csv"):
        source.read()
