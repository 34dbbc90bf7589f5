"""Files that are no rows of numbers, though they can be read so."""

import numpy as np
import pytest

from jaxrnn.data.readers.loading import load_hashed_rows, load_rows
from jaxrnn.foundation.errors import DataError
from jaxrnn.settings.data_config import ReaderConfig

HEADER = ReaderConfig(header=True)


@pytest.mark.parametrize("first", [range(1821, 1841), range(20), [3, 7, 8, 40], [-2, -1, 0]])
def test_a_table_whose_first_column_counts_is_refused(first, tmp_path):
    path = tmp_path / "lynx.csv"
    path.write_text("year,lynx\n" + "".join(f"{number},{number % 7}\n" for number in first))
    for load in (load_rows, load_hashed_rows):
        with pytest.raises(DataError, match=r"found a header, and rows of 2 values .* --time-column, --input-columns"):
            load(str(path), HEADER, min_length=2)


@pytest.mark.parametrize(
    "lines", ["1,2\n2,3\n", "1,2\n2,3\n1,4\n", "1,2\n2,3\n3,4,5\n", "1.5,2\n2.5,3\n3.5,4\n", "1\n2\n3\n"]
)
def test_rows_with_a_header_are_rows(lines, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("position\n" + lines)
    rows = load_rows(str(path), HEADER, min_length=1)
    assert [row.tolist() for row in rows] == [np.fromstring(line, sep=",").tolist() for line in lines.split()]
    (tmp_path / "plain.csv").write_text(lines * 5)
    load_rows(str(tmp_path / "plain.csv"), ReaderConfig(), min_length=1)
