"""Tables come back as they were written, and a file that is none is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.errors import InvalidTable
from archgen.tables import read_table


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_comes_back_with_architectures_as_text(tmp_path: Path, suffix: str) -> None:
    """Those of some spaces are digits, with zeros in front."""
    table, path = pd.DataFrame({"arch": ["012", "120"], "acc": [0.1 + 0.2, 1.0]}), tmp_path / f"t{suffix}"
    (table.to_csv if suffix == ".csv" else table.to_parquet)(path, index=False)
    pd.testing.assert_frame_equal(read_table(path), table)


def test_names_of_columns_are_text(tmp_path: Path) -> None:
    pd.DataFrame([[1.0, 2.0]]).to_parquet(tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet")) == ["0", "1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"arch\n", "t.txt is neither .parquet nor .csv: expected runs; convert it to one of them"),
        ("t.csv", None, "t.csv is not a file: expected runs; check the path"),
        ("t.csv", b"", r"t.csv can not be read as a csv table \(No columns .*\); make it anew"),
        ("t.csv", b"a\n1\n2,3,4\n", r"t.csv can not be read as a csv table \(.*\); make it anew"),
        ("t.parquet", b"PAR1", r"t.parquet can not be read as a parquet table \(.*\); make it anew"),
    ],
)
def test_what_is_no_table_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidTable, match=message) as refused:
        read_table(tmp_path / name, expected="runs", mend="make it anew")
    assert "\n" not in str(refused.value)


def test_a_parquet_file_of_damaged_texts_is_refused_at_once(tmp_path: Path) -> None:
    """Found by experiments/fuzz.py: pyarrow decodes texts late."""
    path = tmp_path / "t.parquet"
    pd.DataFrame({"arch": ["|skip_connect~0|"] * 3, "acc": [1.0, 2.0, 3.0]}).to_parquet(path, compression="none")
    whole = path.read_bytes()
    assert b"skip_connect~0" in whole
    path.write_bytes(whole.replace(b"skip_connect~0", b"\xffkip_connect~0"))
    with pytest.raises(InvalidTable, match="can not be read as a parquet table"):
        read_table(path)


def test_a_name_of_a_type_that_pandas_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by experiments/fuzz.py: pandas makes types of the names in the file's metadata."""
    path = tmp_path / "t.parquet"
    pd.DataFrame({"arch": ["a"]}).to_parquet(path)

    def read(path: Path) -> pd.DataFrame:
        return pd.DataFrame({"arch": np.array(["a"], dtype="unicMde")})

    monkeypatch.setattr(pd, "read_parquet", read)
    with pytest.raises(InvalidTable, match=r"data type 'unicMde' not understood"):
        read_table(path)
