"""History on disk: kept across restarts, within its quota, whole or put aside."""

from __future__ import annotations

from pathlib import Path

from dan9.daemons.historyfile import COARSE, FINE, REACH, SLOTS, HistoryFile
from dan9.daemons.series import pack

A = (1, "d9://a/b/c", "handled")


def chunk(tier: int, start: int, value: float = 1.0) -> tuple[int, int, int, bytes]:
    """Return a full chunk of series 1."""
    return (1, tier, start, pack(dict.fromkeys(range(SLOTS[tier]), value), SLOTS[tier]))


def test_points_come_back_after_the_file_was_closed(tmp_path: Path) -> None:
    """Series keep their ids, points their times."""
    file = HistoryFile(tmp_path / "h.db")
    file.write([A], [chunk(FINE, 300), chunk(COARSE, 0, 2.0)], now=600)
    file.close()
    again = HistoryFile(tmp_path / "h.db")
    assert again.series() == ({("d9://a/b/c", "handled"): 1}, 2)
    assert again.metrics("d9://a/b/c") == ["handled"]
    fine = again.points("d9://a/b/c", "handled", FINE, since=310)
    assert fine == [(310.0 + 10 * n, 1.0) for n in range(29)]
    assert len(again.points("d9://a/b/c", "handled", COARSE, since=0)) == 60
    assert again.points("d9://a/b/c", "other", FINE, 0) == []
    again.close()


def test_a_chunk_begun_before_a_restart_is_merged(tmp_path: Path) -> None:
    """Neither half is lost."""
    file = HistoryFile(tmp_path / "h.db")
    file.write([A], [(1, FINE, 300, pack({0: 1.0, 1: 2.0}, 30))], now=320)
    file.write([], [(1, FINE, 300, pack({1: 5.0, 2: 3.0}, 30))], now=330)
    assert file.points("d9://a/b/c", "handled", FINE, 0) == [(300, 1.0), (310, 5.0), (320, 3.0)]
    file.close()


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    """Each tier keeps its own reach."""
    file = HistoryFile(tmp_path / "h.db")
    file.write([A], [chunk(FINE, 0), chunk(COARSE, 0)], now=0)
    file.write([], [], now=REACH[FINE] + 1)
    assert file.points("d9://a/b/c", "handled", FINE, 0) == []
    assert file.points("d9://a/b/c", "handled", COARSE, 0) != []
    file.write([], [], now=REACH[COARSE] + 1)
    assert file.points("d9://a/b/c", "handled", COARSE, 0) == []
    file.close()


def test_the_number_of_a_series_that_was_given_up_is_not_used_again(tmp_path: Path) -> None:
    """Its chunks age without anybody finding them."""
    file = HistoryFile(tmp_path / "h.db")
    file.write([A, (2, "d9://x/y/z", "handled")], [(2, FINE, 0, pack({0: 1.0}, 30))], now=0)
    file.write([], [], now=0, given_up=[2])
    assert file.points("d9://x/y/z", "handled", FINE, 0) == []
    file.close()
    again = HistoryFile(tmp_path / "h.db")
    assert again.series() == ({("d9://a/b/c", "handled"): 1}, 3)
    again.close()


def test_the_quota_holds_for_all_files_at_any_time_and_the_newest_stay(tmp_path: Path) -> None:
    """The oldest chunks give way; the log beside the file counts, and the file shrinks."""
    file = HistoryFile(tmp_path / "h.db", quota_bytes=1_000_000)
    for start in range(0, 300 * 60, 300):  # 40 kB each
        rows = [(n, FINE, start, bytes(250)) for n in range(2, 150)]
        file.write([A], [*rows, chunk(FINE, start)], now=start + 300)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1_000_000
    kept = file.points("d9://a/b/c", "handled", FINE, 0)
    assert kept[-1][0] == 300 * 60 - 10
    assert kept[0][0] > 0
    file.quota_bytes = 100_000
    file.write([], [], now=300 * 60)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 150_000
    file.close()


def test_both_tiers_give_way_alike(tmp_path: Path) -> None:
    """Half the room: half a day in fine steps, half a month in coarse ones."""
    file = HistoryFile(tmp_path / "h.db", quota_bytes=1_500_000)
    days = 30
    for hour in range(0, days * 24, 6):
        rows = [(n, COARSE, hour * 3600, bytes(250)) for n in range(1, 41)]
        if hour >= (days - 1) * 24:
            starts = range(hour * 3600, (hour + 6) * 3600, 300)
            rows += [(n, FINE, start, bytes(126)) for start in starts for n in range(1, 41)]
        file.write([A], rows, now=(hour + 6) * 3600)
    oldest = "SELECT min(start) FROM chunk WHERE tier = ?"
    kept = {}
    for tier in (FINE, COARSE):
        (start,) = file._base.execute(oldest, (tier,)).fetchone()
        kept[tier] = (days * 24 * 3600 - start) / REACH[tier]
    assert 0.3 < kept[FINE] < 0.7
    assert abs(kept[FINE] - kept[COARSE]) < 0.1
    file.close()


def test_a_foreign_file_is_put_aside(tmp_path: Path) -> None:
    """It is not overwritten, and history begins anew."""
    (tmp_path / "h.db").write_bytes(b"not a database, " * 100)
    file = HistoryFile(tmp_path / "h.db")
    assert file.put_aside.endswith("h.db.corrupt")
    assert Path(file.put_aside).read_bytes().startswith(b"not a database")
    file.write([A], [chunk(FINE, 0)], now=0)
    assert file.points("d9://a/b/c", "handled", FINE, 0)
    file.close()


def test_a_torn_chunk_costs_only_its_minutes(tmp_path: Path) -> None:
    """The others are still there."""
    file = HistoryFile(tmp_path / "h.db")
    file.write([A], [(1, FINE, 0, b"torn"), chunk(FINE, 300)], now=600)
    assert len(file.points("d9://a/b/c", "handled", FINE, 0)) == 30
    file.write([], [(1, FINE, 0, pack({0: 1.0}, 30))], now=600)
    assert len(file.points("d9://a/b/c", "handled", FINE, 0)) == 31
    file.close()
