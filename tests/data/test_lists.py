"""Lists of images: every way in which they are written is read, and every fault is told with its line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fedclip_plugin.data import Columns, ImageList, Row, write_list
from fedclip_plugin.data.lists import is_list, read_rows
from fedclip_plugin.errors import DataError

ALL = Columns(silo="silo", group="patient", split="fold")
ROWS = [("a.png", "cat"), ("sub/b.jpg", "dog")]

FORMS = {
    "commas": ("list.csv", "file,label\na.png,cat\nsub/b.jpg,dog\n"),
    "semicolons, as Excel writes them": ("list.csv", "file;label\r\na.png;cat\r\nsub/b.jpg;dog\r\n"),
    "tabs in a .csv": ("list.csv", "file\tlabel\na.png\tcat\nsub/b.jpg\tdog"),
    "a byte order mark": ("list.csv", "\ufefffile;label\r\na.png;cat\r\nsub/b.jpg;dog\r\n"),
    "tabs": ("list.TSV", "file\tlabel\na.png\tcat\nsub/b.jpg\tdog\n"),
    "other columns, another order": ("list.csv", "n,label,x,file\n1,cat,,a.png\n2,dog,,sub/b.jpg\n"),
    "quotes": ("list.csv", '"file","label"\n"a.png","cat"\n"sub/b.jpg",dog\n'),
    "spaces and empty lines": ("list.csv", '\n file , label\n\n a.png, cat \n,\nsub/b.jpg,"dog"\n\n'),
    "old line ends": ("list.csv", "file,label\ra.png,cat\rsub/b.jpg,dog\r"),
    "a plain list": ("list.txt", "a.png cat\n\nsub/b.jpg   dog\r\n"),
    "a plain list with tabs": ("list.lst", "a.png\tcat\nsub/b.jpg\tdog\n"),
}


@pytest.mark.parametrize(("name", "text"), FORMS.values(), ids=FORMS)
def test_every_form_reads_the_same(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert is_list(path)
    assert [(row.file, row.label) for row in read_rows(path, Columns(), tmp_path)] == ROWS


def written(tmp_path: Path, text: str | bytes, name: str = "list.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_are_kept_as_they_are_written(tmp_path: Path) -> None:
    text = (
        'file,label,patient,silo,fold\n"a, b\u00e9.png",007,P 1,north,TRAIN\n/abs/c.png,"say ""x""",P 2,south,Valid\n'
    )
    rows = read_rows(written(tmp_path, text), ALL, tmp_path)
    assert rows == (
        Row("a, b\u00e9.png", "007", "north", "P 1", "train", 2),
        Row("/abs/c.png", 'say "x"', "south", "P 2", "validation", 3),
    )


def test_labels_of_a_plain_list_have_spaces_after_a_tab(tmp_path: Path) -> None:
    found = read_rows(written(tmp_path, "my file.png\tpolar bear\n", "x.lst"), Columns(), tmp_path)
    assert [(row.file, row.label) for row in found] == [("my file.png", "polar bear")]
    found = read_rows(written(tmp_path, "my file.png bear\n", "x.lst"), Columns(), tmp_path)
    assert [(row.file, row.label) for row in found] == [("my file.png", "bear")]


HEADER = "file,label,silo,patient,fold\n"
FAULTS = {
    "nothing": (b"", Columns(), "names no image; it needs a line for each"),
    "a header only": ("file,label\n", Columns(), "names no image"),
    "no such column": (
        "filename,label\na.png,x\n",
        Columns(),
        r"has no column 'file' \(did you mean 'filename'\?\); its first line names \"filename\", \"label\"\. Name the "
        r"column of the images' files by --file-column, in a recipe by fedclip_args\.file_column",
    ),
    "two columns missing": ("a,b\nx,y\n", Columns(), r"(?s)no column 'file';.*no column 'label';"),
    "no header": ("a.png,cat\nb.png,dog\n", Columns(), r"no column 'file'; its first line names \"a.png\", \"cat\""),
    "one column twice": ("file,label,label\na,b,c\n", Columns(), "has 2 columns named 'label'"),
    "no label": (
        "file,label\na.png,cat\n\nb.png, \n",
        Columns(),
        r"list.csv, line 4: no label \(column label\); give one",
    ),
    "no file": ("file,label\n,cat\n", Columns(), r"line 2: no file \(column file\)"),
    "a short line": ("file,label\na.png\n", Columns(), "line 2: no label"),
    "too many values": (
        "file,label\na, b.png,cat\n",
        Columns(),
        "line 2: 3 values, and there are 2 columns; put a value",
    ),
    "an open quote": (
        'file,label\n"a.png,cat\nb.png,dog\n',
        Columns(),
        "line 2: unexpected end of data; double quotes",
    ),
    "a quote in the middle": ('file,label\na.png,cat\n"b"x.png,dog\n', Columns(), "line 3: .* double quotes go around"),
    "another encoding": (
        "file,label\na.png,cat\nb.png,ch\u00e2t\n".encode("latin1"),
        Columns(),
        "line 3: is not UTF-8",
    ),
    "a line break": ('file,label\na.png,"ca\nt"\n', Columns(), r"line 2: label \(column label\) .*ca\\nt.* line break"),
    "a file in two classes": (
        "file,label\na.png,cat\n./a.png,dog\n",
        Columns(),
        'line 3: "./a.png" is in line 2 already, and labelled "cat" there, "dog" here; keep one',
    ),
    "a file twice": ("file,label\na.png,cat\na.png,cat\n", Columns(), 'line 3: "a.png" is in line 2 already; keep one'),
    "an unknown split": (
        HEADER + "a,x,n,p,train\nb,x,n,p,eval\n",
        ALL,
        r"line 3: split \(column fold\) \"eval\" is not known; write train, val \(valid, validation\) or test",
    ),
    "no group": (HEADER + "a,x,n,,train\n", ALL, r"line 2: no group \(column patient\)"),
    "a silo that is no name": (
        HEADER + "a,x,n/m,p,train\n",
        ALL,
        r"line 2: silo \(column silo\) \"n/m\": .*without '/'",
    ),
    "two spellings": (
        "file,label\na,\u00e9\nb,e\u0301\n",
        Columns(),
        r"the labels 'e\\u0301' and '\\xe9' read the same",
    ),
    "three faults": (
        HEADER + "a,,n,p,train\nb,x,,p,test\nb,x,n,p,val\n",
        ALL,
        r"has 3 faults\n  line 2: no label .*\n  line 3: no silo .*\n  line 4: \"b\" is in line 3 already",
    ),
}


@pytest.mark.parametrize(("text", "columns", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_are_told_with_their_lines(tmp_path: Path, text: str | bytes, columns: Columns, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(written(tmp_path, text), columns, tmp_path)


def test_many_faults_are_cut_short(tmp_path: Path) -> None:
    text = "file,label\n" + "".join(f"{number}.png,\n" for number in range(50))
    with pytest.raises(DataError, match=r"has 50 faults\n(  line .*\n){20}  and 30 more$"):
        read_rows(written(tmp_path, text), Columns(), tmp_path)


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list .*x\.csv does not exist; check the path .*fedclip_args\.data_list"):
        read_rows(tmp_path / "x.csv", Columns(), tmp_path)
    with pytest.raises(DataError, match=r"a list of images ends in \.csv, \.tsv, \.txt, \.lst"):
        read_rows(written(tmp_path, "", "x.xlsx"), Columns(), tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"cannot read list .*pipe\.csv: .*named pipe"):
        read_rows(tmp_path / "pipe.csv", Columns(), tmp_path)
    with pytest.raises(DataError, match=r"a file and a label a line and no column 'fold'; write a \.csv"):
        read_rows(written(tmp_path, "a b\n", "x.txt"), Columns(split="fold"), tmp_path)


def a_list(tmp_path: Path, body: str, columns: Columns = ALL, header: str = HEADER) -> ImageList:
    return ImageList.read(written(tmp_path, header + body), columns)


def test_images_of_a_silo_in_the_order_of_the_list(tmp_path: Path) -> None:
    found = a_list(tmp_path, "b,dog,north,p1,test\nx,owl,south,p2,train\na,cat,north,p3,train\n")
    assert (found.silos(), found.labels()) == (("north", "south"), ("cat", "dog", "owl"))
    images = found.image_set("north", silo="north")
    assert (images.name, images.root, images.classes, images.files) == ("north", tmp_path, ("cat", "dog"), ("b", "a"))
    np.testing.assert_array_equal(images.labels, [1, 0])
    assert (images.groups.tolist(), images.splits.tolist()) == (["p1", "p3"], ["test", "train"])
    assert images.notes == ()
    everything = found.image_set("all", classes=["owl", "cat", "dog", "fox"])
    np.testing.assert_array_equal(everything.labels, [2, 0, 1])


def test_without_the_columns_there_are_no_groups_and_splits(tmp_path: Path) -> None:
    images = a_list(tmp_path, "a,x,n,p,q\nb,y,n,p,q\n", Columns()).image_set("all")
    assert images.groups is None
    assert images.splits is None


def test_another_root_is_where_the_files_are(tmp_path: Path) -> None:
    path = written(tmp_path, "file,label\na.png,x\n/abs/b.png,y\n")
    images = ImageList.read(path, root=tmp_path / "there").image_set("all")
    assert images.paths() == [tmp_path / "there/a.png", Path("/abs/b.png")]


def test_a_silo_that_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    found = a_list(tmp_path, "a,x,north,p,train\nb,y,south,p,train\n")
    with pytest.raises(
        DataError, match=r"has \"nort\" in column silo \(did you mean 'north'\?\); it has: north, south"
    ):
        found.image_set("nort", silo="nort")


def test_a_label_that_is_no_class_is_refused_with_its_line(tmp_path: Path) -> None:
    found = a_list(tmp_path, "a,dog,n,p,train\nb,dgo,n,q,train\nc,owl,n,q,train\n")
    with pytest.raises(
        DataError, match=r"n: list .*line 3: label \"dgo\" is not .*classes \(did you mean 'dog'\?\).*: dgo, owl\. The"
    ):
        found.image_set("n", ["dog", "cat"], "n")


def test_one_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all: list .* has one label only, \"x\" \(column label\)"):
        a_list(tmp_path, "a,x,n,p,train\n").image_set("all")


def test_missing_files_are_counted_where_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("/gone")
    found = a_list(tmp_path, "a,x,n,p,train\nsub\\b,y,n,q,train\nc,y,n,r,test\nlink,y,n,s,test\n")
    assert len(found.image_set("n")) == 4
    with pytest.raises(
        DataError,
        match=r"n: 2 of 4 files of list .* do not exist, the first in line 3: .*sub\\b; .*write them with /.*data_root",
    ):
        found.image_set("n", files_needed=True)


def test_groups_in_two_silos_are_said(tmp_path: Path) -> None:
    found = a_list(tmp_path, "a,x,n,p,train\nb,y,s,p,train\nc,y,s,q,test\nd,x,t,q,test\ne,x,t,r,test\n")
    assert found.divided("silo") == [("p", ("n", "s")), ("q", ("s", "t"))]
    assert found.divided("split") == []
    (note,) = found.image_set("s", silo="s").notes
    assert note.startswith("s: 2 groups (column patient) also in other silos or the target, such as p in n; what one")


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    rows = [Row('a, "b"\u00e9.png', "007", group="p;1"), Row("/abs/c.png", "\u00fcber", group="p2")]
    for name in ("x.csv", "x.TSV"):
        columns = write_list(tmp_path / name, rows)
        assert columns == Columns(group="group")
        found = read_rows(tmp_path / name, columns, tmp_path)
        assert [(row.file, row.label, row.group) for row in found] == [(r.file, r.label, r.group) for r in rows]
    assert write_list(tmp_path / "y.csv", [Row("a", "x")]) == Columns()
    assert (tmp_path / "y.csv").read_bytes() == b"file,label\na,x\n"


UNWRITABLE = {
    "no row": ([], "names no image"),
    "no label": ([Row("a", "")], "no label"),
    "twice": ([Row("a", "x"), Row("./a", "y")], "is in line 2 already"),
    "spaces": ([Row(" a", "x")], "would read as"),
    "a split that is spelt otherwise": ([Row("a", "x", split="val")], "would read as"),
    "some groups": ([Row("a", "x", group="p"), Row("b", "x")], "no group"),
    "no UTF-8": ([Row("a\udcff", "x")], "not valid UTF-8; rename it"),
}


@pytest.mark.parametrize(("rows", "message"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_would_not_read_back_is_not_written(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_list(tmp_path / "x.csv", rows)
    assert list(tmp_path.iterdir()) == []


def test_only_tables_are_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must end in \.csv or \.tsv"):
        write_list(tmp_path / "x.txt", [Row("a", "x")])
