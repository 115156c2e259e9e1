"""Edges between users and between items: which are kept, as what, and what the report says of the others."""

from pathlib import Path

import numpy as np
import pytest
from conftest import LOG, Prepare, Shop

from models.data.dataset import load_dataset
from models.data.errors import BadRowsError, ConfigError, DatasetError, SourceError
from models.data.prepare import prepare_dataset

SOCIAL = '[social]\npath = "friends.csv"\nfriend = "friend"\n'
ITEM_EDGES = '[item_edges]\npath = "together.csv"\n'


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")


def test_an_edge_is_a_pair_of_indices_and_its_people_are_users(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """Users are a, u0, u1, z in the order of their ids: a and z never did anything. Six lines give two pairs."""
    write(tmp_path, "friends.csv", "user_id,friend", "z,u1", "u0,a", "a,u0", "u0,a", "u1,u1", "u1,z")
    dataset = prepared(shop(toml=SOCIAL))
    assert [dataset.user_ids[i] for i in range(dataset.num_users)] == [b"a", b"u0", b"u1", b"z"]
    assert dataset.social_edges.dtype == np.int32
    assert dataset.social_edges.tolist() == [[0, 1], [2, 3]]
    assert dataset.interactions.user_offsets(4).tolist() == [0, 0, 15, 30, 30]
    assert dataset.report.users_active == 2
    source = dataset.report.sources["social"]
    assert (source.rows, source.bad) == (6, {})
    assert source.left_out == {"both ends are the same": 1, "given more than once": 3}
    assert ("social: left out, given more than once", "3") in list(dataset.report.lines())
    assert dataset.item_edges.shape == (0, 2)


def test_an_edge_to_an_item_that_is_not_kept_is_counted(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    write(tmp_path, "together.csv", "item_id,other_id", "i0,i1", "i1,nobody", "other,nobody", "i1,i0")
    dataset = prepared(shop(toml=ITEM_EDGES))
    assert dataset.num_items == 2
    assert dataset.item_edges.tolist() == [[0, 1]]
    source = dataset.report.sources["item_edges"]
    assert source.left_out == {"an end is not kept": 2, "given more than once": 1}


def test_item_edges_name_items_by_their_index(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """Indices follow the hashes of the ids, and not the ids."""
    write(tmp_path, "together.csv", "item_id,other_id", *(f"n{i},n{i + 1}" for i in range(5)))
    dataset = prepared(shop([*LOG, *(f"u0,n{i},2024-01-02" for i in range(6))], ITEM_EDGES))
    names = [dataset.item_ids[i].decode() for i in range(dataset.num_items)]
    found = {frozenset((names[a], names[b])) for a, b in dataset.item_edges.tolist()}
    assert found == {frozenset((f"n{i}", f"n{i + 1}")) for i in range(5)}
    assert (dataset.item_edges[:, 0] < dataset.item_edges[:, 1]).all()


def test_ids_of_edges_keep_their_zeros(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    write(tmp_path, "friends.csv", "user_id,friend", "007,8")
    dataset = prepared(shop(toml=SOCIAL))
    assert [dataset.user_ids[i] for i in range(2)] == [b"007", b"8"]


def test_bad_rows_of_edges_count_against_the_limit(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    write(tmp_path, "friends.csv", "user_id,friend", "u0,u1", "u0,", f"{'x' * 129},u1")
    with pytest.raises(BadRowsError, match=r"friends\.csv: 2 of 3 rows .* friend is missing: 1; user_id over 128"):
        prepared(shop(toml=SOCIAL))
    dataset = prepared(shop(toml=SOCIAL + "[limits]\nmax_bad_share = 0.9\n"))
    assert dataset.report.sources["social"].bad == {"friend is missing": 1, "user_id over 128 characters": 1}
    assert dataset.social_edges.tolist() == [[0, 1]]


def test_mistakes_in_the_sections_are_named(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(SourceError, match=r"friends\.csv: no such file"):
        prepared(shop(toml=SOCIAL))
    write(tmp_path, "friends.csv", "user_id,friend_id", "u0,u1")
    with pytest.raises(SourceError, match=r"friends\.csv: no column 'friend'; did you mean 'friend_id'\?"):
        prepared(shop(toml=SOCIAL))
    with pytest.raises(ConfigError, match="social: user_id and friend are the same column 'user_id'"):
        shop(toml=SOCIAL.replace('"friend"', '"user_id"'))
    with pytest.raises(ConfigError, match="item_edges: item_id and other are the same column 'item_id'"):
        shop(toml=ITEM_EDGES + 'other = "item_id"\n')


def test_the_order_of_edges_does_not_matter_but_their_content_does(tmp_path: Path, shop: Shop) -> None:
    write(tmp_path, "friends.csv", "user_id,friend", "u0,u1", "u1,a", "a,b")
    config = shop(toml=SOCIAL)
    first = load_dataset(prepare_dataset(config, tmp_path / "data").folder)
    assert prepare_dataset(config, tmp_path / "data").reused
    write(tmp_path, "friends.csv", "user_id,friend", "b,a", "u0,u1", "a,u1")
    again = prepare_dataset(config, tmp_path / "data")
    assert not again.reused
    assert load_dataset(again.folder).fingerprint == first.fingerprint
    write(tmp_path, "friends.csv", "user_id,friend", "u0,u1", "u1,a", "u0,b")
    assert load_dataset(prepare_dataset(config, tmp_path / "data").folder).fingerprint != first.fingerprint


def test_damaged_edges_are_refused(tmp_path: Path, shop: Shop) -> None:
    folder = prepare_dataset(shop(), tmp_path / "data").folder
    damages: list[tuple[list[list[int]], str]] = [
        ([[0, 1, 2]], r"users/social\.npy: int32 \[1, 2\] expected"),
        ([[0, 2]], r"users/social\.npy: values from 0 to 1 expected, found 0 to 2"),
        ([[1, 0]], r"users/social\.npy: pairs are not sorted or not distinct"),
        ([[0, 1], [0, 1]], r"users/social\.npy: pairs are not sorted or not distinct"),
    ]
    for edges, complaint in damages:
        np.save(folder / "users/social.npy", np.array(edges, np.int32))
        with pytest.raises(DatasetError, match=complaint):
            load_dataset(folder)
