"""Ground-truth files, as spreadsheets and scripts write them."""

import pytest

from qknb.data.truth import read_truth, write_truth


@pytest.mark.parametrize(
    "header", ["", "query_id,reference_id\n", "\ufeffquery_id,reference_id\r\n"]
)
def test_truth_file_with_and_without_header(tmp_path, header):
    path = tmp_path / "truth.csv"
    path.write_text(header + "Q00001,R000005\nQ00002,\nQ00003, R000001\n", encoding="utf-8")
    assert read_truth(path) == [("Q00001", "R000005"), ("Q00002", ""), ("Q00003", "R000001")]
    path.write_text(header + "Q00001,R000005,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="truth.csv, line"):
        read_truth(path)


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("query_id,reference_id\nQ00001,R000005\n", encoding="utf-8-sig")
    assert read_truth(path) == [("Q00001", "R000005")]


def test_another_encoding_is_named_with_the_file(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("Q00001,R000005\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"truth\.csv is no text in UTF-8 .*save it again"):
        read_truth(path)


def test_ids_are_written_as_they_are(tmp_path):
    rows = [("Q1", "R1"), ("=Q2", ""), ("a,b", "-3")]
    write_truth(tmp_path / "t.csv", rows)
    assert read_truth(tmp_path / "t.csv") == rows
