"""Calibration data: every format, and one clear line for everything that is wrong with it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from graph_builder import Builder

from intaglio.quantizer.data import channels_last, open_data
from intaglio.quantizer.errors import CalibrationError
from intaglio.quantizer.ir import Graph
from intaglio.quantizer.ops.clip import ClipAttrs

X = np.arange(5 * 4 * 3 * 2, dtype=np.float32).reshape(5, 4, 3, 2)


def model(shape: tuple[int, ...] = (1, 4, 3, 2)) -> Graph:
    b = Builder()
    return b.graph(b.node("Clip", "y", [b.input("image", shape)], ClipAttrs(0.0, None)))


def read(path: Path, graph: Graph | None = None) -> tuple[np.ndarray, list[int | None]]:
    pairs = list(open_data(path, graph or model()).samples())
    return np.concatenate([sample[0] for sample, _ in pairs]), [label for _, label in pairs]


@pytest.mark.parametrize("key", ["image", "x", "anything"])
def test_npz_by_name_by_x_or_alone(tmp_path: Path, key: str) -> None:
    np.savez(tmp_path / "d.npz", **{key: X}, y=np.arange(5))
    values, labels = read(tmp_path / "d.npz")
    assert np.array_equal(values, X)
    assert labels == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("array", [np.asfortranarray(X), X.astype(np.uint8), X.reshape(5, -1), X[:, None]])
def test_npz_layouts_and_types(tmp_path: Path, array: np.ndarray) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=array)
    values, labels = read(tmp_path / "d.npz")
    assert np.array_equal(values, X)
    assert labels == [None] * 5


def test_npy_and_count(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", X)
    assert np.array_equal(read(tmp_path / "d.npy")[0], X)
    assert len(list(open_data(tmp_path / "d.npy", model()).samples(2))) == 2


def test_channels_first_is_turned_only_where_that_fits() -> None:
    first = X[0].transpose(2, 0, 1)
    assert np.array_equal(channels_last(first, (1, 4, 3, 2))[0], X[0])
    assert np.array_equal(channels_last(first[None], (1, 4, 3, 2))[0], X[0])
    square = np.arange(27).reshape(3, 3, 3)
    assert np.array_equal(channels_last(square, (1, 3, 3, 3))[0], square)


def test_several_inputs(tmp_path: Path) -> None:
    b = Builder()
    graph = b.graph(b.node("Add", "y", [b.input("a", (1, 2)), b.input("b", (1, 2))]))
    np.savez(tmp_path / "d.npz", a=np.zeros((3, 2)), b=np.ones((3, 2)))
    samples = [s for s, _ in open_data(tmp_path / "d.npz", graph).samples()]
    assert len(samples) == 3
    assert samples[2][1].tolist() == [[1.0, 1.0]]
    np.savez(tmp_path / "d.npz", a=np.zeros((3, 2)))
    with pytest.raises(CalibrationError, match="holds no array for input 'b'"):
        open_data(tmp_path / "d.npz", graph)
    np.savez(tmp_path / "d.npz", a=np.zeros((3, 2)), b=np.ones((2, 2)))
    with pytest.raises(CalibrationError, match=r"inputs of \[2, 3\] samples"):
        open_data(tmp_path / "d.npz", graph)


def test_csv_with_heading_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("a,b,c,label\n1,2,3,7\n\n4,5,6.5,8\n", encoding="utf-8")
    values, labels = read(path, model((1, 3)))
    assert values.tolist() == [[1, 2, 3], [4, 5, 6.5]]
    assert labels == [7, 8]
    path.write_text("1,2,3\n4,x,6\n", encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"line 2: is not numeric"):
        read(path, model((1, 3)))


def test_folder_of_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pip install pillow")
    for name, level in (("cat/a.png", 255), ("cat/b.png", 51), ("dog/c.bmp", 0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.new("L", (6, 8), level).save(tmp_path / name)
    graph = model((1, 4, 3, 1))
    pairs = list(open_data(tmp_path, graph, (-1.0, 1.0)).samples())
    assert [label for _, label in pairs] == [0, 0, 1]
    assert [s[0].shape for s, _ in pairs] == [(1, 4, 3, 1)] * 3
    np.testing.assert_allclose([s[0].mean() for s, _ in pairs], [1.0, -0.6, -1.0], atol=1e-12)
    with pytest.raises(CalibrationError, match="images for an input of shape"):
        open_data(tmp_path, model((1, 12)))
    (tmp_path / "dog" / "d.png").write_bytes(b"not an image")
    with pytest.raises(CalibrationError, match=r"d\.png: cannot be read"):
        read(tmp_path, graph)


def test_folder_of_arrays(tmp_path: Path) -> None:
    for i, row in enumerate(X):
        np.save(tmp_path / f"{i}.npy", row)
    assert np.array_equal(read(tmp_path)[0], X)


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[:0]}, "holds no samples"),
        ({"x": X[:, :2]}, r"sample 0: 'image' has shape \[2, 3, 2\]; the model wants \[4, 3, 2\]"),
        ({"x": np.where(X == 30, np.nan, X)}, "sample 1: 'image' holds NaN or infinity"),
        ({"x": np.where(X == 30, np.inf, X)}, "sample 1: 'image' holds NaN or infinity"),
        ({"x": np.float32(3)}, "is a single number"),
        ({"x": np.full(X.shape, "a")}, "holds <U1; give numbers"),
        ({"p": X, "q": X}, "holds no array for input 'image'; name one so; it holds p, q"),
        ({"x": np.array([None] * 5)}, "holds Python objects"),
    ],
)
def test_wrong_arrays_get_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = write_npz(tmp_path / "d.npz", **arrays)
    with pytest.raises(CalibrationError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_wrong_files_get_one_line(tmp_path: Path) -> None:
    good = write_npz(tmp_path / "good.npz", x=X).read_bytes()
    for name, content in {
        "empty.npz": b"",
        "cut.npz": good[: len(good) // 2],
        "text.npy": b"hello",
        "kind.txt": b"1",
        "binary.csv": b"\xff\xfe\x00",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CalibrationError) as error:
            read(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(CalibrationError, match="does not exist"):
        read(tmp_path / "none.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CalibrationError, match="holds no images"):
        read(tmp_path / "folder")


def test_every_damaged_npz_is_an_error_or_reads_as_reals(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "good.npz", x=X, y=np.arange(5))
    good = (tmp_path / "good.npz").read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / "bad.npz"
    for _ in range(400):
        data = bytearray(good)
        for at in rng.integers(0, len(data), 3):
            data[at] ^= int(rng.integers(1, 256))
        damaged.write_bytes(bytes(data))
        try:
            values, _ = read(damaged)
        except CalibrationError as error:
            assert "\n" not in str(error)
        else:
            assert np.all(np.isfinite(values))


def test_npz_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sample is there before the others were decompressed."""
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((200, 4, 3, 2, 1)))
    taken = 0
    original = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        nonlocal taken
        data = original(self, n)
        taken += len(data)
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    samples = open_data(tmp_path / "d.npz", model()).samples()
    next(samples)
    assert taken < 10 * 4 * 3 * 2 * 8
