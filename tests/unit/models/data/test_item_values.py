"""Features that only items have: several categories, text and given vectors; and ids as features."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LOG, Prepare, Shop

from models.contract.features import user_features as features_of
from models.contract.history import EMPTY
from models.contract.schema import CategoricalFeature, MultiFeature, Schema, TextFeature, VectorFeature
from models.data.dataset import Dataset, load_dataset
from models.data.errors import BadRowsError, ConfigError, DatasetError, SourceError
from models.data.prepare import prepare_dataset
from models.states import UserStates, user_features

SOURCE = '[items]\npath = "items.parquet"\n'
EVERY_KIND = (
    'name = "tags", kind = "multi"',
    'name = "title", kind = "text"',
    'name = "image", kind = "vector", dim = 2',
)
LENIENT = "[limits]\nmax_bad_share = 0.9\n"


def of_item(dataset: Dataset, name: bytes) -> int:
    return [dataset.item_ids[i] for i in range(dataset.num_items)].index(name)


def write_items(folder: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), folder / "items.parquet")


def features(*lines: str) -> str:
    return f"{SOURCE}features = [{', '.join(f'{{{line}}}' for line in lines)}]\n"


def test_lists_become_codes_in_the_order_given(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """a, b, c are 1, 2, 3. A repeated value counts once, spaces around it are nothing, and neither is an empty one."""
    write_items(tmp_path, item_id=["i0", "i1"], tags=[["c", " a ", "c", None, ""], ["b", "a"]])
    dataset = prepared(shop(toml=features('name = "tags", kind = "multi"')))
    assert dataset.schema.item_features == [MultiFeature(name="tags", vocabulary=["a", "b", "c"], length=2)]
    codes = dataset.item_multi["tags"]
    assert codes.dtype == np.int32
    assert codes[of_item(dataset, b"i0")].tolist() == [3, 1]
    assert codes[of_item(dataset, b"i1")].tolist() == [2, 1]
    assert dataset.item_categorical.shape == (2, 0)


def test_text_with_a_separator_is_the_same(shop: Shop, prepared: Prepare) -> None:
    """Also where a CSV column looks like numbers; i2 is missing and i3 has no row."""
    toml = '[items]\npath = "items.csv"\nfeatures = [{name = "tags", kind = "multi", separator = "|"}, '
    toml += '{name = "year", kind = "multi", separator = "|"}]\n'
    items = ["item_id,tags,year", "i0,b | a,1999", "i1,a,2000", "i2,,"]
    dataset = prepared(shop([*LOG, "u0,i2,2024-01-02", "u0,i3,2024-01-02"], toml, items))
    tags = dataset.item_multi["tags"]
    found = {name: tags[of_item(dataset, name)].tolist() for name in (b"i0", b"i1", b"i2", b"i3")}
    assert found == {b"i0": [2, 1], b"i1": [1, 0], b"i2": [0, 0], b"i3": [0, 0]}
    assert dataset.schema.of_items(MultiFeature)[1] == MultiFeature(name="year", vocabulary=["1999", "2000"], length=1)
    assert dataset.report.sources["items"].missing == {"tags": 1, "year": 1}


def test_values_past_the_limit_are_cut_and_counted(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """Eight are kept where nothing is said; a rare value takes no place."""
    many = [f"v{i}" for i in range(9)]
    write_items(tmp_path, item_id=["i0", "i1"], tags=[many, many[1:]], few=[["rare", "x", "y", "z"], ["x", "y", "z"]])
    toml = features('name = "tags", kind = "multi"', 'name = "few", kind = "multi", max_values = 2, min_count = 2')
    dataset = prepared(shop(toml=toml))
    assert dataset.item_multi["tags"][of_item(dataset, b"i0")].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert dataset.item_multi["tags"][of_item(dataset, b"i1")].tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert dataset.item_multi["few"].tolist() == [[1, 2], [1, 2]]
    assert dataset.schema.of_items(MultiFeature)[1].vocabulary == ["x", "y", "z"]
    assert dataset.report.cut_values == {"tags": 1, "few": 2}
    assert dataset.report.rare_values == {"few": 1}
    assert ("values of few left out, beyond max_values of an item", "2") in list(dataset.report.lines())


def test_values_are_learnt_from_before_the_test_split_only(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """i2 sells in the test window alone: its own tag is unknown, the shared one is not."""
    write_items(tmp_path, item_id=["i0", "i1", "i2"], tags=[["a"], ["b"], ["later", "b"]])
    toml = features('name = "tags", kind = "multi"') + "[limits]\nmin_users = 0\n"
    dataset = prepared(shop([*LOG, "u0,i2,2024-01-25"], toml))
    assert dataset.schema.of_items(MultiFeature)[0].vocabulary == ["a", "b"]
    assert dataset.item_multi["tags"][of_item(dataset, b"i2")].tolist() == [2]


def test_texts_are_kept_as_they_are(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    write_items(tmp_path, item_id=["i0", "i1"], title=["Über\n uns", None])
    dataset = prepared(shop(toml=features('name = "title", kind = "text"')))
    assert dataset.schema.item_features == [TextFeature(name="title")]
    assert dataset.item_text["title"][of_item(dataset, b"i0")].decode() == "Über\n uns"
    assert dataset.item_text["title"][of_item(dataset, b"i1")] == b""
    assert dataset.report.sources["items"].missing == {"title": 1}


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.list_(pa.int64())])
def test_vectors_are_kept_and_missing_ones_are_zero(
    tmp_path: Path, shop: Shop, prepared: Prepare, kind: pa.DataType
) -> None:
    write_items(tmp_path, item_id=["i0", "i1"], image=pa.array([[3, -1], None], kind))
    dataset = prepared(shop([*LOG, "u0,i2,2024-01-02"], features('name = "image", kind = "vector", dim = 2')))
    assert dataset.schema.item_features == [VectorFeature(name="image", dim=2)]
    vectors = dataset.item_vectors_given["image"]
    assert vectors.dtype == np.float32
    assert vectors[of_item(dataset, b"i0")].tolist() == [3, -1]
    assert vectors[[of_item(dataset, b"i1"), of_item(dataset, b"i2")]].tolist() == [[0, 0], [0, 0]]
    assert dataset.report.sources["items"].missing == {"image": 1}
    assert not vectors.flags.writeable


def test_vectors_that_cannot_be_used_are_bad_rows(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """One row for each fault; an empty vector has the wrong length, and the good row stays."""
    bad = [[1.0], [1.0, 2.0, 3.0], [], [float("nan"), 0.0], [0.0, float("-inf")], [None, 0.0], [1e39, 0.0]]
    write_items(
        tmp_path,
        item_id=["i0", *(f"n{i}" for i in range(len(bad)))],
        image=pa.array([[1.0, 2.0], *bad], pa.list_(pa.float64())),
    )
    toml = features('name = "image", kind = "vector", dim = 2')
    with pytest.raises(BadRowsError, match=r"image does not have 2 numbers: 3; image has a number that is not finite"):
        prepared(shop(toml=toml))
    dataset = prepared(shop(toml=toml + LENIENT))
    assert dataset.report.sources["items"].bad == {
        "image does not have 2 numbers": 3,
        "image has a number that is not finite": 4,
    }
    assert dataset.item_vectors_given["image"][of_item(dataset, b"i0")].tolist() == [1.0, 2.0]


def test_columns_of_the_wrong_kind_are_refused(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    write_items(tmp_path, item_id=["i0", "i1"], tags=[["a"], ["b"]], name=["x", "y"], deep=[[["a"]], [["b"]]])
    for line, complaint in {
        'name = "tags", kind = "multi", separator = "|"': "column 'tags' is a list; leave its separator out",
        'name = "name", kind = "multi"': "column 'name' is string and no list; say what its separator is",
        'name = "deep", kind = "multi"': "'deep' is array<array<string>>; a multi feature is a list or separated text",
        'name = "tags", kind = "text"': "column 'tags' is array<string>; a text feature is text or a number",
        'name = "tags", kind = "vector", dim = 1': "'tags' is array<string>; a vector is a list of numbers",
        'name = "name", kind = "vector", dim = 1': "'name' is string; a vector is a list of numbers",
    }.items():
        with pytest.raises(SourceError, match=rf"items\.parquet: .*{complaint.replace('|', '.')}"):
            prepared(shop(toml=features(line)))


def test_users_have_no_lists(shop: Shop) -> None:
    with pytest.raises(ConfigError, match=r"users\.features\.0\.kind: 'multi' is unknown; known here: categorical, nu"):
        shop(toml='[users]\npath = "u.csv"\nfeatures = [{name = "a", kind = "multi"}]\n')


def test_ids_become_features_with_zero_for_who_came_later(shop: Shop, prepared: Prepare) -> None:
    """late and i2 appear in the test window alone, quiet in the users table alone. No items table is needed."""
    log = [*LOG, "late,i0,2024-01-25", "u0,i2,2024-01-26"]
    toml = '[items]\nid_feature = true\n[users]\npath = "users.csv"\nid_feature = true\n'
    toml += 'features = [{name = "age", kind = "categorical"}]\n[limits]\nmin_users = 0\n'
    dataset = prepared(shop(log, toml, users=["user_id,age", "quiet,30", "u1,50"]))
    assert dataset.schema.item_features == [CategoricalFeature(name="item_id", vocabulary=["i0", "i1"], is_id=True)]
    assert [f.name for f in dataset.schema.user_features] == ["age", "user_id"]
    assert dataset.schema.categorical("user")[1] == CategoricalFeature(
        name="user_id", vocabulary=["u0", "u1"], is_id=True
    )
    codes = {name: int(dataset.item_categorical[of_item(dataset, name), 0]) for name in (b"i0", b"i1", b"i2")}
    assert codes == {b"i0": 1, b"i1": 2, b"i2": 0}
    assert [dataset.user_ids[i] for i in range(4)] == [b"late", b"quiet", b"u0", b"u1"]
    assert dataset.user_categorical.tolist() == [[0, 0], [0, 0], [0, 1], [1, 2]]


def test_the_user_id_is_in_the_state_of_a_known_user_only(shop: Shop, prepared: Prepare) -> None:
    dataset = prepared(shop([*LOG, "late,i0,2024-01-25"], "[users]\nid_feature = true\n"))
    states, end_ms = UserStates(dataset), dataset.splits.end_ms
    known, late = (states.at(user, end_ms).features for user in (1, 0))
    assert known == {"user_id": ("u0", end_ms - 1)}
    assert late == {}
    now = end_ms + 1
    found = [features_of(dataset.schema, state, EMPTY, {}, now) for state in (states.at(2, end_ms), None)]
    assert [one.categorical.tolist() for one in found] == [[2], [0]], "a user without a state is unknown"
    assert dataset.schema.categorical("user")[0] == CategoricalFeature(
        name="user_id", vocabulary=["u0", "u1"], is_id=True
    )
    row = dataset.user_categorical[2], dataset.user_numeric[2]
    assert user_features(dataset.schema, *row, 5) == {"user_id": ("u1", 5)}


@pytest.mark.parametrize("section", ["users", "items"])
def test_a_section_without_a_path_has_id_feature_alone(shop: Shop, section: str) -> None:
    name = f"{section.removesuffix('s')}_id"
    with pytest.raises(ConfigError, match=f"{section}: path is missing"):
        shop(toml=f"[{section}]\n")
    column = '[{name = "a", kind = "numeric"}]'
    with pytest.raises(ConfigError, match=f"{section}: path is missing: features names columns of a table"):
        shop(toml=f"[{section}]\nid_feature = true\nfeatures = {column}\n")
    column = column.replace('"a"', f'"{name}"')
    with pytest.raises(ConfigError, match=f"{section}: features: '{name}' is the name of id_feature"):
        shop(toml=f'[{section}]\npath = "x.csv"\nid_feature = true\nfeatures = {column}\n')


def test_a_schema_of_before_these_kinds_still_parses() -> None:
    features = [{"kind": "categorical", "name": "genre", "vocabulary": ["a"]}]
    schema = Schema.model_validate({"event_types": ["buy"], "seen_types": [], "item_features": features})
    assert schema.categorical("item") == [CategoricalFeature(name="genre", vocabulary=["a"], is_id=False)]
    assert schema.of_items(MultiFeature) == []


def test_damaged_values_are_refused(tmp_path: Path, shop: Shop) -> None:
    """One file at a time is damaged, and put back."""
    write_items(tmp_path, item_id=["i0", "i1"], tags=[["a"], ["b"]], title=["x", "y"], image=[[1.0, 2.0], [3.0, 4.0]])
    folder = prepare_dataset(shop(toml=features(*EVERY_KIND)), tmp_path / "data").folder
    damages: list[tuple[str, np.ndarray | None, str]] = [
        ("multi/tags.npy", np.array([[1], [3]], np.int32), r"multi/tags\.npy column 0: values from 0 to 2 expected"),
        ("multi/tags.npy", np.zeros((2, 2), np.int32), r"multi/tags\.npy: int32 \[2, 1\] expected"),
        ("text/title.offsets.npy", np.array([0, 9, 2]), "items/text/title: offsets do not match the data"),
        ("vectors/image.npy", np.full((2, 2), np.nan, np.float32), r"vectors/image\.npy: has values that are not fin"),
        ("vectors/image.npy", np.zeros((2, 3), np.float32), r"vectors/image\.npy: float32 \[2, 2\] expected"),
        ("vectors/image.npy", None, r"image\.npy: cannot be read"),
    ]
    for file, array, complaint in damages:
        path = folder / "items" / file
        content = path.read_bytes()
        path.unlink()
        if array is not None:
            np.save(path, array)
        with pytest.raises(DatasetError, match=complaint):
            load_dataset(folder)
        path.write_bytes(content)
    assert load_dataset(folder).num_items == 2


def test_another_value_gives_another_fingerprint(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    columns = {"tags": [["a", "b"], ["b", "a"]], "title": ["x", "y"], "image": [[1.0, 2.0], [3.0, 4.0]]}
    found = set()
    for changed in ("nothing", *columns):
        write_items(tmp_path, item_id=["i0", "i1"], **{k: v[:: -1 if k == changed else 1] for k, v in columns.items()})
        found.add(prepared(shop(toml=features(*EVERY_KIND))).fingerprint)
    assert len(found) == 4
