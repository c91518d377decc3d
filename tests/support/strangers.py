"""Two hundred data sets as strangers have them: half in many dialects, of which the truth is known,
half wrong.

Everything is drawn from a seed. A good one says what must be read, a bad one what a message must
name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Row = tuple[str, tuple[float, ...]]  # the name of the class, and the sample as 0..1
SIZE = 8


@dataclass(frozen=True)
class Stranger:
    """A data set. `rows` is what must be read; where it is none, `place` is what the message must
    name."""

    name: str
    params: dict[str, Any]
    what: str
    rows: Sequence[Row] = ()
    place: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()  # what no message may repeat
    order: tuple[str, ...] = ()  # the classes, where their order is told
    tolerance: float = 1e-6


@dataclass
class Street:
    """Where they live: makes files below a folder."""

    folder: Path
    draw: np.random.Generator
    found: list[Stranger] = field(default_factory=list)

    def new(self, suffix: str = "") -> tuple[str, Path]:
        name = f"s{len(self.found):03}{suffix}"
        return name, self.folder / name

    def add(
        self, dataset: str, name: str, what: str, params: dict[str, Any] | None = None, **more: Any
    ) -> None:
        self.found.append(Stranger(dataset, {"path": name, **(params or {})}, what, **more))


def settle(folder: Path, seed: int = 0) -> list[Stranger]:
    """Write all two hundred."""
    street = Street(folder, np.random.default_rng(seed))
    for turn in range(33):
        good_arrays(street, turn)
        good_table(street, turn)
        good_pictures(street, turn)
    good_table(street, 33)
    assert len(street.found) == 100
    wrong = [*WRONG_ARRAYS, *WRONG_TABLES, *WRONG_PICTURES]
    for turn in range(100):
        wrong[turn % len(wrong)](street)
    return street.found


# --- arrays ---


def _images(street: Street, n: int, shape: tuple[int, ...]) -> np.ndarray:
    pixels: np.ndarray = street.draw.integers(0, 256, (n, *shape), dtype=np.uint8)
    pixels[0, :2] = 0
    pixels[1, :2] = 255
    return pixels


def _array_rows(images: np.ndarray, labels: np.ndarray) -> list[Row]:
    """Of images [N, C, H, W] in 0..255."""
    samples = (images.reshape(len(images), -1) / 255).tolist()
    return [
        (str(label), tuple(sample)) for label, sample in zip(labels.tolist(), samples, strict=True)
    ]


def good_arrays(street: Street, turn: int) -> None:
    n, classes = int(street.draw.integers(24, 60)), int(street.draw.integers(2, 6))
    codes = [
        np.arange(classes),
        np.arange(classes) + 1,
        np.arange(classes) * 7 + 3,
        np.arange(classes) * 10_000,
    ][turn % 4]
    labels = codes[np.arange(n) % classes]
    as_labels = [np.int64, np.int32, np.uint16, ">i8"][turn // 2 % 4]
    last = turn % 3 == 1
    shape = (
        [(9, 10), (1, 9, 10), (3, 9, 10)][turn % 3]
        if not last
        else [(9, 10, 1), (9, 10, 3)][turn % 2]
    )
    images = _images(street, n, shape)
    ordered = (
        images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2) if last else images
    )
    dtype = [None, np.float32, np.float64, ">f4", np.float16][turn % 5]
    given = images if dtype is None else (images / 255).astype(dtype)
    if turn % 7 == 2 and dtype == np.float64:
        given[1, 0] = 1.0000001
        ordered = (given if images.ndim == 4 else given[:, None]) * 255
        ordered = ordered.transpose(0, 3, 1, 2) if last else ordered
    if turn % 4 == 3:
        given = np.asfortranarray(given)
    names = [
        ("images", "labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ][turn % 2]
    column = labels.astype(as_labels)[:, None] if turn % 3 == 0 else labels.astype(as_labels)
    arrays = {names[0]: given, names[1]: column}
    rows = _array_rows(ordered, labels)
    if turn % 6 == 4:
        arrays |= {names[2]: given[:12], names[3]: column[:12]}
        rows += rows[:12]
    if turn % 5 == 0:
        arrays["notes"] = np.array(["x"], dtype="U3")
    if turn % 8 == 7:  # a table
        table = street.draw.random((n, 5))
        arrays = {"features": table, "labels": column}
        rows = [
            (str(label), tuple(row))
            for label, row in zip(labels.tolist(), table.tolist(), strict=True)
        ]
    name, path = street.new(".npz")
    (np.savez_compressed if turn % 2 else np.savez)(path, **arrays)
    order = tuple(str(code) for code in codes)
    street.add(
        "npz",
        name,
        f"arrays {turn}",
        rows=rows,
        order=order,
        tolerance=1e-3 if dtype == np.float16 else 1e-6,
    )


def _spoil(
    change: Callable[[Street, dict[str, np.ndarray]], tuple[str, ...]],
) -> Callable[[Street], None]:
    def made(street: Street) -> None:
        n = int(street.draw.integers(24, 60))
        arrays = {"images": _images(street, n, (9, 10)), "labels": np.arange(n) % 3}
        place = change(street, arrays)
        name, path = street.new(".npz")
        np.savez(path, **arrays)
        street.add("npz", name, f"arrays: {change.__name__}", place=(name, *place))

    return made


def _one_number(street: Street, arrays: dict[str, np.ndarray], value: float) -> tuple[str, ...]:
    images = arrays["images"] / 255
    index = tuple(int(street.draw.integers(0, side)) for side in images.shape)
    images[index] = value
    arrays["images"] = images
    return (f"images[{', '.join(map(str, index))}]",)


def nan(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    return _one_number(street, arrays, np.nan)


def infinite(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    return _one_number(street, arrays, -np.inf)


def beyond(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    return _one_number(street, arrays, 1.5)


def bytes_as_floats(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = arrays["images"].astype(np.float32)
    return "images[", "divide by 255"


def centred(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = arrays["images"] / 127.5 - 1
    return "images[", "(x + 1) / 2"


def normalised(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = (arrays["images"] / 255 - 0.5) / 0.25
    return "images[", "undo the normalisation"


def divided_twice(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = arrays["images"] / 255 / 255
    return "images", "twice"


def scaled_bytes(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = (arrays["images"] > 100).astype(np.uint8)
    return "images", "255"


def wide_integers(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = arrays["images"].astype(np.int64)
    return "images", "astype"


def flat(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = arrays["images"].reshape(len(arrays["images"]), -1)
    return "images", "[N, H, W]"


def either_end(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = _images(street, len(arrays["labels"]), (3, 9, 3))
    return "images", "channels"


def four_channels(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["images"] = _images(street, len(arrays["labels"]), (9, 10, 4))
    return "images", "alpha"


def one_hot(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["labels"] = np.eye(3, dtype=int)[arrays["labels"]]
    return "labels", "argmax"


def one_class(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["labels"] = np.full(len(arrays["labels"]), int(street.draw.integers(0, 9)))
    return "labels", "one class"


def unlabelled(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    place = int(street.draw.integers(0, len(arrays["labels"])))
    arrays["labels"][place] = -1
    return (f"labels[{place}]",)


def fractions(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["labels"] = arrays["labels"].astype(np.float32)
    return "labels", "astype(int)"


def words(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["labels"] = np.array(["cat", "dog", "cow"])[arrays["labels"]]
    return ("labels",)


def measured(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["labels"] = np.arange(len(arrays["labels"])) * 13
    return "labels", "measurement"


def too_few_labels(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["labels"] = arrays["labels"][:-1]
    return ("labels",)


def other_names(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays["pictures"] = arrays.pop("images")
    return "images", "pictures"


def other_test(street: Street, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    arrays |= {"test_images": arrays["images"][:12], "test_labels": arrays["labels"][:12].copy()}
    place = int(street.draw.integers(0, 12))
    arrays["test_labels"][place] = 9
    return (f"test_labels[{place}]",)


WRONG_ARRAYS = [
    _spoil(one)
    for one in (
        nan, infinite, beyond, bytes_as_floats, centred, normalised, divided_twice, scaled_bytes, wide_integers, flat,
        either_end, four_channels, one_hot, one_class, unlabelled, fractions, words, measured, too_few_labels,
        other_names, other_test,
    )
]  # fmt: skip


# --- tables ---


def _scaled(values: Sequence[float]) -> list[tuple[float, ...]]:
    low, high = min(values), max(values)
    return [((value - low) / ((high - low) or 1),) for value in values]


def _one_hot(values: Sequence[str]) -> list[tuple[float, ...]]:
    kinds = sorted({*values})
    return [tuple(float(value == kind) for kind in kinds) for value in values]


def _written(value: float, decimal: str, thousands: str) -> str:
    text = f"{value:,.2f}"
    return text.replace(",", "_").replace(".", decimal).replace("_", thousands)


def good_table(street: Street, turn: int) -> None:
    n = int(street.draw.integers(30, 60))
    delimiter = [",", ";", "\t", "|"][turn % 4]
    decimal, thousands = [(".", ""), (",", "."), (".", ","), (",", ""), (".", "'"), (",", " ")][
        turn % 6
    ]
    amounts = [round(float(v), 2) for v in street.draw.uniform(-5000, 90_000, n)]
    ages = [int(v) for v in street.draw.integers(0, 100, n)]
    small = [float(f"{v:.3e}") for v in street.draw.uniform(1e-9, 1e-3, n)]
    kinds = [
        ["NA", "DE", "FR"],
        ["5E2", "6E1", "1E5"],
        ["1_2", "2_1", "3"][:2],
        ["rot", "grün", "ブルー"],
        ["001", "010"],
    ][turn % 5]
    kind = [kinds[int(v)] for v in street.draw.integers(0, len(kinds), n)]
    classes = [
        ["no", "yes"],
        ["1", "2", "10"],
        ["class 1", "class 2", "class 10"],
        ["False", "True"],
        ["-1", "1"],
    ][turn % 5]
    target = [classes[i % len(classes)] for i in range(n)]
    columns = {
        "amount": [_written(v, decimal, thousands) for v in amounts],
        "age": [str(v) for v in ages],
        "small": [f"{v:.3e}".replace(".", decimal) for v in small],
        "kind": kind,
    }
    parts = [_scaled(amounts), _scaled(ages), _scaled(small), _one_hot(kind)]
    params: dict[str, Any] = {"target": "outcome", "delimiter": delimiter, "missing": []}
    params |= {"decimal": decimal} if decimal == "," or turn % 2 else {}
    params |= {"thousands": thousands} if thousands else {}
    if turn % 3 == 0:
        columns["customer"] = [f"k-{i:04}" for i in range(n)]
        params |= {"id": "customer"} if turn % 2 else {"drop": ["customer"]}
    if turn % 4 == 1:
        ward = [str(int(v)) for v in street.draw.integers(1, 4, n)]
        columns["ward"] = ward
        parts.append(_one_hot(ward))
        params["categorical"] = ["ward"]
    names = [*columns, "outcome"]
    quote = turn % 2 == 1 or decimal == delimiter or thousands == delimiter

    def cell(text: str) -> str:
        return f'"{text}"' if quote or delimiter in text else f" {text} " if turn % 5 == 2 else text

    lines = [delimiter.join(names)]
    lines += [
        delimiter.join(cell(v) for v in row) for row in zip(*columns.values(), target, strict=True)
    ]
    if turn % 4 == 3:
        lines.insert(5, "")
    body = ("\r\n" if turn % 3 == 1 else "\n").join([*lines, ""])
    name, path = street.new(".csv")
    path.write_bytes(body.encode("utf-8-sig" if turn % 2 else "utf-8"))
    rows = [(label, sum(part, ())) for label, *part in zip(target, *parts, strict=True)]
    street.add("csv", name, f"table {turn}", params, rows=rows, order=tuple(classes))


def _table(street: Street) -> tuple[dict[str, list[str]], int]:
    """Columns, and a row that is to be spoilt."""
    n = int(street.draw.integers(66, 90))
    columns = {
        "age": [str(int(v)) for v in street.draw.integers(18, 90, n)],
        "city": [["Aarau", "Basel", "Chur"][int(v)] for v in street.draw.integers(0, 3, n)],
        "outcome": [["no", "yes"][i % 2] for i in range(n)],
    }
    return columns, int(street.draw.integers(2, n))


def _spoil_table(
    change: Callable[[dict[str, list[str]], int], tuple[str, ...]],
    delimiter: str = ",",
    **params: Any,
) -> Callable[[Street], None]:
    def made(street: Street) -> None:
        columns, row = _table(street)
        before = {value for values in columns.values() for value in values}
        place = change(columns, row)
        secret = {
            value
            for values in columns.values()
            for value in values
            if len(value) > 3 and value not in SPOKEN
        }
        lines = [
            delimiter.join(columns),
            *(delimiter.join(f'"{v}"' for v in r) for r in zip(*columns.values(), strict=True)),
        ]
        name, path = street.new(".csv")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        told = {"target": "outcome", "delimiter": delimiter, **params}
        street.add(
            "csv",
            name,
            f"table: {change.__name__}",
            told,
            place=(name, *place),
            secret=(*sorted(secret | before - SPOKEN),),
        )

    return made


# too common not to stand in a message by chance
SPOKEN = {"no", "yes", "NULL", *map(str, range(100))}


def _set(column: str, text: str) -> Callable[[dict[str, list[str]], int], tuple[str, ...]]:
    def change(columns: dict[str, list[str]], row: int) -> tuple[str, ...]:
        columns[column][row] = text
        return f"line {row + 2}", f"'{column}'"

    change.__name__ = f"{text!r} in {column}"
    return change


def _all(
    column: str, write: Callable[[int, str], str], *place: str
) -> Callable[[dict[str, list[str]], int], tuple[str, ...]]:
    def change(columns: dict[str, list[str]], row: int) -> tuple[str, ...]:
        columns[column] = [write(i, value) for i, value in enumerate(columns[column])]
        return f"'{column}'", *place

    change.__name__ = f"{column} {place}"
    return change


WRONG_TABLES = [
    *(_spoil_table(_set("age", text)) for text in ("forty", "4O", "1_2", "5E2", "007", "NA", "", "?", "inf", "12 %")),
    *(_spoil_table(_set("age", text)) for text in ("$40", "4,5", "1,234", "1'000", "٤٢", "nan", "--")),
    *(_spoil_table(_set("city", text)) for text in ("4711", "12.5", "basel", "Ba\u0301sel ", "CHUR", "n/a"))
]  # fmt: skip
# what is nearly the same must be there in one form already
WRONG_TABLES[20] = _spoil_table(_set("city", "Basel".swapcase()))
WRONG_TABLES += [
    *(_spoil_table(_set("outcome", text)) for text in ("Yes", "NO", "1", "NULL")),
    _spoil_table(_all("age", lambda i, v: f"{v},5"), ";"),
    _spoil_table(_all("age", lambda i, v: ["900", "1.234", "5.000"][i % 3])),
    _spoil_table(_all("age", lambda i, v: f"{v}%")),
    _spoil_table(_all("outcome", lambda i, v: str(1000 + 37 * i), "measurement")),
    _spoil_table(_all("outcome", lambda i, v: f"{i / 8}", "measurement")),
    _spoil_table(_all("outcome", lambda i, v: f"person {i}", "row names")),
    _spoil_table(_all("outcome", lambda i, v: "alike", "2 to 1000 classes")),
    _spoil_table(_all("outcome", lambda i, v: ["1", "1.0", "2"][i % 3], "line 3")),
    _spoil_table(lambda columns, row: ("'nothing'", "age, city, outcome"), target="nothing"),
    _spoil_table(_all("city", lambda i, v: f"{v} {i} a")),
]


# --- pictures ---


def _shade(street: Street) -> int:
    return int(street.draw.integers(20, 236))


def _write_class(street: Street, folder: Path, n: int, turn: int) -> tuple[list[int], float]:
    folder.mkdir(parents=True)
    suffix = ["png", "bmp", "ppm", "webp", "jpg"][turn % 5]
    shades = [_shade(street) for _ in range(n)]
    for number, shade in enumerate(shades):
        size = [(8, 8), (24, 10), (9, 30)][turn % 3]
        picture = Image.new("RGB", size, (shade,) * 3)
        if suffix == "png":
            mode = ["RGB", "L", "RGBA", "LA", "P"][turn // 5 % 5]
            picture = (picture.convert("L") if mode == "P" else picture).convert(mode)
        options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
        if suffix == "jpg":
            exif = Image.Exif()
            exif[0x0112] = turn % 8 + 1
            options = {"exif": exif, "quality": 100}
        picture.save(folder / f"{number:03}.{suffix}", **options)
    return shades, 1.6 / 255 if suffix == "jpg" else 1e-6


CLUTTER = ("Thumbs.db", "desktop.ini", ".DS_Store", "._x.png")


def good_pictures(street: Street, turn: int) -> None:
    name, path = street.new()
    classes = [
        ["1", "2", "10"],
        ["cat", "dog"],
        ["café", "tea"],
        ["x2", "x10", "y"],
        ["bus", "train"],
    ][turn % 5]
    splits = ["train", "test"] if turn % 3 == 2 else [""]
    rows: list[Row] = []
    tolerance = 1e-6
    channels = 1 if turn % 2 else 3
    for split in splits:
        for kind in classes:
            shades, tolerance = _write_class(
                street, path / split / kind, int(street.draw.integers(6, 12)), turn
            )
            rows += [(kind, (shade / 255,) * (channels * SIZE * SIZE)) for shade in shades]
            if turn % 4 == 0:
                for clutter in CLUTTER:
                    (path / split / kind / clutter).write_bytes(b"x")
        if turn % 4 == 1:
            (path / split / "__MACOSX").mkdir()
    params: dict[str, Any] = {"size": SIZE, "grey": turn % 2 == 1}
    if turn % 6 == 0:  # a transparent one, on grey
        Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(path / splits[0] / classes[0] / "zz.png")
        rows.append((classes[0], (128 / 255,) * (channels * SIZE * SIZE)))
        params["background"] = "#808080"
    street.add(
        "image_folder",
        name,
        f"pictures {turn}",
        params,
        rows=rows,
        order=tuple(classes),
        tolerance=tolerance,
    )


def _spoil_folder(change: Callable[[Street, Path], tuple[str, ...]]) -> Callable[[Street], None]:
    def made(street: Street) -> None:
        name, path = street.new()
        for kind in ("cat", "dog"):
            _write_class(street, path / kind, 10, 0)
        place = change(street, path)
        street.add(
            "image_folder",
            name,
            f"pictures: {change.__name__}",
            {"size": SIZE},
            place=(name, *place),
        )

    return made


def _in_all(path: Path, body: Callable[[Path], object]) -> tuple[str, ...]:
    """Whichever split is looked at."""
    for file in sorted((path / "dog").iterdir()):
        body(file)
    return ("dog/0",)


def empty_class(street: Street, path: Path) -> tuple[str, ...]:
    (path / "cow").mkdir()
    return "cow", "empty"


def same_but_case(street: Street, path: Path) -> tuple[str, ...]:
    _write_class(street, path / "Dog", 10, 0)
    return "Dog", "dog"


def loose_picture(street: Street, path: Path) -> tuple[str, ...]:
    Image.new("L", (9, 9)).save(path / "x.png")
    return ("x.png",)


def deeper(street: Street, path: Path) -> tuple[str, ...]:
    _write_class(street, path / "dog" / "more", 3, 0)
    return ("dog/more",)


def deeper_still(street: Street, path: Path) -> tuple[str, ...]:
    (path / "all").mkdir()
    for kind in ("cat", "dog"):
        (path / kind).rename(path / "all" / kind)
    return "all", "set path"


def other_splits(street: Street, path: Path) -> tuple[str, ...]:
    for split, kind in (("train", "cat"), ("val", "dog")):
        (path / split).mkdir()
        (path / kind).rename(path / split / kind)
    return "train", "val"


def flat_splits(street: Street, path: Path) -> tuple[str, ...]:
    (path / "cat").rename(path / "train")
    (path / "dog").rename(path / "val")
    return "train", "val"


def text_file(street: Street, path: Path) -> tuple[str, ...]:
    return _in_all(path, lambda file: file.write_text("a note"))


def truncated(street: Street, path: Path) -> tuple[str, ...]:
    def cut(file: Path) -> None:
        Image.fromarray(street.draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file)
        file.write_bytes(file.read_bytes()[:-900])

    return _in_all(path, cut)


def transparent(street: Street, path: Path) -> tuple[str, ...]:
    return *_in_all(
        path, lambda file: Image.new("RGBA", (9, 9), (9, 9, 9, 99)).save(file)
    ), "background"


def animated(street: Street, path: Path) -> tuple[str, ...]:
    frames = [Image.new("RGB", (9, 9), (shade, 0, 0)) for shade in (9, 99)]
    return _in_all(path, lambda file: frames[0].save(file, save_all=True, append_images=frames[1:]))


def sixteen_bits(street: Street, path: Path) -> tuple[str, ...]:
    return _in_all(
        path, lambda file: Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(file)
    )


def link(street: Street, path: Path) -> tuple[str, ...]:
    (path / "dog" / "link.png").symlink_to(path / "cat" / "000.png")
    return ("link.png",)


WRONG_PICTURES = [
    _spoil_folder(one)
    for one in (
        empty_class, same_but_case, loose_picture, deeper, deeper_still, other_splits, flat_splits, text_file,
        truncated, transparent, animated, sixteen_bits, link,
    )
]  # fmt: skip
