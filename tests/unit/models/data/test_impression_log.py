"""Impressions: which are kept, in which order, and which interaction is a click on which of them."""

import random
from pathlib import Path

import numpy as np
import pytest
from conftest import Prepare, Shop

from models.data.config import load_config
from models.data.dataset import load_dataset
from models.data.errors import BadRowsError, ConfigError, DatasetError, SourceError
from models.data.impressions import NO_IMPRESSION, match_clicks
from models.data.interactions import Interactions
from models.data.prepare import prepare_dataset
from models.impressions import NO_LIST

HEADER = "user_id,item_id,timestamp,position,list"
# The log has u0 i0 on the first of January, u1 i0 on the second, u1 i1 on the fourth, each at midnight.
SHOWN = [
    "u1,i1,2024-01-04T00:00:01,1,c",  # a second after the click, and four days before the next
    "u1,i0,2024-01-02,1,a",  # at the very moment
    "u0,i1,2024-01-01,2,",  # u0 turned to i1 two days later
    "u0,i0,2023-12-31T22:00:00,3,a",  # the newest before the click
    "u0,i0,2023-12-31T20:00:00,1,b",
]
SECTION = '[impressions]\npath = "shown.csv"\nrecommendation_id = "list"\n'


def write(folder: Path, *lines: str) -> None:
    (folder / "shown.csv").write_text("\n".join([HEADER, *lines]) + "\n", "utf-8")


@pytest.fixture
def folder(tmp_path: Path, shop: Shop) -> Path:
    """Prepared."""
    write(tmp_path, *SHOWN)
    return prepare_dataset(shop(toml=SECTION), tmp_path / "data").folder


def test_impressions_stand_in_order_and_know_their_clicks(folder: Path) -> None:
    """By user and time; positions from 0; a list is numbered when it first comes, whoever saw it."""
    dataset = load_dataset(folder)
    shown = dataset.impressions
    assert shown is not None
    items = [dataset.item_ids[item].decode() for item in shown.item_index.tolist()]
    assert (shown.user_index.tolist(), items) == ([0, 0, 0, 1, 1], ["i0", "i0", "i1", "i0", "i1"])
    assert shown.position.tolist() == [0, 2, 1, 0, 0]
    assert shown.list_number.tolist() == [0, 1, NO_LIST, 1, 2]
    new_year = 1_704_067_200_000
    hours = [(time - new_year) / 3_600_000 for time in shown.time_ms.tolist()]
    assert hours == [-4, -2, 0, 24, 72 + 1 / 3600]
    assert shown.clicked.tolist() == [False, True, False, True, False]
    assert (shown.came_from[0], shown.came_from[15], shown.click_window_ms) == (1, 3, 24 * 3_600_000)
    assert (shown.came_from == NO_IMPRESSION).sum() == 28
    lines = dict(dataset.report.lines())
    assert (lines["impressions kept"], lines["of these clicked"], lines["impressions: list missing"]) == ("5", "2", "1")


def test_what_is_refused_and_what_is_left_out_is_counted(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    """Positions count from 1 to 1000, in whole numbers. A line given twice was shown once."""
    bad = [f"u0,i0,2024-01-01,{position},a" for position in ("0", "1001", "2.5", "", "first")]
    write(tmp_path, *SHOWN, *bad, "u0,,2024-01-01,1,a", "u0,i0,soon,1,a", "u0,i0,2024-01-01,1000,a")
    with pytest.raises(
        BadRowsError, match=r"shown\.csv: 7 of 13 rows .* position is not a whole number from 1 to 1000: 5"
    ):
        prepared(shop(toml=SECTION))
    lenient = "[limits]\nmax_bad_share = 0.6\n"
    unknown = ["u9,i0,2024-01-01,1,a", "u0,i9,2024-01-01,1,a", "u9,i9,2024-01-01,1,a"]
    write(tmp_path, *SHOWN, *bad, *unknown, SHOWN[0], SHOWN[2])
    dataset = prepared(shop(toml=SECTION + lenient))
    assert dataset.impressions is not None
    assert len(dataset.impressions) == 5
    source = dataset.report.sources["impressions"]
    assert (source.rows, source.bad) == (15, {"position is not a whole number from 1 to 1000": 5})
    assert source.left_out == {"the item is not kept": 2, "the user is not kept": 1, "given more than once": 2}


def test_the_window_for_clicks_and_the_unit_of_time_are_the_sections_own(
    tmp_path: Path, shop: Shop, prepared: Prepare
) -> None:
    """1704063600 is an hour before the click, 1704060000 two, and i1 was taken 48 hours after the first of January."""
    (tmp_path / "shown.csv").write_text("who,what,at,place\nu0,i0,1704060000,1\nu0,i1,1704067200,7\n")
    names = 'user_id = "who"\nitem_id = "what"\ntimestamp = "at"\nposition = "place"\n'
    section = f'[impressions]\npath = "shown.csv"\ntime_unit = "s"\n{names}'

    def clicked(hours: float) -> list[bool]:
        dataset = prepared(shop(toml=f"{section}click_window_hours = {hours}\n"))
        assert dataset.impressions is not None
        assert dataset.impressions.list_number.tolist() == [NO_LIST, NO_LIST]
        return dataset.impressions.clicked.tolist()

    assert clicked(1.9) == [False, False]
    assert clicked(2) == [True, False]
    assert clicked(48) == [True, True]


def test_the_order_of_lines_does_not_matter_but_their_content_does(folder: Path, tmp_path: Path, shop: Shop) -> None:
    def files() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".sha256"
        }

    before = files()
    config = shop(toml=SECTION)
    assert prepare_dataset(config, tmp_path / "data").reused
    shuffled = SHOWN.copy()
    random.Random(3).shuffle(shuffled)
    write(tmp_path, *shuffled)
    assert not prepare_dataset(config, tmp_path / "data").reused
    assert files() == before
    write(tmp_path, *SHOWN[:-1], SHOWN[-1].replace(",1,b", ",2,b"))
    prepare_dataset(config, tmp_path / "data")
    assert files()[str(folder / "dataset.json")] != before[str(folder / "dataset.json")]


def test_without_the_section_nothing_is_written(tmp_path: Path, shop: Shop) -> None:
    folder = prepare_dataset(shop(), tmp_path / "data").folder
    assert load_dataset(folder).impressions is None
    assert not (folder / "impressions").exists()


def test_damaged_impressions_are_refused(folder: Path) -> None:
    damages: list[tuple[str, list[int], str]] = [
        ("position", [0, 2, 1, 0, 1000], r"position\.npy: values from 0 to 999 expected"),
        ("position", [0], r"position\.npy: int32 \[5\] expected"),
        ("item_index", [0, 0, 1, 0, 2], r"item_index\.npy: values from 0 to 1"),
        ("user_index", [0, 0, 0, 1, 2], r"user_index\.npy: values from 0 to 1"),
        ("user_index", [1, 0, 0, 1, 1], "not sorted by"),
        ("list_number", [0, 1, -2, 1, 2], r"list_number\.npy: values from -1 to 4"),
        ("came_from", [0], r"came_from\.npy: int64 \[30\] expected"),
        ("came_from", [5] * 30, r"came_from\.npy: values from -1 to 4"),
        ("came_from", [1] * 30, "does not fit the interactions"),
    ]
    for name, values, complaint in damages:
        file = folder / f"impressions/{name}.npy"
        whole = np.load(file)
        np.save(file, np.array(values, whole.dtype))
        with pytest.raises(DatasetError, match=rf"impressions.*{complaint}"):
            load_dataset(folder)
        np.save(file, whole)
    (folder / "impressions/time_ms.npy").unlink()
    with pytest.raises(DatasetError, match=r"time_ms\.npy: cannot be read"):
        load_dataset(folder)


def test_mistakes_in_the_section_are_named(tmp_path: Path, shop: Shop, prepared: Prepare) -> None:
    with pytest.raises(ConfigError, match="impressions: 'position' is the column of two things"):
        shop(toml=SECTION.replace('"list"', '"position"'))
    with pytest.raises(ConfigError, match=r"impressions\.click_window_hours: .* greater than 0, not 0"):
        shop(toml=SECTION + "click_window_hours = 0\n")
    for kind in ("leave-last-out", "random"):
        with pytest.raises(ConfigError, match=f"impressions have real times, and a {kind} split rewrites those"):
            shop(toml=SECTION + f'[split]\nkind = "{kind}"\n')
    with pytest.raises(ConfigError, match=r"train\.ranker\.propensity needs logged impressions: name their file"):
        shop(toml='[train.ranker]\npropensity = "position"\n')
    table = (
        '[labelled]\ntrain = "a.csv"\nvalid = "b.csv"\nuser = ["u"]\nitem = ["i"]\n[train.ranker]\nimpressions = true\n'
    )
    (tmp_path / "table.toml").write_text(table)
    with pytest.raises(ConfigError, match=r"impressions needs logged impressions: a labelled table has none"):
        load_config(tmp_path / "table.toml")
    with pytest.raises(SourceError, match=r"shown\.csv: no such file"):
        prepared(shop(toml=SECTION))
    (tmp_path / "shown.csv").write_text("user_id,item_id,timestamp,place,list\nu0,i0,7,1,a\n")
    with pytest.raises(SourceError, match=r"shown\.csv: no column 'position'"):
        prepared(shop(toml=SECTION))
    with pytest.raises(SourceError, match=r"'timestamp' holds numbers; set impressions\.time_unit"):
        prepared(shop(toml=SECTION + 'position = "place"\n'))


def test_clicks_are_matched_as_by_a_loop_over_all_pairs() -> None:
    """The newest impression of the same user and item, not later than the interaction and within the window."""
    rng = np.random.default_rng(0)
    shown = np.stack([rng.integers(0, 4, 300), rng.integers(0, 5, 300), rng.integers(0, 60, 300)])
    done = np.stack([rng.integers(0, 5, 120), rng.integers(0, 6, 120), rng.integers(0, 60, 120)])
    done = done[:, np.lexsort((done[1], done[2], done[0]))]
    interactions = Interactions(
        user_index=done[0].astype(np.int32),
        item_index=done[1].astype(np.int32),
        time_ms=done[2],
        event_type=np.zeros(120, np.uint8),
        value=np.zeros(120, np.float32),
        context={},
    )
    found = match_clicks(interactions, shown[0].astype(np.int32), shown[1].astype(np.int32), shown[2], 10)
    expected = []
    for user, item, time in done.T.tolist():
        fit = [
            (t, row) for row, (u, i, t) in enumerate(shown.T.tolist()) if (u, i) == (user, item) and t <= time <= t + 10
        ]
        expected.append(max(fit)[1] if fit else NO_IMPRESSION)
    assert found.tolist() == expected
    assert 30 < sum(row != NO_IMPRESSION for row in expected) < 110
    nothing = np.empty(0, np.int32)
    assert (match_clicks(interactions, nothing, nothing, np.empty(0, np.int64), 10) == NO_IMPRESSION).all()
