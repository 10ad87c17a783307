"""What the schemas of results are made of: numbers as they are saved, names, and their base."""

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field

from lorakappa.shared.schemas import Part

NON_FINITE = {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}
"""How `shared.records.write_json` writes what JSON has no numbers for."""


def _number(value: Any) -> Any:
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


Number = Annotated[float, BeforeValidator(_number)]
Known = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Names = Annotated[list[str], Field(min_length=1)]
Pair = Annotated[list[Known], Field(min_length=2, max_length=2)]


class Checked(Part):
    """Base of the schemas: a text is no number, and a number is no text."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
